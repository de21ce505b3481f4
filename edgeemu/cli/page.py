"""A page of lines and tables on a terminal or in a pipe. Control characters from files do not reach it."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from textwrap import fill
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len

from edgeemu.cli.columns import Fitted, fit, heading
from edgeemu.report.formats import Table
from edgeemu.report.printable import printable, printable_cell

if TYPE_CHECKING:
    from rich.console import Console


class Page:
    """Output of lines and tables: with colors and boxes on a terminal, as plain columns elsewhere."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.is_terminal = file.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")

    @cached_property
    def console(self) -> "Console":
        """Console of a terminal."""
        from rich.console import Console  # a pipe does without

        # It reads NO_COLOR, and also FORCE_COLOR, which must not make control codes go into a file.
        return Console(file=self.file, force_terminal=self.is_terminal, highlight=False, markup=False, emoji=False)

    def line(self, text: str = "", style: str = "") -> None:
        text = printable(text)
        if self.is_terminal:
            self.console.print(text, style=style, soft_wrap=True)  # the terminal breaks what is to be copied
        else:
            print(text, file=self.file, flush=True)

    def sentence(self, text: str) -> None:
        """Print a line of words. A terminal gets it in several, with the same indentation; no word is divided."""
        if self.is_terminal:
            indentation = text[: len(text) - len(text.lstrip())]
            text = fill(
                text,
                max(self.console.width, len(indentation) + 1),
                subsequent_indent=f"{indentation}  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        self.line(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], may_go: Sequence[str] = ()) -> None:
        """Print a `Table`. On a terminal, columns that it has no room for are left out, which a line below says."""
        table = Table(
            [printable_cell(text) for text in columns], [[printable_cell(text) for text in row] for row in rows], may_go
        )
        if self.is_terminal:
            self._fitted(table, fit(table, self.console.width))
        else:
            self._plain(table)

    def _fitted(self, table: Table, fitted: Fitted) -> None:
        if len(fitted.places) == 1 < len(table.columns):  # there is hardly a terminal so narrow
            self._plain(table)
            return
        from rich.table import Table as Boxes

        boxes = Boxes(header_style="bold")
        for place, width in zip(fitted.places, fitted.widths, strict=True):
            title = table.columns[place]
            boxes.add_column(
                heading(title), justify="right" if title.startswith(">") else "left", width=width, overflow="fold"
            )
        for row in table.rows:
            boxes.add_row(*(row[place] for place in fitted.places))
        self.console.print(boxes)
        if fitted.left_out:
            self.sentence(f"not shown: {', '.join(fitted.left_out)}; a wider terminal has more, and --json all")

    def _plain(self, table: Table) -> None:
        for text in _plain_table(table.columns, table.rows):
            self.line(text)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [[heading(title) for title in columns], *rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        cells = []
        for title, text, width in zip(columns, line, widths, strict=True):
            padding = " " * (width - cell_len(text))
            cells.append(padding + text if title.startswith(">") else text + padding)
        yield "  ".join(cells).rstrip()
