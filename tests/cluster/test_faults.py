"""Random faults: a Poisson process with the rate that was asked for, and the same whoever asks."""

from itertools import islice, pairwise
from math import exp, isfinite, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.cluster.faults import Fault, FaultKind, RandomFaults

seeds = st.integers(0, 2**63 - 1)


def process(rate_per_s: float, seed: int) -> RandomFaults:
    return RandomFaults(Fault(FaultKind.REBOOT, (0,), for_s=1.0), rate_per_s, seed)


def waits_s(rate_per_s: float, seed: int, number: int) -> list[float]:
    return list(islice(process(rate_per_s, seed).waits_s(), number))


@given(st.floats(1e-9, 1e9), seeds)
def test_waits_are_times_and_only_the_rate_scales_them(rate_per_s: float, seed: int) -> None:
    waits = waits_s(rate_per_s, seed, 20)
    assert all(isfinite(wait_s) and wait_s >= 0 for wait_s in waits)
    assert waits == pytest.approx([wait_s / rate_per_s for wait_s in waits_s(1.0, seed, 20)])
    assert waits == waits_s(rate_per_s, seed, 25)[:20]


@given(seeds, st.lists(st.integers(0, 1), max_size=30))
def test_whoever_asks_in_whatever_order_gets_the_same(seed: int, order: list[int]) -> None:
    both = [process(2.0, seed).waits_s(), process(2.0, seed ^ 1).waits_s()]
    found: list[list[float]] = [[], []]
    for which in order:
        found[which].append(next(both[which]))
    assert found == [waits_s(2.0, seed ^ which, len(found[which])) for which in (0, 1)]


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_waits_are_exponential_and_independent(seed: int) -> None:
    n, rate = 5000, 5 / 3600
    waits = waits_s(rate, seed, n)
    ranks = [1 - exp(-rate * wait_s) for wait_s in sorted(waits)]  # uniform
    assert max(abs(rank - (i + 0.5) / n) for i, rank in enumerate(ranks)) < 1.7 / n**0.5  # Kolmogorov, p = 0.006
    longer = [wait_s > log(2) / rate for wait_s in waits]  # than the median
    after_longer = sum(one and following for one, following in pairwise(longer))
    assert after_longer / n == pytest.approx(0.25, abs=0.025)
