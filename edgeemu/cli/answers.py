"""Answers of commands on standard output: a page of lines and tables, a JSON document, or tables for other programs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import Enum
from functools import wraps
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeemu.errors import RequestError

if TYPE_CHECKING:
    from typing import TextIO

    from edgeemu.cli.page import Page
    from edgeemu.report.formats import Table


class Form(Enum):
    """Form of an answer. With all but a page, everything else that a command says goes to standard error."""

    PAGE = ""
    JSON = "--json"
    CSV = "--csv"
    LATEX = "--latex"

    @property
    def beside(self) -> TextIO:
        """Where a command writes what is not the answer itself, such as the text of a run."""
        return sys.stdout if self is Form.PAGE else sys.stderr


_HELP = {
    Form.JSON: "Print one JSON document; everything else to standard error.",
    Form.CSV: "Print the tables as CSV, empty lines between them; everything else to standard error.",
    Form.LATEX: "Print the tables as tabular environments of LaTeX; everything else to standard error.",
}


def in_forms(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that answers with tables: options choose its parameter `form`, one of them at most."""
    given = inspect.signature(command, eval_str=True)
    options = {form: form.value.replace("--", "as_") for form in _HELP}

    @wraps(command)
    def called(**arguments: Any) -> None:
        asked = [form for form, name in options.items() if arguments.pop(name)]
        if len(asked) > 1:
            raise RequestError(f"choose one of {' and '.join(form.value for form in asked)}")
        command(**arguments, form=asked[0] if asked else Form.PAGE)

    parameters = [parameter for name, parameter in given.parameters.items() if name != "form"]
    for form, name in options.items():
        option = Annotated[bool, typer.Option(form.value, help=_HELP[form])]
        parameters.append(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=option))
    called.__signature__ = given.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    return called


def answer(document: Any, form: Form, show: Callable[[Page], None]) -> None:
    """Print the document as JSON, or let `show` write a page."""
    if form is Form.JSON:
        print_json(document)
        return
    from edgeemu.cli.page import Page
    from edgeemu.cli.table_pages import CsvPage, LatexPage

    show({Form.PAGE: Page, Form.CSV: CsvPage, Form.LATEX: LatexPage}[form](sys.stdout))


def only(table: Table) -> Callable[[Page], None]:
    """A page with one table and nothing else."""
    return lambda page: page.table(*table)


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    from edgeemu.report.run_directory import to_json

    print(to_json(document), flush=True)
