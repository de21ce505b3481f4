"""A page of lines and tables on a terminal or in a pipe. Control characters from files do not reach it."""

import os
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table

from edgeemu.report.printable import printable, printable_cell


class Page:
    """Output of lines and tables: with colors and boxes on a terminal, as plain columns elsewhere."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.is_terminal = file.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        # Console reads NO_COLOR, and also FORCE_COLOR, which must not make control codes go into a file.
        self.console = Console(file=file, force_terminal=self.is_terminal, highlight=False, markup=False, emoji=False)

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

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table. A column whose heading starts with ">" is aligned to the right."""
        columns = [printable_cell(text) for text in columns]
        rows = [[printable_cell(text) for text in row] for row in rows]
        if not self.is_terminal:
            for text in _plain_table(columns, rows):
                self.line(text)
            return
        table = Table(header_style="bold")
        for number, heading in enumerate(columns):
            # What a row is of stays whole, to be copied: other columns are narrowed before it.
            justify: JustifyMethod = "right" if heading.startswith(">") else "left"
            table.add_column(heading.removeprefix(">"), justify=justify, no_wrap=number == 0)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [[heading.removeprefix(">") for heading in columns], *rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        cells = []
        for heading, text, width in zip(columns, line, widths, strict=True):
            padding = " " * (width - cell_len(text))
            cells.append(padding + text if heading.startswith(">") else text + padding)
        yield "  ".join(cells).rstrip()
