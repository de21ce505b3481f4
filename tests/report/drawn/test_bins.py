"""Bins keep the sums, and the least and most, of what they stand for."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.report.drawn.bins import bins, busy_shares, quantiles

SPANS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 3)), min_size=1, max_size=30)


@given(SPANS, st.integers(1, 20))
def test_seconds_in_bins_are_those_of_the_intervals(spans: list[tuple[float, float]], number: int) -> None:
    begin_s = np.array([begin for begin, _ in spans])
    end_s = begin_s + np.array([width for _, width in spans])
    edges = bins(1.0, 9.0, number).edges
    by_hand = [
        sum(max(0.0, min(end, high) - max(begin, low)) for begin, end in zip(begin_s, end_s, strict=True))
        for low, high in pairwise(edges.tolist())
    ]
    np.testing.assert_allclose(busy_shares(begin_s, end_s, edges), by_hand, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), min_size=1, max_size=40))
def test_least_median_and_most(pairs: list[tuple[int, float]]) -> None:
    at, values = np.array([where for where, _ in pairs]), np.array([value for _, value in pairs])
    found = quantiles(at, values, 5)
    for number in range(5):
        mine = values[at == number]
        expected = [mine.min(), np.median(mine), mine.max()] if len(mine) else [np.nan] * 3
        np.testing.assert_allclose(found[number], expected)


def test_values_outside_are_in_the_ends() -> None:
    assert bins(0.0, 4.0, 4).of(np.array([-1.0, 0.0, 1.0, 3.9, 4.0, 9.0])).tolist() == [0, 0, 1, 3, 3, 3]
    assert bins(2.0, 2.0, 3).number == 3  # a run of one instant
