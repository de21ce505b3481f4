"""The cache grows without copying each step, and gives copies of its rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu_kernels.kvcache import KVCache


def rows(groups: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((2, groups, count, 4)).astype(np.float32))


@given(steps=st.lists(st.integers(1, 9), max_size=20), capacity=st.integers(0, 20))
def test_what_is_appended_is_there(steps: list[int], capacity: int) -> None:
    cache = KVCache(3, 4, capacity)
    parts = [rows(3, count, i) for i, count in enumerate(steps)]
    for k, v in parts:
        cache.append(k, v)
    assert cache.length == sum(steps) <= cache.capacity
    assert cache.nbytes_used == 2 * 3 * sum(steps) * 4 * 4
    if parts:
        np.testing.assert_array_equal(cache.keys(), np.concatenate([k for k, _ in parts], axis=1))
        np.testing.assert_array_equal(cache.values(), np.concatenate([v for _, v in parts], axis=1))


def test_growth_is_amortised() -> None:
    cache = KVCache(1, 4, 0)
    homes, copied = set(), 0
    for i in range(1000):
        before = cache.capacity
        cache.append(*rows(1, 1, i))
        if cache.capacity != before:
            copied += i
        homes.add(cache.capacity)
    assert len(homes) <= 8
    assert copied < 2 * 1000


def test_untouched_rows_cost_no_memory() -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident_bytes()
    cache = KVCache(8, 64, 200_000)  # 800 MB of room
    cache.append(np.ones((8, 5, 64), np.float32), np.ones((8, 5, 64), np.float32))
    assert resident_bytes() - before < 50e6


def test_a_copy_does_not_see_later_rows() -> None:
    cache = KVCache(2, 4, 8)
    cache.append(*rows(2, 3, 0))
    k, v = cache.take(1, 1, 3)
    np.testing.assert_array_equal(k, cache.keys()[1, 1:3])
    cache.keys()[...] = 0
    assert k.all()
    assert v.base is None


def test_rows_that_are_not_there_are_refused() -> None:
    cache = KVCache(2, 4, 8)
    cache.append(*rows(2, 3, 0))
    with pytest.raises(ValueError, match="rows 2:5 of a cache that holds 3"):
        cache.take(0, 2, 5)
