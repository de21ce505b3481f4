"""Levels of detail: many values as a few bins of equal width, so that pictures of long runs stay small. Pure."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.statistics import Floats

N_BINS = 200  # along the time of a run, or its tokens


class Bins(NamedTuple):
    """Bounds of bins: [n + 1], rising."""

    edges: Floats

    @property
    def number(self) -> int:
        return len(self.edges) - 1

    @property
    def middles(self) -> Floats:
        middles: Floats = (self.edges[1:] + self.edges[:-1]) / 2
        return middles

    def of(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the number of the bin of each value; those outside are in the first or the last."""
        found = np.searchsorted(self.edges, values, side="right") - 1
        return np.clip(found, 0, self.number - 1).astype(np.int64)


def bins(begin: float, end: float, number: int = N_BINS) -> Bins:
    """Divide what is between two values."""
    return Bins(np.linspace(begin, end if end > begin else begin + 1.0, number + 1))


def quantiles(at: NDArray[np.int64], values: Floats, number: int) -> Floats:
    """Return least, median and largest of the values in each bin, [number, 3]; NaN of a bin without any."""
    found = np.full((number, 3), np.nan)
    order = np.lexsort((values, at))
    present, begins, counts = np.unique(at[order], return_index=True, return_counts=True)
    ordered = values[order]
    ends = begins + counts - 1
    middle = (ordered[begins + (counts - 1) // 2] + ordered[begins + counts // 2]) / 2
    found[present] = np.stack([ordered[begins], middle, ordered[ends]], axis=1)
    return found


def busy_shares(begin_s: Floats, end_s: Floats, edges: Floats) -> Floats:
    """Return the seconds that intervals have in each bin, [n_bins]; several at once count each."""

    def before(instants_s: Floats) -> Floats:
        """Seconds from each instant to each edge after it, added up: [n_edges]."""
        at = np.searchsorted(edges, instants_s, side="left")
        number = np.cumsum(np.bincount(at, minlength=len(edges) + 1))[: len(edges)]
        total = np.cumsum(np.bincount(at, instants_s, minlength=len(edges) + 1))[: len(edges)]
        return np.asarray(number * edges - total, np.float64)

    return np.diff(before(begin_s) - before(end_s))
