"""Table that an interrupted comparison shows all the same: of policies that have ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeemu.cli.answers import Form, answer
from edgeemu.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeemu.cli.page import Page


@contextmanager
def kept_if_interrupted(document_of: Callable[[], dict[str, Any]], form: Form, which: str) -> Iterator[None]:
    """Show what an interrupted comparison has of policies that have ended: the exit shows it where that is JSON.

    `document_of` makes its document, with the policies that are shown; `which` says which these are.
    """
    from edgeemu.report.comparison import comparison_table

    def show(page: Page) -> None:
        page.line()
        page.table(*comparison_table(document))
        page.sentence(f"interrupted: only of {which}, {ended} of them")

    try:
        yield
    except Interrupted as interrupted:
        document = document_of()
        ended = sum(bool(row["runs"]) for row in document["policies"])
        if form is Form.JSON:
            interrupted.kept = document if ended else {}
        elif ended:
            answer(document, form, show)
        raise
