"""Widths of a table's columns where there is not room for all: columns are left out, and no cell is cut. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from edgeemu.report.formats import Table

SEPARATOR = 3  # between columns; there is one more character at the left
LEAST_OF_WORDS = 16  # a column of words is not made narrower than this


class Column(NamedTuple):
    """A column's place, the width that it takes at least, and that with which nothing in it is broken into lines."""

    place: int
    least: int
    most: int


class Fitted(NamedTuple):
    """Columns that there is room for, as places in the table; their widths; and the headings of the others."""

    places: list[int]
    widths: list[int]
    left_out: list[str]


def fit(table: Table, width: int) -> Fitted:
    """Fit a table into a width. Only the first column can be wider than that."""
    columns = [_column(table, place) for place in range(len(table.columns))]
    kept, order = list(columns), _order_of_leaving(table)
    while len(kept) > 1 and _width([column.least for column in kept]) > width:
        kept.remove(columns[order.pop(0)])
    gone = [heading(text) for place, text in enumerate(table.columns) if columns[place] not in kept]
    return Fitted([column.place for column in kept], _widths(kept, width), [text for text in gone if text])


def heading(text: str) -> str:
    """Heading of a column as it is shown."""
    return text.removeprefix(">")


def _order_of_leaving(table: Table) -> list[int]:
    """Places of the columns, those first that may go first; without the first column."""
    names = [heading(text) for text in table.columns]
    may_go = dict.fromkeys(table.may_go)  # each once
    first = [place for name in may_go for place, other in enumerate(names) if place and other == name]
    return [*first, *(place for place in reversed(range(1, len(names))) if place not in first)]


def _column(table: Table, place: int) -> Column:
    """Find the least and the most width: numbers and what a row is of are not broken, words are, and headings."""
    title, cells = table.columns[place], [row[place] for row in table.rows]
    most = max(map(cell_len, [heading(title), *cells]))
    longest = max((cell_len(cell) for cell in cells), default=0)
    if place and not title.startswith(">") and longest > LEAST_OF_WORDS:
        words = [word for cell in cells for word in cell.split() if not _is_address(word)]
        longest = max([LEAST_OF_WORDS, *map(cell_len, words)])
    return Column(place, max(longest, *(cell_len(word) for word in heading(title).split() or [""])), most)


def _is_address(word: str) -> bool:
    """Whether a word is the address of a page, which is broken anywhere: few columns of words have room for one."""
    return "/" in word and "." in word


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Give the columns what there is room for, to the narrowest of those that need more first."""
    widths = [column.least for column in columns]
    for _ in range(width - _width(widths)):
        needy = [number for number, column in enumerate(columns) if widths[number] < column.most]
        if not needy:
            break
        widths[min(needy, key=lambda number: widths[number])] += 1
    return widths


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + SEPARATOR * len(widths) + 1
