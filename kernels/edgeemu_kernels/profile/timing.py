"""Times of one piece of work, sampled on a host that does other things too. Knows numbers; no clock.

What disturbs a sample only makes it longer: another program in the caches, a guest's stolen time, an interrupt. So
samples far above the fast ones say nothing of the work, and are told instead of counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles
from typing import NamedTuple

OUTLIER = 1.1  # times a fast sample: what is above was disturbed
FAST_SHARE = 0.1  # of the samples are faster than the fast one


class Timing(NamedTuple):
    """Times of one piece of work: median and quartiles of the samples that count."""

    median_s: float
    low_s: float
    high_s: float
    samples: int
    outliers: int  # of them, not counted

    @property
    def spread(self) -> float:
        """Half of what the middle half of the samples spans, as a share of the median."""
        return (self.high_s - self.low_s) / 2 / self.median_s if self.median_s else 0.0

    def each(self, count: int) -> Timing:
        """Times of one of `count` equal parts of the work."""
        return self._replace(median_s=self.median_s / count, low_s=self.low_s / count, high_s=self.high_s / count)


def timing(times_s: Sequence[float]) -> Timing:
    """Median and quartiles of samples; those 10 % above the fastest tenth are outliers. At least one sample."""
    ordered = sorted(times_s)
    fast_s = ordered[int(FAST_SHARE * len(ordered))]
    counted = [time_s for time_s in ordered if time_s <= OUTLIER * fast_s]
    low_s, _, high_s = quantiles(counted, n=4, method="inclusive") if len(counted) > 1 else 3 * counted
    return Timing(median(counted), low_s, high_s, len(ordered), len(ordered) - len(counted))
