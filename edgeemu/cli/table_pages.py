"""Pages of which only the tables are printed, for other programs: CSV and LaTeX. Lines go to standard error."""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from edgeemu.cli.columns import heading
from edgeemu.cli.page import Page
from edgeemu.report.printable import printable, printable_cell

# What means something else to LaTeX, and what the fonts of its old encoding (OT1) have another sign for.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"${sign}$" for sign in "<>|"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # an option of the line before, at the beginning of one
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "µ": r"$\mu$",
    "∞": r"$\infty$",
}
_ESCAPED = str.maketrans(_LATEX)
_HYPHENS = re.compile("-(?=-)")


class _TablePage(Page):
    """Page whose lines are printed beside its tables."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._first = True

    def line(self, text: str = "", style: str = "") -> None:
        del style
        if text:
            print(printable(text), file=sys.stderr, flush=True)

    def sentence(self, text: str) -> None:
        self.line(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], may_go: Sequence[str] = ()) -> None:
        """Print all columns of a `Table`, an empty line between two tables."""
        del may_go
        if not self._first:
            print(file=self.file)
        self._first = False
        self._print(columns, [[printable_cell(text) for text in row] for row in rows])
        self.file.flush()

    def _print(self, columns: Sequence[str], rows: list[list[str]]) -> None:
        raise NotImplementedError


class CsvPage(_TablePage):
    """Page of tables as CSV (RFC 4180, with the newlines of Unix)."""

    def _print(self, columns: Sequence[str], rows: list[list[str]]) -> None:
        writer = csv.writer(self.file, lineterminator="\n")
        writer.writerow([heading(printable_cell(text)) for text in columns])
        writer.writerows(rows)


class LatexPage(_TablePage):
    """Page of tables as LaTeX that needs no package."""

    def _print(self, columns: Sequence[str], rows: list[list[str]]) -> None:
        for line in _latex([printable_cell(text) for text in columns], rows):
            print(line, file=self.file)


def _latex(columns: Sequence[str], rows: list[list[str]]) -> Iterator[str]:
    sides = "".join("r" if text.startswith(">") else "l" for text in columns)
    yield rf"\begin{{tabular}}{{{sides}}}"
    yield r"\hline"
    yield _row([heading(text) for text in columns])
    yield r"\hline"
    yield from map(_row, rows)
    yield r"\hline"
    yield r"\end{tabular}"


def _row(cells: Sequence[str]) -> str:
    """Line of a table; two hyphens in a cell do not become a dash."""
    text = " & ".join(_HYPHENS.sub("-{}", cell.translate(_ESCAPED)) for cell in cells)
    return rf"{text} \\"
