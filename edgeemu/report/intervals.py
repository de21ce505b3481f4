"""Confidence intervals of figures that were repeated with other random draws, by the bootstrap. Pure.

Efron, Tibshirani, "An introduction to the bootstrap", 1993: BCa intervals (chapter 14). The resamples come from one
seed: equal figures have equal intervals.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgeemu.report.formats import number_text

CONFIDENCE = 0.95
RESAMPLES = 9999
LEAST = 5  # values below which there is no interval: of three, one in four would miss what it should hold


class Interval(NamedTuple):
    """An estimate with its confidence interval; `low` and `high` are None where there are too few values."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def differs_from_zero(self) -> bool | None:
        """Whether zero is outside; None where that is not known."""
        return None if self.low is None or self.high is None else not self.low <= 0.0 <= self.high

    def text(self, digits: int) -> str:
        """Format it: `45.1 (44.2–46.0)`."""
        text = number_text(self.value, digits)
        if self.low is None or self.high is None or self.low == self.high:
            return text
        return f"{text} ({number_text(self.low, digits)}–{number_text(self.high, digits)})"


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent values, with its interval."""
    return _interval(lambda x, axis: np.mean(x, axis=axis), values)


def gap_interval(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Share by which the mean of values is above that of others, with its interval; the two are pairs."""
    return _interval(lambda x, y, axis: np.mean(x, axis=axis) / np.mean(y, axis=axis) - 1.0, values, others)


def _interval(statistic: Callable[..., Any], *samples: Sequence[float]) -> Interval:
    found = np.asarray(samples, np.float64)  # [samples, values]
    value = float(statistic(*found, axis=-1))
    if found.shape[1] < LEAST or not math.isfinite(value):
        return Interval(value)
    if all(np.all(sample == sample[0]) for sample in found):  # nothing varies
        return Interval(value, value, value)
    from scipy.stats import bootstrap  # 0.3 s: only where there is something to estimate

    with warnings.catch_warnings():  # where resamples hardly differ, BCa divides by zero; then there are percentiles
        warnings.simplefilter("ignore")
        for method in ("BCa", "percentile"):
            low, high = bootstrap(
                tuple(found),
                statistic,
                n_resamples=RESAMPLES,
                vectorized=True,
                paired=True,
                confidence_level=CONFIDENCE,
                method=method,
                random_state=np.random.default_rng(0),
            ).confidence_interval
            if math.isfinite(low) and math.isfinite(high):
                break
    return Interval(value, float(low), float(high))
