"""Trials of slow links before blocks move over them: messages of one size do not tell a lost rate from a delay. Pure.

The vectors of a token measure the sum of a link's delay and of its time for few bits, and blocks are a thousand times
as large: where a link has become slow, a migration over it can take milliseconds or minutes. So a change that would
lose in the worst case, in which all that makes the link slow is its rate, waits for test messages of two sizes; so does
one over a link that no step measures, of a device of which another link has become slow: that can be the device's own
doing. What the messages tell is in the view for as long as the link is as slow as then.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Move, Placement, moves
from edgeemu.policies.search.change_rule import HORIZON
from edgeemu.policies.search.expected_gain import may_pay, pays_within
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_estimates import LEAST
from edgeemu.policies.view.link_factors import (
    MOST_DEVICES,
    Doubtful,
    LinkFactors,
    Pair,
    coded,
    codes_of,
    find,
    pairs_of,
)
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.timeline.network import Transit

PATIENCE = 16  # decisions until test messages that have not arrived are sent again; so long a trial counts
CHANGED = 2.0  # times as slow as then, or as quick, a link has to be tried again


@dataclass(slots=True)
class _FoundRate:
    """Rate and delay of a link that test messages have found."""

    s_per_bit: float
    delay_s: float
    turn: int  # the last decision before they arrived
    then_s: float | None = None  # time of a small message, as others estimated it then


class LinkTrials:
    """Links that were tried, and those that are being tried."""

    def __init__(self, nominal: LinkMatrix, bits: float, sizes_bytes: tuple[int, int]) -> None:
        """`bits`: of the smallest message that measures links. `sizes_bytes`: of test messages, ascending."""
        self._nominal, self._bits, self._sizes_bytes = nominal, bits, sizes_bytes
        self._tried: dict[Pair, _FoundRate] = {}
        self._awaited: dict[Pair, int] = {}  # and the decisions at which test messages were sent
        self._turn = 0  # decisions so far

    @property
    def under_way(self) -> bool:
        """Whether test messages are."""
        return bool(self._awaited)

    def taken(self, transits: Sequence[Transit], used: IntArray) -> Sequence[Transit]:
        """Note what has arrived of the test messages, and return what steps have not measured themselves.

        `used`: links that steps use, as codes, ascending: of these, test messages are left out. To whoever learns from
        messages of one size they look as if a link had changed.
        """
        sizes, awaited = self._sizes_bytes, self._awaited
        tests = [each for each in transits if each.size_bytes in sizes and each[:2] in awaited]
        if not tests:
            return transits
        arrived, known_s = set[Pair](), defaultdict[Pair, dict[int, float]](dict)
        for each in tests:
            known_s[each[:2]][each.size_bytes] = each.sum_s / each.messages
        for pair, took_s in known_s.items():
            if len(took_s) == len(self._sizes_bytes):  # else it is a step's message of such a size
                del self._awaited[pair]
                self._tried[pair] = self._trial(pair, took_s)
                arrived.add(pair)
        known = arrived.intersection(pairs_of(used))
        return [each for each in transits if not (each.size_bytes in sizes and each[:2] in known)]

    def _trial(self, pair: Pair, took_s: Mapping[int, float]) -> _FoundRate:
        """Rate and delay by test messages, from the seconds that each took, by size."""
        small, large = self._sizes_bytes
        nominal, _ = self._nominal_of(pair)
        s_per_bit = max(nominal, (took_s[large] - took_s[small]) / (8.0 * (large - small)))  # quicker, it is noise
        return _FoundRate(s_per_bit, max(0.0, took_s[small] - 8.0 * small * s_per_bit), self._turn)

    def corrected(self, view: ClusterView) -> ClusterView:
        """Return the view in which links that were tried have the rate and delay that were found."""
        self._turn += 1
        self._tried = {pair: each for pair, each in self._tried.items() if self._turn - each.turn <= PATIENCE}
        self._awaited = {pair: turn for pair, turn in self._awaited.items() if self._turn - turn <= PATIENCE}
        if not self._tried:
            return view
        observed = LinkFactors.of(view.observed)
        tried = coded(self._tried)
        codes = codes_of(observed.sources, observed.targets)
        order = codes.argsort()
        at, known = find(tried, codes[order])
        at = order[at[known]]  # [k] of the links that were tried
        delay, per_bit = observed.delay.copy(), observed.per_bit.copy()
        for which, pair in zip(at.tolist(), pairs_of(tried[known]), strict=True):
            trial, (s_per_bit, delay_s) = self._tried[pair], self._nominal_of(pair)
            now_s = delay[which] * delay_s + per_bit[which] * s_per_bit * self._bits
            trial.then_s = trial.then_s or now_s
            if not 1.0 / CHANGED < now_s / trial.then_s < CHANGED:
                del self._tried[pair]  # nobody knows what has changed
                continue
            if delay_s > 0:  # else no factor of it says what was found: all stays in the rate
                delay[which], per_bit[which] = max(LEAST, trial.delay_s / delay_s), trial.s_per_bit / s_per_bit
        return _with_factors(view, observed, LinkFactors(observed.sources, observed.targets, delay, per_bit), at)

    def to_try(
        self, view: ClusterView, doubtful: Doubtful, used: IntArray, old: Placement, new: Placement
    ) -> tuple[list[Pair], bool]:
        """Return links for test messages to be sent over, and whether a change has to wait for any that are under way.

        None, if the change pays even where all that makes links slow is their rate. `used`: links that are measured at
        every step, as codes.
        """
        if not len(doubtful.links):
            return [], False
        caches_only = view.weights_on_flash
        moved = [move for move in moves(old, new) if not caches_only or move.block.kind is Kind.HEAD]
        links = coded({(move.source, move.target) for move in moved} - self._tried.keys())
        times = self._times(LinkFactors.of(view.observed), doubtful, used, links)  # [k]
        slow = times > 1.0
        unknown = pairs_of(links[slow])
        worst = dict(zip(unknown, times[slow].tolist(), strict=True))
        if not unknown or _pays_anyway(self._at_worst(view, worst), old, new, moved):
            return [], False
        return [pair for pair in unknown if pair not in self._awaited], True

    def trying(self, pairs: Iterable[Pair]) -> None:
        """Note that test messages were sent over links."""
        self._awaited.update(dict.fromkeys(pairs, self._turn))

    def _times(self, observed: LinkFactors, doubtful: Doubtful, used: IntArray, links: IntArray) -> FloatArray:
        """How many times as long as nominally a small message can take on links: codes, which ascend, [k] -> [k].

        Of those that are not measured now, as on the slowest link of either end; 1 where nothing is in doubt.
        """
        codes = codes_of(observed.sources, observed.targets)  # [n_pairs]
        s_per_bit, delay_s = self._nominal.pairs_in_both(observed.sources, observed.targets)
        nominal_s = delay_s + s_per_bit * self._bits
        slow = (observed.delay * delay_s + observed.per_bit * s_per_bit * self._bits) / nominal_s
        slow[~find(codes, doubtful.links)[1]] = 1.0
        of_end = np.ones(self._nominal.delay_s.n_devices)
        np.maximum.at(of_end, observed.sources, slow)
        np.maximum.at(of_end, observed.targets, slow)
        source, target = np.divmod(links, MOST_DEVICES)
        order = codes.argsort()
        at, measured = find(links, codes[order])
        mine = np.where(measured, np.append(slow[order], 1.0)[at], 1.0)
        others = np.maximum(of_end[source], of_end[target])
        return np.where((mine > 1.0) | find(links, used)[1], mine, others)

    def _at_worst(self, view: ClusterView, times: Mapping[Pair, float]) -> ClusterView:
        """The view in which all that makes links slow is their rate. `times`: how slow they are for a small message."""
        worst: dict[Pair, tuple[float, float]] = {}
        for pair, slow in times.items():
            s_per_bit, delay_s = self._nominal_of(pair)
            delay, per_bit = view.observed.get(pair, (1.0, 1.0))
            bits_s = s_per_bit * self._bits
            worst[pair] = LEAST / delay, slow * (delay_s + bits_s) / bits_s / per_bit
        return view.relinked(view.links.scaled(worst))

    def _nominal_of(self, pair: Pair) -> tuple[float, float]:
        return self._nominal.s_per_bit.pair(*pair), self._nominal.delay_s.pair(*pair)


def _with_factors(view: ClusterView, before: LinkFactors, after: LinkFactors, at: IntArray) -> ClusterView:
    """The view with other factors of some links: [k] of those that were observed."""
    ratios = after.delay[at] / before.delay[at], after.per_bit[at] / before.per_bit[at]
    links = view.links.scaled(LinkFactors(before.sources[at], before.targets[at], *ratios))
    return view.relinked(links, observed=after) if len(at) else view


def _pays_anyway(view: ClusterView, old: Placement, new: Placement, moved: Iterable[Move]) -> bool:
    """Whether a change gains more than it takes, within as many steps as one looks ahead. `moved`: what links carry."""
    steps = min(view.remaining_tokens, HORIZON)
    return may_pay(view, old, new, moved, steps) and pays_within(view, old, new, steps)
