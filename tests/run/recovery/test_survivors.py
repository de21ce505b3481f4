"""Devices that go on together are all connected, and no other could go on with them."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from edgeemu.run.recovery.survivors import together

PAIRS = list(combinations(range(6), 2))


@given(st.sets(st.sampled_from(PAIRS)), st.sets(st.integers(0, 5), min_size=1), st.integers(0, 5))
def test_they_reach_each_other(broken: set[tuple[int, int]], devices: set[int], source: int) -> None:
    def reaches(a: int, b: int) -> bool:
        return (min(a, b), max(a, b)) not in broken

    group = together(devices, source, reaches)
    assert group
    assert group <= devices
    assert all(reaches(a, b) for a, b in combinations(sorted(group), 2))
    assert source in group or source not in devices


def test_of_a_partition_the_side_of_the_source_goes_on() -> None:
    sides = {0: "left", 1: "left", 2: "right", 3: "right", 4: "right"}
    assert together(range(5), 0, lambda a, b: sides[a] == sides[b]) == {0, 1}
    assert together(range(1, 5), 0, lambda a, b: sides[a] == sides[b]) == {2, 3, 4}  # the source is gone: the most


def test_one_link_down_costs_one_device() -> None:
    assert together(range(4), 0, lambda a, b: {a, b} != {1, 2}) == {0, 1, 3}
    assert together(range(4), 2, lambda a, b: {a, b} != {1, 2}) == {0, 2, 3}
    assert together([], 0, lambda *_: True) == frozenset()
