"""Rows as columns: arrays in place of a tuple for each row. Knows no table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray

RowT = TypeVar("RowT", bound=tuple[object, ...])
Numbers = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.bool_]


class Coded(NamedTuple):
    """Column of names, of which there are few: each row has the place of its name."""

    codes: IntArray  # [n_rows]
    names: Sequence[str]


Column = Numbers | Coded


class Columns(Sequence[RowT], Generic[RowT]):
    """Rows of one kind by column; a row is made when it is asked for. What is None in a row is NaN here."""

    def __init__(self, row: Callable[..., RowT], columns: Sequence[Column]) -> None:
        """`row` makes a row of its fields; `columns` are in their order, [n_rows] each."""
        self._row = row
        self.columns = columns

    def __len__(self) -> int:
        first = self.columns[0]
        return len(first.codes if isinstance(first, Coded) else first)

    def __iter__(self) -> Iterator[RowT]:
        return map(self._row, *map(_values, self.columns))

    @overload
    def __getitem__(self, at: int) -> RowT: ...
    @overload
    def __getitem__(self, at: slice) -> list[RowT]: ...
    def __getitem__(self, at: int | slice) -> RowT | list[RowT]:
        return list(self)[at]


def joined(pieces: Sequence[Columns[RowT]]) -> Columns[RowT]:
    """Put the rows of one kind together, in their order; there is at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    columns = zip(*(piece.columns for piece in pieces), strict=True)
    return Columns(pieces[0]._row, [_joined(column) for column in columns])


def _joined(pieces: Sequence[Column]) -> Column:
    coded = [piece for piece in pieces if isinstance(piece, Coded)]
    if not coded:
        column: Numbers = np.concatenate([piece for piece in pieces if not isinstance(piece, Coded)])
        return column
    if all(piece.names == coded[0].names for piece in coded):
        return Coded(np.concatenate([piece.codes for piece in coded]), coded[0].names)
    places: dict[str, int] = {}
    codes = [
        np.array([places.setdefault(name, len(places)) for name in piece.names], np.int64)[piece.codes]
        for piece in coded
    ]
    return Coded(np.concatenate(codes), list(places))


def _values(column: Column) -> list[object]:
    if isinstance(column, Coded):
        return [column.names[code] for code in column.codes.tolist()]
    values: list[object] = column.tolist()
    return [None if value != value else value for value in values]


def table(rows: Iterable[tuple[float, ...]] | NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Numbers of rows as columns: [width, n_rows]; an array is so already."""
    if isinstance(rows, np.ndarray):
        return rows
    if isinstance(rows, Columns):
        return np.array(rows.columns, np.float64)
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, width).T


class Groups(NamedTuple):
    """Groups of rows with one code, in the order of their first rows."""

    first: IntArray  # [n_groups] the group's first row
    which: IntArray  # [n_rows] each row's group

    @classmethod
    def of(cls, codes: IntArray, n_codes: int) -> "Groups":
        """Group rows by codes from 0 to `n_codes`: [n_rows]."""
        rows = np.arange(len(codes))
        begins = np.empty(n_codes, np.int64)  # [n_codes] of codes that occur: the first row
        begins[codes[::-1]] = rows[::-1]  # the last assignment of a code counts
        first = np.flatnonzero(begins[codes] == rows)
        number = np.empty(n_codes, np.int64)
        number[codes[first]] = np.arange(len(first))
        return cls(first, number[codes])

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of the values of each group, added in the order of rows: [n_groups]."""
        return np.bincount(self.which, values, minlength=len(self.first)).astype(np.float64)  # of no rows: integers

    def counts(self) -> IntArray:
        """Numbers of rows of each group: [n_groups]."""
        return np.bincount(self.which, minlength=len(self.first))
