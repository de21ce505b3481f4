"""Means, percentiles and exact sums of a run's figures. Knows numbers only."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ratio(numerator: float, denominator: float) -> float | None:
    """Divide; None where the denominator is not above 0."""
    return numerator / denominator if denominator > 0 else None


def average(values: Sequence[float]) -> float | None:
    """Mean of values; None of none."""
    return math.fsum(values) / len(values) if values else None


def statistics_ms(values_s: Sequence[float] | Floats) -> dict[str, float | None]:
    """Mean and percentiles in milliseconds; null without a value."""
    if not len(values_s):
        return dict.fromkeys(("mean", "p50", "p95", "p99"))
    ordered = np.sort(1000.0 * np.asarray(values_s, np.float64))  # [n]
    percentiles = {f"p{percent}": percentile(ordered, percent) for percent in (50, 95, 99)}
    return {"mean": math.fsum(ordered) / len(ordered), **percentiles}


def percentile(ordered: Sequence[float] | Floats, percent: float) -> float:
    """Percentile of sorted values, interpolated linearly (Hyndman and Fan's type 7, as NumPy's default)."""
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (position - below))


class BatchedPercentile:
    """Percentile of `count` unsorted values that arrive in batches, equal to `percentile`; 0 without a value.

    Only the values above the percentile are kept.
    """

    def __init__(self, count: int, percent: float) -> None:
        self._position = (count - 1) * percent / 100 if count else 0.0
        self._kept = count - math.floor(self._position)
        self._top: Floats = np.empty(0)  # [<= kept]

    def add(self, values: Floats) -> None:
        """Add a batch."""
        top = np.concatenate([self._top, values])
        if len(top) > self._kept:
            top = np.partition(top, len(top) - self._kept)[-self._kept :]
        self._top = top

    @property
    def value(self) -> float:
        """The percentile, when all values have been added."""
        if not self._kept:
            return 0.0
        top = np.sort(self._top)
        return float(top[0] + (top[min(1, self._kept - 1)] - top[0]) * (self._position - math.floor(self._position)))


class ExactSum:
    """Sum of values that arrive in batches; `value` is what `math.fsum` returns for all of them."""

    def __init__(self) -> None:
        self._parts: list[float] = []  # whose sum is exactly that of all values (Shewchuk 1997)

    def add(self, values: Iterable[float]) -> None:
        """Add a batch of finite values."""
        left = [*self._parts, *values]
        self._parts = []
        while part := math.fsum(left):
            self._parts.append(part)
            left.append(-part)

    @property
    def value(self) -> float:
        return math.fsum(self._parts)


def in_order(values: Floats) -> float:
    """Sum from the first value to the last, as `sum` of a list does."""
    return sum(values.data)  # whose items are Python's floats, one at a time
