"""Percentiles and means of a run's figures."""

import math
from collections.abc import Sequence


def ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def statistics_ms(values_s: Sequence[float]) -> dict[str, float | None]:
    """Mean and percentiles in milliseconds, null without a value."""
    if not values_s:
        return dict.fromkeys(("mean", "p50", "p95", "p99"))
    ordered = sorted(1000 * value for value in values_s)
    percentiles = {f"p{percent}": percentile(ordered, percent) for percent in (50, 95, 99)}
    return {"mean": math.fsum(ordered) / len(ordered), **percentiles}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of sorted values, interpolated linearly between neighbours (Hyndman and Fan's type 7, as NumPy's default)."""
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
