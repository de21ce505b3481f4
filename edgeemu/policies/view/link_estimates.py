"""Estimates of links from the messages that they carried: a weighted regression for each pair of devices. Pure.

What a message waited for others, in an interface that several links share, is not in its time. Of every message the
nominal time is known, and how much of it is delay. The regression says by how many times the delay
and the time per bit are longer than nominally: took / nominal = p * (delay's part) + q * (transmission's part).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.link_factors import NO_LINKS, NONE_DOUBTFUL, Doubtful, Factors, LinkFactors, codes_of, find
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.scaling import NO_NUMBER, PairNumbers, Scaling, in_order
from edgeemu.timeline.columns import table
from edgeemu.timeline.network import Transit

RIDGE = 1e-3  # weight of the nominal values in a link's estimate; measurements have weight 1
MOST_ORDERS = 16  # of messages that are kept
LEAST = 0.01  # least factor: no link is estimated to be more than a hundred times as fast as nominally


@dataclass(slots=True)
class _Pairs:
    """Pairs of devices that messages went between, and what measurements of them weigh."""

    room: int  # pairs that there was room for
    at: IntArray  # [n_pairs] numbers of the pairs
    new: IntArray  # which were not measured before, as an index of `at`
    which: IntArray  # [m] each message's pair, as an index of `at`
    number: IntArray  # [n_pairs] messages of each pair
    sums: IntArray  # [5 m] places of a message's terms among the sums
    turn: int | None = None  # decisions before all of them were measured last
    weights: "_MessageWeights | None" = None  # of measurements, where all were measured before the last decision too


class _MessageWeights(NamedTuple):
    """Weights of what was known before, and of messages; and the messages' terms of the sums."""

    kept: FloatArray  # [n_pairs]
    parts: FloatArray  # [2, m] of each part of the nominal time
    terms: FloatArray  # [5, m] the last two are those of a step


@dataclass(slots=True)
class _MessagesOfStep:
    """Messages of a step that tell something, by their ends: most steps have the same."""

    codes: IntArray  # [m] source * n_devices + target, ascending
    size_bytes: FloatArray  # [m]
    sheet_s: FloatArray  # [m] nominal time
    parts: FloatArray  # [2, m] of that: the delay's, and the transmission's
    pairs: _Pairs | None = None  # None: there are no messages


class MeasuredLinks(NamedTuple):
    """Links that were measured, and how many times as long as nominally a message takes on each."""

    factors: LinkFactors
    slow: FloatArray  # [n_pairs]

    @classmethod
    def of(cls, nominal: LinkMatrix, factors: LinkFactors, bits: float) -> Self:
        """Links with these factors, for a message of `bits`."""
        sheet = nominal.pairs_in_both(factors.sources, factors.targets)
        return cls(factors, _NominalTimes.of(*sheet, bits).slow(factors))


class _NominalTimes(NamedTuple):
    """Nominal times of a message on some links, [n_pairs] each."""

    delay_s: FloatArray
    bits_s: FloatArray
    total_s: FloatArray
    takes_time: bool  # on all of them

    @classmethod
    def of(cls, s_per_bit: FloatArray, delay_s: FloatArray, bits: float) -> Self:
        """Times of a message of `bits`: [n_pairs] each."""
        bits_s = bits * s_per_bit
        total_s = delay_s + bits_s
        return cls(delay_s, bits_s, total_s, bool((total_s > 0).all()))

    def slow(self, factors: LinkFactors) -> FloatArray:
        """How many times as long it takes with these factors: [n_pairs]."""
        now_s: FloatArray = factors.delay * self.delay_s + factors.per_bit * self.bits_s
        if self.takes_time:
            return now_s / self.total_s
        return np.divide(now_s, self.total_s, out=np.ones_like(now_s), where=self.total_s > 0)


class _Newest(NamedTuple):
    """Links that were measured since the decision before: mostly the same ones."""

    among: IntArray  # sources of all links
    seen: IntArray  # [n_pairs] which of them
    sources: IntArray  # [n_pairs] each
    targets: IntArray
    bits: float  # of the message
    nominal: _NominalTimes


class LinkEstimates:
    """Estimates of all pairs that were measured so far; `smoothing` is the weight of the newest measurement.

    Pairs have numbers, in the order in which they were measured first.
    """

    def __init__(self, nominal: LinkMatrix, smoothing: float, at_start: Factors) -> None:
        """`at_start`: links that are known to begin otherwise than nominally."""
        self.nominal = nominal
        self.smoothing = smoothing
        self._n_devices = nominal.delay_s.n_devices
        self._numbers = PairNumbers(self._n_devices)
        # [5, room] sums of: delay's part squared, of both parts' product, bits' part squared, of each part and took
        self._sums = np.zeros((5, 0))
        self._sheet = np.zeros((2, 0))  # [2, room] nominal seconds per bit, and delays
        self._codes, self._sources, self._targets, self._seen_at = self._pairs = np.zeros((4, 0), np.int64)
        self._turn = 0  # decisions so far
        first = LinkFactors.of(at_start)
        codes = first.sources * self._n_devices + first.targets
        order = codes.argsort()
        self._add_pairs(codes[order])
        delay, per_bit = first.delay[order], first.per_bit[order]
        one = np.ones_like(delay)
        # as if a message that was all delay had been measured before the run, and one that was all bits
        self._sums[:, : len(codes)] = one, 0.0 * one, one, delay, per_bit
        self._seen_at[:] = -1
        self._factors: LinkFactors | None = None  # None: something was measured since
        self._fits = np.ones((2, 0))  # the delay, and the time per bit, of pairs when they were fitted last
        self._unfitted = [np.arange(len(codes))]  # pairs that were measured since
        self._sent = _MessagesOfStep(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty((2, 0)))
        self._orders = dict[bytes, tuple[IntArray, _MessagesOfStep]]()  # by all of `Transit` but times
        self._newest: _Newest | None = None

    def _add_pairs(self, codes: IntArray) -> None:
        """Number pairs that were not measured before: [k]."""
        before, count = len(self._codes), len(self._codes) + len(codes)
        if count > self._sums.shape[1]:
            pairs, sums, sheet = np.zeros((4, 2 * count), np.int64), np.zeros((5, 2 * count)), np.zeros((2, 2 * count))
            pairs[:, :before], sums[:, :before] = self._pairs[:, :before], self._sums[:, :before]
            sheet[:, :before] = self._sheet[:, :before]
            self._pairs, self._sums, self._sheet = pairs, sums, sheet
        self._pairs[0, before:count], self._pairs[1:3, before:count] = codes, np.divmod(codes, self._n_devices)
        self._codes, self._sources, self._targets, self._seen_at = self._pairs[:, :count]
        self._sheet[:, before:count] = self.nominal.pairs_in_both(*self._pairs[1:3, before:count])
        self._numbers.add(codes, before)

    def observe(self, transits: Iterable[Transit]) -> None:
        """Add durations of messages from departure to arrival, without the time in queues."""
        columns = table(transits, len(Transit._fields))  # [5, n_transits]
        order = columns[:4].tobytes()
        chosen, sent = self._orders.get(order) or self._known(columns, order)
        if len(chosen):
            took_s = (columns[4] / columns[3])[chosen]
            self._add(sent, took_s / sent.sheet_s)

    def _known(self, columns: FloatArray, order: bytes) -> tuple[IntArray, _MessagesOfStep]:
        """Find what is known of messages by their ends, sizes and number, and which tell something: [5, n_transits]."""
        sources, targets = columns[:2].astype(np.int64)  # [n_transits] each
        codes, tells = sources * self._n_devices + targets, columns[2] > 0  # [n_transits] each
        chosen = in_order(codes, self._n_devices * self._n_devices)
        if not tells.all():  # one that takes no time has no information
            tells |= self.nominal.delay_s.pairs(sources, targets) > 0
            chosen = chosen[tells[chosen]]
        codes, size_bytes = codes[chosen], columns[2, chosen]  # [m] each
        alike = np.array_equal(codes, self._sent.codes)
        if not alike or not np.array_equal(size_bytes, self._sent.size_bytes):
            pairs = replace(self._sent.pairs, weights=None) if alike and self._sent.pairs else self._find(codes)
            s_per_bit, delay_s = self._sheet[:, pairs.at[pairs.which]]
            bits_s = 8.0 * size_bytes * s_per_bit
            sheet_s = bits_s + delay_s
            parts = np.empty((2, len(codes)))
            parts[0] = 1.0 - bits_s / sheet_s
            parts[1] = 1.0 - parts[0]
            self._sent = _MessagesOfStep(codes, size_bytes, sheet_s, parts, pairs)
        if len(self._orders) == MOST_ORDERS:
            del self._orders[next(iter(self._orders))]  # the oldest
        known = self._orders[order] = chosen, self._sent
        return known

    def _add(self, sent: _MessagesOfStep, took: FloatArray) -> None:
        """Add measurements of messages, each as a share of its nominal time: [m]."""
        pairs = sent.pairs
        if pairs is None or pairs.room != self._sums.shape[1]:
            pairs = sent.pairs = self._find(sent.codes)
        kept, parts, terms = self._weights(sent, pairs)
        self._sums[:, pairs.at] *= kept
        np.multiply(parts, took, out=terms[3:])
        np.add.at(self._sums.reshape(-1), pairs.sums, terms.reshape(-1))
        if pairs.turn != self._turn:
            self._seen_at[pairs.at] = pairs.turn = self._turn
        self._unfitted.append(pairs.at)
        self._factors = None

    def _weights(self, sent: _MessagesOfStep, pairs: _Pairs) -> _MessageWeights:
        """Weights of messages: what was measured long ago weighs little, and before the first nothing does."""
        lately = pairs.turn is not None and pairs.turn >= self._turn - 1
        if lately and pairs.weights is not None:
            return pairs.weights
        kept = (1.0 - self.smoothing) ** np.maximum(1, self._turn - self._seen_at[pairs.at])  # [n_pairs]
        if pairs.turn is None:
            kept[pairs.new] = 0.0
        by_part = ((1.0 - kept) / pairs.number)[pairs.which] * sent.parts  # [2, m]
        terms = np.empty((5, len(sent.codes)))
        terms[:2], terms[2] = by_part[0] * sent.parts, by_part[1] * sent.parts[1]
        weights = _MessageWeights(kept, by_part, terms)
        if lately:
            pairs.weights = weights
        return weights

    def _find(self, codes: IntArray) -> _Pairs:
        """Find the pairs of messages, which ascend, and add those that were not measured before: [m]."""
        begins = np.ones(len(codes), np.bool_)  # [m] whether another pair does
        begins[1:] = codes[1:] != codes[:-1]
        pairs, which = codes[begins], begins.cumsum() - 1  # [n_pairs], [m]
        at = self._numbers.of(pairs).astype(np.int64)
        new = at == NO_NUMBER  # [n_pairs]
        if new.any():
            self._add_pairs(pairs[new])
            at = self._numbers.of(pairs).astype(np.int64)
        room = self._sums.shape[1]
        places = np.arange(5)[:, None] * room + at[which]  # [5, m]
        return _Pairs(room, at, np.flatnonzero(new), which, np.bincount(which), places.reshape(-1))

    def next_turn(self) -> None:
        """Count a decision, before which some pairs were measured."""
        self._turn += 1

    def doubtful(self, worse: float, others: IntArray = NO_LINKS) -> Doubtful:
        """Links that were `worse` times as slow as nominal when they were measured, and others, by their codes [n]."""
        found = self.factors()
        slow = np.maximum(found.delay, found.per_bit) >= worse  # [n_pairs]
        if len(others):
            slow |= find(codes_of(found.sources, found.targets), others)[1]
        which = slow.nonzero()[0]
        if not len(which):
            return NONE_DOUBTFUL
        which = which[self._codes[which].argsort()]
        return Doubtful(codes_of(found.sources[which], found.targets[which]), self._turn - 1 - self._seen_at[which])

    def factors(self) -> LinkFactors:
        """Measured delay, and measured time per bit, as multiples of the nominal values."""
        if self._factors is None:
            self._factors = self._fitted()
        return self._factors

    def newest(self, bits: float) -> "MeasuredLinks":
        """Links that were measured since the decision before, and how slow they are for a message of `bits`."""
        found, seen = self.factors(), np.flatnonzero(self._seen_at == self._turn - 1)  # [n_pairs]
        known = self._newest
        same = known is not None and known.among is found.sources and known.bits == bits
        if known is None or not same or not np.array_equal(known.seen, seen):
            ends = found.sources[seen], found.targets[seen]
            known = _Newest(found.sources, seen, *ends, bits, _NominalTimes.of(*self._sheet_of(seen), bits))
            self._newest = known
        factors = LinkFactors(known.sources, known.targets, found.delay[seen], found.per_bit[seen])
        return MeasuredLinks(factors, known.nominal.slow(factors))

    def newest_codes(self) -> IntArray:
        """Codes of these links, ascending."""
        seen = np.flatnonzero(self._seen_at == self._turn - 1)
        return np.sort(codes_of(self._sources[seen], self._targets[seen]))

    def scaling(self, factors: LinkFactors) -> Scaling:
        """How to find the links that these are the factors of."""
        return Scaling(self._n_devices, factors.sources, factors.targets, self._numbers)

    def _sheet_of(self, numbers: IntArray) -> tuple[FloatArray, FloatArray]:
        """Nominal seconds per bit, and delays, of pairs: [k] -> [k] each."""
        return self._sheet[0, numbers], self._sheet[1, numbers]

    def _fitted(self) -> LinkFactors:
        fits = np.ones((2, len(self._codes)))
        fits[:, : self._fits.shape[1]] = self._fits
        for at in self._unfitted:
            sums = self._sums[:, at]  # [5, m]
            both, ridged = sums[1], sums + RIDGE
            a, _, c, *_ = ridged
            det = a * c - both * both
            fits[:, at] = np.maximum(LEAST, (ridged[2::-2] * ridged[3:] - both * ridged[:2:-1]) / det)  # [2, m]
        self._fits, self._unfitted = fits, []
        return LinkFactors(self._sources, self._targets, *fits)
