"""Answers of commands on standard output: one JSON document, or a page of lines and tables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeemu.cli.page import Page
    from edgeemu.report.formats import Table


def answer(document: Any, as_json: bool, show: Callable[[Page], None]) -> None:
    """Print the document as JSON, or let `show` write a page."""
    if as_json:
        print_json(document)
        return
    from edgeemu.cli.page import Page

    show(Page(sys.stdout))


def only(table: Table) -> Callable[[Page], None]:
    """A page with one table and nothing else."""
    return lambda page: page.table(*table)


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    from edgeemu.report.run_directory import to_json

    print(to_json(document), flush=True)
