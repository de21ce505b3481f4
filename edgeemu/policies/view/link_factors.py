"""Measured delay, and measured time per bit, of some links, as multiples of the nominal values."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray

MOST_DEVICES = 2**31  # so that a pair of them is one number, its code
_NOMINAL = 1e-9  # a difference of factors that is rounding

Pair = tuple[int, int]  # source, target
Factors = Mapping[Pair, tuple[float, float]]
"""Measured delay, and measured time per bit, of some links: multiples of the nominal values."""


class LinkFactors(Factors):
    """Factors as arrays, [n_pairs] each; no pair is in them twice."""

    def __init__(
        self, sources: IntArray, targets: IntArray, delay: NDArray[np.float64], per_bit: NDArray[np.float64]
    ) -> None:
        self.sources = sources
        self.targets = targets
        self.delay = delay
        self.per_bit = per_bit

    @classmethod
    def of(cls, factors: Factors) -> "LinkFactors":
        """Any factors as arrays."""
        if isinstance(factors, cls):
            return factors
        pairs = np.array(list(factors), np.int64).reshape(-1, 2)
        values = np.array(list(factors.values()), np.float64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1], values[:, 0], values[:, 1])

    def other_than_nominal(self) -> "LinkFactors":
        """Only the pairs whose delay, or time per bit, is not nominal."""
        other = (np.abs(self.delay - 1.0) > _NOMINAL) | (np.abs(self.per_bit - 1.0) > _NOMINAL)  # [n_pairs]
        return self.some(other)

    def some(self, which: NDArray[np.bool_]) -> "LinkFactors":
        """Some of the pairs: [n_pairs]."""
        return LinkFactors(self.sources[which], self.targets[which], self.delay[which], self.per_bit[which])

    def slowest(self) -> float:
        """The largest factor; 1 if no link is slower than nominal."""
        return max(1.0, float(self.delay.max(initial=1.0)), float(self.per_bit.max(initial=1.0)))

    def __getitem__(self, pair: Pair) -> tuple[float, float]:
        source, target = pair
        found = np.flatnonzero((self.sources == source) & (self.targets == target))
        if not len(found):
            raise KeyError(pair)
        return float(self.delay[found[0]]), float(self.per_bit[found[0]])

    def __iter__(self) -> Iterator[Pair]:
        return zip(self.sources.tolist(), self.targets.tolist(), strict=True)

    def __len__(self) -> int:
        return len(self.sources)


class Doubtful(NamedTuple):
    """Links that were slow when they were measured, or are expected to become slow: [n] each."""

    links: IntArray  # their codes, ascending
    turns: IntArray  # decisions since the last measurement


NO_LINKS = np.empty(0, np.int64)
NONE_DOUBTFUL = Doubtful(NO_LINKS, NO_LINKS)


def codes_of(sources: IntArray, targets: IntArray) -> IntArray:
    """Links as one number each: [n], [n] -> [n]."""
    return sources * MOST_DEVICES + targets


def coded(pairs: Collection[Pair]) -> IntArray:
    """Codes of links, ascending: [n]."""
    return np.sort(codes_of(*np.array(list(pairs), np.int64).reshape(-1, 2).T))


def pairs_of(codes: IntArray) -> list[Pair]:
    """Links that have these codes: [n]."""
    sources, targets = np.divmod(codes, MOST_DEVICES)
    return list(zip(sources.tolist(), targets.tolist(), strict=True))


def find(codes: IntArray, known: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Where links are among known ones, which ascend, and whether they are there: [n], [m] -> [n] each."""
    at = np.searchsorted(known, codes)
    found: NDArray[np.bool_] = np.append(known, -1)[at] == codes  # no link is -1
    return at, found


def largest_log_change(before: Factors, after: Factors) -> float:
    """The largest logarithm of the ratio of two factors of a pair; a pair that is in one of them only had 1."""
    old, new = LinkFactors.of(before), LinkFactors.of(after)
    alike = old.sources is new.sources and old.targets is new.targets
    if alike or (np.array_equal(old.sources, new.sources) and np.array_equal(old.targets, new.targets)):
        ratios = np.concatenate([new.delay / old.delay, new.per_bit / old.per_bit])  # [2 n_pairs]
        return float(np.abs(np.log(ratios)).max(initial=0.0))
    pairs = np.concatenate([(old.sources, old.targets), (new.sources, new.targets)], axis=1)  # [2, n_old + n_new]
    _, which = np.unique(pairs, axis=1, return_inverse=True)
    largest = 0.0
    for befores, afters in ((old.delay, new.delay), (old.per_bit, new.per_bit)):
        logs = np.zeros(pairs.shape[1])  # [≥ number of pairs]
        np.add.at(logs, which[len(old) :], np.log(afters))
        np.subtract.at(logs, which[: len(old)], np.log(befores))
        largest = max(largest, float(np.abs(logs).max(initial=0.0)))
    return largest
