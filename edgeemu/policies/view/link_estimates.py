"""Estimates of links from the messages that they carried: a weighted regression for each pair of devices. Pure.

What a message waited for others, in an interface that several links share, is not in its time. Of every message the
nominal time is known, and how much of it is delay. The regression says by how many times the delay
and the time per bit are longer than nominally: took / nominal = p * (delay's part) + q * (transmission's part).
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_factors import Factors, LinkFactors, Pair
from edgeemu.policies.view.link_matrix import FloatArray, LinkMatrix, device_order
from edgeemu.timeline.columns import table
from edgeemu.timeline.network import Transit

RIDGE = 1e-3  # weight of the nominal values in a link's estimate; measurements have weight 1
LEAST = 0.01  # least factor: no link is estimated to be more than a hundred times as fast as nominally


class _Pairs(NamedTuple):
    """Pairs of devices that messages went between."""

    codes: IntArray  # [n_messages] of the messages, ascending: source * n_devices + target
    at: IntArray  # [n_pairs] the pair's place in the estimates
    which: IntArray  # [n_messages] each message's pair, as an index of `at`
    number: IntArray  # [n_pairs] messages of each pair


class _SentBefore(NamedTuple):
    """Messages of a step as they were sent: most steps have the same, in the same order."""

    columns: FloatArray  # [4, n_messages] as `Transit` has them: source, target, size, number
    chosen: IntArray  # [m] those that tell something, by their ends
    codes: IntArray  # [m] source * n_devices + target
    delay_part: FloatArray  # [m] of the nominal time
    sheet_s: FloatArray  # [m] nominal time


class MeasuredLinks(NamedTuple):
    """Links that were measured, and how many times as long as nominally a message takes on each."""

    factors: LinkFactors
    slow: FloatArray  # [n_pairs]

    @classmethod
    def of(cls, nominal: LinkMatrix, factors: LinkFactors, bits: float) -> Self:
        """Links with these factors, for a message of `bits`."""
        pairs = factors.sources, factors.targets  # [n_pairs] each
        delay_s, bits_s = nominal.delay_s.pairs(*pairs), bits * nominal.s_per_bit.pairs(*pairs)  # [n_pairs] each
        total_s = delay_s + bits_s
        now_s = factors.delay * delay_s + factors.per_bit * bits_s
        return cls(factors, np.divide(now_s, total_s, out=np.ones_like(now_s), where=total_s > 0))


class LinkEstimates:
    """Estimates of all pairs that were measured so far; `smoothing` is the weight of the newest measurement."""

    def __init__(self, nominal: LinkMatrix, smoothing: float, at_start: Factors) -> None:
        """`at_start`: links that are known to begin otherwise than nominally."""
        self.nominal = nominal
        self.smoothing = smoothing
        self._n_devices = nominal.delay_s.n_devices
        first = LinkFactors.of(at_start)
        codes = first.sources * self._n_devices + first.targets
        order = codes.argsort()
        self._codes = codes[order]  # [n_pairs] source * n_devices + target, ascending
        # [5, n_pairs] sums of: delay's part squared, of both parts' product, bits' part squared, of each part and took
        delay, per_bit = first.delay[order], first.per_bit[order]
        one = np.ones_like(delay)
        # as if a message that was all delay had been measured before the run, and one that was all bits
        self._sums = np.stack([one, 0.0 * one, one, delay, per_bit])
        self._unseen_turns = np.zeros(len(codes), np.int64)  # [n_pairs] decisions since the last measurement
        self._sent = self._known(np.empty((4, 0)))
        self._last = _Pairs(*(np.empty(0, np.int64) for _ in _Pairs._fields))  # most steps have messages of the same
        self._factors: LinkFactors | None = None  # None: something was measured since

    def observe(self, transits: Iterable[Transit]) -> None:
        """Add durations of messages from departure to arrival, without the time in queues."""
        columns = table(transits, len(Transit._fields))  # [5, n_transits]
        if not np.array_equal(columns[:4], self._sent.columns):
            self._sent = self._known(columns[:4])
        chosen, codes, delay_part, sheet_s = self._sent[1:]
        if len(codes):
            took_s = (columns[4] / columns[3])[chosen]
            self._add(codes, delay_part, took_s / sheet_s)

    def _known(self, columns: FloatArray) -> _SentBefore:
        """Find what is known of messages by their ends, sizes and number: [4, n_transits]."""
        ends, size_bytes = columns[:2].astype(np.int64), columns[2]  # [2, n_transits], [n_transits]
        delay_s = self.nominal.delay_s.pairs(*ends)  # [n_transits]
        chosen = np.flatnonzero((size_bytes > 0) | (delay_s > 0))  # one that takes no time has no information
        chosen = chosen[device_order(ends[1, chosen], self._n_devices)]
        chosen = chosen[device_order(ends[0, chosen], self._n_devices)]
        sources, targets = ends[:, chosen]  # [m] each
        bits_s = 8.0 * size_bytes[chosen] * self.nominal.s_per_bit.pairs(sources, targets)
        sheet_s = bits_s + delay_s[chosen]
        return _SentBefore(columns, chosen, sources * self._n_devices + targets, 1.0 - bits_s / sheet_s, sheet_s)

    def _add(self, codes: IntArray, delay_part: FloatArray, took: FloatArray) -> None:
        """Add measurements of pairs, each with the delay's part of the nominal time, and the share of it: [m] each.

        `codes` ascend.
        """
        new = None if np.array_equal(codes, self._last.codes) else self._find(codes)  # [n_pairs]
        _, pairs, which, number = self._last
        kept = (1.0 - self.smoothing) ** np.maximum(1, self._unseen_turns[pairs] + 1)  # long ago: it weighs little
        if new is not None:
            kept[new] = 0.0
        weight = 1.0 - kept  # [n_pairs]
        self._sums[:, pairs] *= kept
        self._unseen_turns[pairs] = -1  # until the next decision
        each, bits_part, at = (weight / number)[which], 1.0 - delay_part, pairs[which]  # [m] each
        by_delay, by_bits = each * delay_part, each * bits_part
        terms = (by_delay * delay_part, by_delay * bits_part, by_bits * bits_part, by_delay * took, by_bits * took)
        for sums, term in zip(self._sums, terms, strict=True):
            np.add.at(sums, at, term)
        self._factors = None

    def _find(self, codes: IntArray) -> NDArray[np.bool_]:
        """Find the pairs of messages, which ascend. Add those not measured before, and return which: [n_pairs]."""
        begins = np.append(True, codes[1:] != codes[:-1])  # [n_messages] whether another pair does
        pairs, which = codes[begins], begins.cumsum() - 1  # [n_pairs], [n_messages]
        number = np.bincount(which)  # [n_pairs]
        at = np.searchsorted(self._codes, pairs)  # [n_pairs]
        new: NDArray[np.bool_] = np.append(self._codes, -1)[at] != pairs  # [n_pairs]
        if new.any():
            self._codes = np.insert(self._codes, at[new], pairs[new])
            self._sums = np.insert(self._sums, at[new], 0.0, axis=1)
            self._unseen_turns = np.insert(self._unseen_turns, at[new], 0)
            at = np.searchsorted(self._codes, pairs)
        self._sent = self._known(np.empty((4, 0)))
        self._last = _Pairs(codes, at, which, number)
        return new

    def next_turn(self) -> None:
        """Count a decision, before which some pairs were measured."""
        self._unseen_turns += 1

    def doubtful(self, worse: float, others: Collection[Pair] = ()) -> dict[Pair, int]:
        """Decisions since the last measurement, of pairs that were `worse` times as slow as nominal, and of others."""
        found = self.factors()
        slow = np.maximum(found.delay, found.per_bit) >= worse  # [n_pairs]
        if others:
            slow |= np.isin(self._codes, [source * self._n_devices + target for source, target in others])
        which = slow.nonzero()[0]
        if not len(which):
            return {}
        pairs = zip(found.sources[which].tolist(), found.targets[which].tolist(), strict=True)
        return dict(zip(pairs, self._unseen_turns[which].tolist(), strict=True))

    def factors(self) -> LinkFactors:
        """Measured delay, and measured time per bit, as multiples of the nominal values."""
        if self._factors is None:
            self._factors = self._fitted()
        return self._factors

    def newest(self, bits: float) -> "MeasuredLinks":
        """Links that were measured since the decision before, and how slow they are for a message of `bits`."""
        found, seen = self.factors(), self._unseen_turns == 0  # [n_pairs]
        factors = LinkFactors(found.sources[seen], found.targets[seen], found.delay[seen], found.per_bit[seen])
        return MeasuredLinks.of(self.nominal, factors, bits)

    def _fitted(self) -> LinkFactors:
        delay_delay, delay_bits, bits_bits, delay_took, bits_took = self._sums
        a, c = delay_delay + RIDGE, bits_bits + RIDGE
        x, y = delay_took + RIDGE, bits_took + RIDGE
        det = a * c - delay_bits * delay_bits
        delay = np.maximum(LEAST, (c * x - delay_bits * y) / det)
        per_bit = np.maximum(LEAST, (a * y - delay_bits * x) / det)
        return LinkFactors(*np.divmod(self._codes, self._n_devices), delay, per_bit)
