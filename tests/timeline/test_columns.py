"""Rows as columns, against the same rows as tuples and sums in a loop."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.timeline.columns import Coded, Columns, Groups, table


class Reading(NamedTuple):
    """A row with a name, a number, and a value that may be missing."""

    name: str
    number: int
    value: float | None


READINGS = [Reading("b", 3, 0.5), Reading("a", 1, None), Reading("b", 2, -1.0)]
CODED = Coded(np.array([1, 0, 1]), ["a", "b"])
COLUMNS = Columns(Reading, [CODED, np.array([3, 1, 2]), np.array([0.5, np.nan, -1.0])])


def test_columns_are_a_sequence_of_rows() -> None:
    assert list(COLUMNS) == READINGS
    assert len(COLUMNS) == 3
    assert (COLUMNS[1], COLUMNS[1:]) == (READINGS[1], READINGS[1:])
    assert [type(field) for field in COLUMNS[0]] == [str, int, float]


def test_numbers_of_rows_and_of_columns_make_the_same_table() -> None:
    rows = [(1, 2.5), (3, 4.0), (5, 0.1)]
    columns = Columns(lambda *row: row, [np.array([1, 3, 5]), np.array([2.5, 4.0, 0.1])])
    assert table(columns, 2).tolist() == table(rows, 2).tolist() == [[1, 3, 5], [2.5, 4.0, 0.1]]
    assert table([], 2).shape == (2, 0)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1e9, 1e9)), max_size=30))
def test_groups_are_in_the_order_of_their_first_rows_and_add_up_in_the_order_of_rows(
    rows: list[tuple[int, float]],
) -> None:
    sums, counts = defaultdict[int, float](float), defaultdict[int, int](int)
    for code, value in rows:
        sums[code] += value
        counts[code] += 1
    codes, values = np.array([code for code, _ in rows], np.int64), np.array([value for _, value in rows])
    groups = Groups.of(codes, 10)
    assert codes[groups.first].tolist() == list(sums)
    assert groups.sums(values).tolist() == list(sums.values())  # to the last bit
    assert groups.counts().tolist() == list(counts.values())
