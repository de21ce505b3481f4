"""Groups of a placed layer that move from the devices that finish last to those that would finish first. Pure.

As in `search.head_split` a device's k-th group is a slot; the latest taken slots are exchanged for the earliest free
ones, as many as pay.
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.head_split import Finish, finish
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import ROUNDING, StepTimes


class Resplit(NamedTuple):
    """Another split of a placed layer, what a step gains by it, and how long its moves take."""

    counts: IntArray  # [n_devices]
    gain_s: float
    migration_s: float


class _Exchange(NamedTuple):
    """Moves in the order in which they pay: the m-th takes the m-th latest group to the m-th earliest free slot."""

    sources: IntArray  # [n_moves]
    targets: IntArray  # [n_moves]
    came: IntArray  # [n_moves] groups that have come to a move's target with it
    left_s: FloatArray  # [n_moves + 1] the latest group that has not moved, after 0, 1, … moves
    filled_s: FloatArray  # [n_moves] the latest slot that is filled, after 1, 2, … moves


class HeadsStage(NamedTuple):
    """The heads stage of a placed layer: what of it does not depend on memory."""

    source: int
    gather: int
    floor_s: float  # x alone from `source` to `gather`
    limit_s: float  # a slot that is later is of no use
    latest: int  # the device that finishes last
    latest_s: float


def stages(draft: PartialPlacement, costs: MoveCosts, tokens: float, layers: Iterable[int]) -> list[HeadsStage]:
    """The heads stages of some layers.

    Of the moves that pay, one is from the latest device, and the stage then takes as long as the slots that are filled.
    That gives a limit, which rules out most devices, and most layers, before memory is counted.
    """
    found = []
    for layer in layers:
        holders, held_s = draft.gathered(layer)
        source, gather, latest = draft.source(layer), int(draft.proj[layer]), int(held_s.argmax())
        device, latest_s = int(holders[latest]), float(held_s[latest])
        limit_s = latest_s - costs.quickest_s(Kind.HEAD, device) / tokens
        found.append(HeadsStage(source, gather, draft.times.hop_s(source, gather), limit_s, device, latest_s))
    return found


def could_gain(draft: PartialPlacement, least_s: float) -> bool:
    """Whether another split of the heads could shorten a step by so much, if there were memory for any.

    True without a look where layers are several, because their gains add up, and where messages keep processors busy.
    """
    times = draft.times
    if least_s <= 0.0 or len(draft.ffn) > 1 or times.keeps_busy:
        return True
    source, gather = draft.source(0), int(draft.proj[0])
    stage_s = times.heads_stage_of_s(source, gather, draft.gathered(0)[1])
    within = finish(times, source, gather).most_within((1 + ROUNDING) * (stage_s - least_s), times.n_groups)
    return bool(within.sum() >= times.n_groups)


def resplit(
    draft: PartialPlacement, layer: int, stage: HeadsStage, costs: MoveCosts, tokens: float, *, around: bool
) -> Resplit:
    """Move groups of a placed layer from the latest devices to the earliest, as many as gain most over `tokens` steps.

    The gain is net of the migration. `draft.room` can count more than `draft.groups`: what is leaving still is there.
    `around`: where no moves pay, and the latest device reaches the earliest only over a slow link, such are left out.
    """
    times, counts = draft.times, draft.groups[layer]
    source, gather, floor_s, limit_s, latest, latest_s = stage
    if limit_s <= floor_s:
        return Resplit(counts, 0.0, 0.0)
    lines = finish(times, source, gather)
    next_s = lines.at(counts + 1, slice(None))  # [n_devices] with one more group on each
    spare = _spare_devices(next_s, draft.room.group_fits(layer), limit_s, times.n_groups)  # [s]
    if not len(spare):
        return Resplit(counts, 0.0, 0.0)
    better = _moved_to(spare, draft, layer, stage, lines, costs, tokens)
    bits = costs.link_bits[Kind.HEAD]
    if better.gain_s > 0 or not bits or not around:
        return better
    sent_s = costs.prices.links.row(latest, bits)[spare]  # [s]
    reached = tokens * (latest_s - np.maximum(floor_s, next_s[spare])) > sent_s  # [s]
    if reached[next_s[spare].argmin()] or not reached.any():
        return better
    return _moved_to(spare[reached], draft, layer, stage, lines, costs, tokens)


def _moved_to(
    spare: IntArray,
    draft: PartialPlacement,
    layer: int,
    stage: HeadsStage,
    lines: Finish,
    costs: MoveCosts,
    tokens: float,
) -> Resplit:
    """Move groups from the latest devices to some that have room, the earliest first."""
    counts = draft.groups[layer]
    takes = np.zeros(len(counts), np.bool_)
    takes[spare] = True
    chosen = (takes | (counts > 0)).nonzero()[0]  # [m]
    prices = _PricesOfSlots.of(draft.times, stage.source, stage.gather, lines, chosen)
    extra = np.where(takes[chosen], draft.room.groups_room(layer, chosen), 0)  # [m]
    exchange = _exchange(prices, counts[chosen], extra, stage.limit_s)
    return _best_number_of_moves(costs, exchange, counts, stage.floor_s, tokens)


def _spare_devices(next_s: FloatArray, fits: NDArray[np.bool_], limit_s: float, n_groups: int) -> IntArray:
    """The earliest devices, at most n_groups, where one more group would finish before the limit and fits.

    `next_s`: when it would; `fits`: whether it does. [n_devices] each.
    """
    spare = ((next_s < limit_s) & fits).nonzero()[0]
    if len(spare) > n_groups:
        spare = spare[next_s[spare].argpartition(n_groups - 1)[:n_groups]]
    return spare


class _PricesOfSlots(NamedTuple):
    """`slot_prices` of single slots, each given by its number k and the place of its device among some devices."""

    devices: IntArray  # [m]
    lines: Finish  # of these, [m] each
    source: int  # place of the device with x, whose outputs wait for x to leave; -1: none does
    bits: tuple[float, float]  # over the link from there to proj: fixed, and of each group
    link_s: tuple[float, float]  # of that, for each bit, and its delay

    @classmethod
    def of(cls, times: StepTimes, source: int, gather: int, lines: Finish, chosen: IntArray) -> Self:
        """Make those of devices, chosen of all that `lines` has: [m]."""
        here = (chosen == source).nonzero()[0].tolist() if source != gather else []
        bits = times.hidden_bits + times.attention_fixed_bits, times.attention_slope_bits
        link_s = times.links.s_per_bit.pair(source, gather), times.links.delay_s.pair(source, gather)
        return cls(chosen, Finish(*(line[chosen] for line in lines)), here[0] if here else -1, bits, link_s)

    def at(self, places: IntArray, k: IntArray) -> FloatArray:
        """Prices of slots: [n_slots], [n_slots] -> [n_slots]."""
        prices = self.lines.at(k, places)
        if self.source >= 0:
            waits = places == self.source
            queued_s = (self.bits[0] + k[waits] * self.bits[1]) * self.link_s[0] + self.link_s[1]
            prices[waits] = np.maximum(prices[waits], queued_s)
        return prices


def _exchange(prices: _PricesOfSlots, held: IntArray, extra: IntArray, limit_s: float) -> _Exchange:
    """Pair taken slots, the latest first, with free slots, the earliest first, as long as these are earlier.

    Each of the devices has `held` [m] groups and room for `extra` [m].
    """
    everyone, n_taken = np.arange(len(held)), int(held.sum())
    taken = everyone.repeat(held)  # [n_taken] places; the last slot of each comes first
    taken_s = prices.at(taken, held.cumsum()[taken] - np.arange(n_taken))
    latest = (-taken_s).argsort(kind="stable")  # [n_taken]
    first_s = np.where(extra > 0, prices.at(everyone, held + 1), inf)  # [m]
    last_s = limit_s  # of what is of use, as there are n_taken earlier ones
    if len(first_s) > n_taken:
        last_s = min(limit_s, float(np.partition(first_s, n_taken - 1)[n_taken - 1]))
    most = prices.lines.most_within(last_s, n_taken).astype(np.int64) + 1  # [m] or one less, if that is no rounding
    number = np.maximum(np.minimum(most - held, extra), 0)  # [m]
    free = everyone.repeat(number)  # [n_free] places
    came = np.arange(1, len(free) + 1) - (number.cumsum() - number)[free]  # [n_free]
    free_s = prices.at(free, held[free] + came)
    earliest = free_s.argsort(kind="stable")[:n_taken]
    left_s, filled_s = np.append(taken_s[latest], 0.0), free_s[earliest]
    n_moves = np.count_nonzero(filled_s < np.minimum(limit_s, left_s[: len(filled_s)]))
    earliest = earliest[:n_moves]
    sources, targets = prices.devices[taken[latest[:n_moves]]], prices.devices[free[earliest]]
    return _Exchange(sources, targets, came[earliest], left_s[: n_moves + 1], filled_s[:n_moves])


def _best_number_of_moves(
    costs: MoveCosts, exchange: _Exchange, counts: IntArray, floor_s: float, tokens: float
) -> Resplit:
    """The first m moves of an exchange, with the m that gains most over `tokens` steps, net of the migration."""
    sources, targets, came, left_s, filled_s = exchange
    gains_s = max(floor_s, left_s[0]) - np.maximum(floor_s, np.maximum(filled_s, left_s[1:]))  # [n_moves]
    least_s = (1 - ROUNDING) * costs.quickest_s(Kind.HEAD, int(sources[0])) / tokens if len(sources) else 0.0
    if not len(gains_s) or gains_s.max() <= least_s:
        return Resplit(counts, 0.0, 0.0)
    links, bits, flash_s = costs.prices.links, costs.link_bits[Kind.HEAD], costs.flash_s[Kind.HEAD]
    moving_s = np.full(len(came), flash_s).cumsum()[came - 1]  # [n_moves] from the storage of each target
    if bits:
        sent: FloatArray | float = bits  # over the link of each move
        if came.max() > 1:  # then two can have one link
            sent = np.full(len(came), bits).cumsum()[_repeated(sources * len(counts) + targets)]  # [n_moves]
        moving_s = np.maximum(moving_s, links.pairs(sources, targets, sent))
    moving_s = np.maximum.accumulate(moving_s)
    some = gains_s > 0
    net_s = np.where(some, tokens * np.where(some, gains_s, 1.0) - moving_s, 0.0)
    best = int(net_s.argmax())
    if net_s[best] <= 0:
        return Resplit(counts, 0.0, 0.0)
    n_devices = len(counts)
    left, more = (np.bincount(each[: best + 1], minlength=n_devices) for each in (sources, targets))  # groups of each
    return Resplit(counts - left + more, float(gains_s[best]), float(moving_s[best]))


def _repeated(codes: IntArray) -> list[int]:
    """How often each code is among those before it: [m] -> m."""
    seen, found = dict[int, int](), []
    for code in codes.tolist():
        seen[code] = before = seen.get(code, -1) + 1
        found.append(before)
    return found
