"""Pairs of devices are found alike in a table of all and among those that are known, however many devices there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view import scaling
from edgeemu.policies.view.scaling import PairNumbers, Scaling

N = 5
PAIRS = st.lists(st.integers(0, N * N - 1), unique=True, max_size=N * N)


def found(made: Scaling) -> list[object]:
    """All that a way to find pairs says of all pairs."""
    sources, targets = np.divmod(np.arange(N * N), N)
    single = [made.find_one(source, target) for source in range(N) for target in range(N)]
    rows, columns = ([each(device).tolist() for device in range(N)] for each in (made.from_source, made.to_target))
    return [made.find(sources, targets).tolist(), single, rows, columns]


def ways(codes: IntArray, numbers: PairNumbers | None = None) -> Scaling:
    return Scaling(N, *np.divmod(codes, N), numbers)


@QUICK
@given(PAIRS, st.integers(0, N * N))
def test_pairs_are_found_with_and_without_a_table(pairs: list[int], first: int) -> None:
    """Also by who knew the first ones of more."""
    codes = np.array(pairs, np.int64)
    known = codes[:first]
    expected = [known.tolist().index(code) if code in known else len(known) for code in range(N * N)]
    rows = [expected[source * N : source * N + N] for source in range(N)]
    for most in (N, N - 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scaling, "ALL_AT_ONCE", most)
            more = PairNumbers(N)
            more.add(known, 0)
            more.add(codes[first:], len(known))
            for numbers in (None, more):
                assert found(ways(known, numbers)) == [expected, expected, rows, np.transpose(rows).tolist()]


def test_a_row_of_a_large_cluster_takes_the_memory_of_a_row() -> None:
    n = 1_000_000
    made = Scaling(n, np.array([3, 7]), np.array([7, 3]))
    assert np.flatnonzero(made.from_source(3) == 0).tolist() == [7]
    assert np.flatnonzero(made.to_target(3) == 1).tolist() == [7]
