"""The best split of one layer's groups over devices. Pure.

Groups are alike, so a device's k-th group is a *slot* with a price (for example the time when the device finishes k
groups) that never falls with k. The cheapest slots are then the first ones of each device, and taking them minimises
the dearest slot that is taken: water-filling, which is exact also for whole numbers.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_time import MoveCosts, Pair
from edgeemu.policies.view.step_time import ROUNDING, StepTimes


class Split(NamedTuple):
    """Groups of a layer on each device, `counts` [n_devices], and their time from x at its source to all at proj."""

    stage_s: float
    counts: IntArray


class Finish(NamedTuple):
    """Time until a device's first k groups of a layer are at proj: the larger of two lines in k. All [n_devices]."""

    compute_fixed_s: FloatArray
    compute_slope_s: FloatArray
    memory_fixed_s: FloatArray
    memory_slope_s: FloatArray

    def at(self, counts: IntArray | int, devices: IntArray | slice) -> FloatArray:
        """Finish time of each chosen device with `counts` > 0 groups: [m] -> [m]."""
        return np.maximum(
            self.compute_fixed_s[devices] + counts * self.compute_slope_s[devices],
            self.memory_fixed_s[devices] + counts * self.memory_slope_s[devices],
        )

    def most_within(self, limit_s: float, n_groups: int) -> FloatArray:
        """The most groups, of so many, that each device can finish by then: [n_devices]."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a slope of 0 is no limit
            computed = (limit_s - self.compute_fixed_s) / self.compute_slope_s
            most: FloatArray = np.fmin(computed, (limit_s - self.memory_fixed_s) / self.memory_slope_s)
        return np.floor(np.minimum(np.maximum(most, 0.0), n_groups))


def finish(times: StepTimes, source: int, gather: int) -> Finish:
    """Finish times of every device, with x at `source` and proj at `gather`.

    Outputs that queue behind x on the link from `source` to `gather` are left out: see `slot_prices`.
    """
    links = times.links
    fixed_s = links.row(source, times.hidden_bits) + links.column(gather, times.attention_fixed_bits)
    slope_s = links.s_per_bit.column(gather) * times.attention_slope_bits
    return Finish(
        fixed_s + times.compute_fixed_s,
        slope_s + times.compute_slope_s,
        fixed_s + times.memory_fixed_s,
        slope_s + times.memory_slope_s,
    )


def cheapest_slots(prices: FloatArray, needed: int) -> tuple[float, IntArray] | None:
    """Take the `needed` cheapest slots of [m, n_slots]: the dearest of them, and how many each row gives.

    None: there are too few. A slot that does not exist costs infinity.
    """
    flat = prices.ravel()
    if flat.size < needed:
        return None
    taken = flat.argpartition(needed - 1)[:needed]
    dearest = float(flat[taken[-1]])
    if dearest == np.inf:
        return None
    return dearest, np.bincount(taken // prices.shape[1], minlength=len(prices))


def slots(n: int) -> IntArray:
    """Numbers of the slots, 1 … n: [1, n]."""
    return np.arange(1, n + 1)[None, :]


def slot_prices(times: StepTimes, source: int, gather: int, lines: Finish, chosen: IntArray, most: int) -> FloatArray:
    """Time when the k-th group of each chosen device, up to the `most`-th, has reached proj: [m, most]."""
    k = slots(most)
    prices = np.maximum(
        lines.compute_fixed_s[chosen, None] + k * lines.compute_slope_s[chosen, None],
        lines.memory_fixed_s[chosen, None] + k * lines.memory_slope_s[chosen, None],
    )  # [m, most]
    if source != gather:
        _queue_behind_x(times, source, gather, chosen, prices)
    return prices


def _queue_behind_x(times: StepTimes, source: int, gather: int, chosen: IntArray, prices: FloatArray) -> None:
    """Raise the prices [m, most] of the source's own slots to the time when x and they have left the link."""
    here = (chosen == source).nonzero()[0]
    if here.size:
        per_bit_s = times.links.s_per_bit.pair(source, gather)
        delay_s = times.links.delay_s.pair(source, gather)
        k = slots(prices.shape[1])[0]  # [most]
        bits = times.hidden_bits + times.attention_fixed_bits + k * times.attention_slope_bits
        prices[here[0]] = np.maximum(prices[here[0]], bits * per_bit_s + delay_s)


def best_split(
    times: StepTimes, source: int, gather: int, room: MemoryHeadroom, layer: int, limit_s: float = inf
) -> Split | None:
    """The split with the shortest heads stage of a layer that no device holds yet.

    None: it does not fit, or surely takes longer than `limit_s`.
    """
    needed = times.n_groups
    lines = finish(times, source, gather)
    if limit_s < inf and lines.most_within((1 + ROUNDING) * limit_s, needed).sum() < needed:
        return None
    chosen = room.first_group_fits().nonzero()[0]  # [m]
    if len(chosen) > needed:  # no other device can be among the cheapest
        first = lines.at(1, chosen)
        chosen = chosen[first.argpartition(needed - 1)[:needed]]
    fitting = room.groups_room(layer, chosen)
    if int(fitting.sum()) < needed:
        if int(room.groups_room(layer).sum()) < needed:
            return None
        chosen = room.first_group_fits().nonzero()[0]
        fitting = room.groups_room(layer, chosen)
    prices = slot_prices(times, source, gather, lines, chosen, needed)  # [m, n_groups]
    prices[slots(needed) > fitting[:, None]] = np.inf
    found = cheapest_slots(prices, needed)
    assert found is not None, "room for all was counted"
    counts = np.zeros(times.n_devices, np.int64)
    counts[chosen] = found[1]
    return Split(max(found[0], times.hop_s(source, gather)), counts)


class Resplit(NamedTuple):
    """Another split of a placed layer, what a step gains by it, and how long its moves take."""

    counts: IntArray  # [n_devices]
    gain_s: float
    migration_s: float


class _Exchange(NamedTuple):
    """Moves in the order in which they pay: the m-th takes the m-th latest group to the m-th earliest free slot."""

    sources: list[int]  # [n_moves]
    targets: list[int]  # [n_moves]
    left_s: list[float]  # [n_moves + 1] the latest group that has not moved, after 0, 1, … moves
    filled_s: list[float]  # [n_moves] the latest slot that is filled, after 1, 2, … moves


class HeadsStage(NamedTuple):
    """The heads stage of a placed layer: what of it does not depend on memory."""

    source: int
    gather: int
    floor_s: float  # x alone from `source` to `gather`
    limit_s: float  # a slot that is later is of no use


def stages(draft: PartialPlacement, costs: MoveCosts, tokens: float) -> list[HeadsStage]:
    """The heads stages of all layers.

    Of the moves that pay, one is from the latest device, and the stage then takes as long as the slots that are filled.
    That gives a limit, which rules out most devices, and most layers, before memory is counted.
    """
    found = []
    for layer, (holders, held_s) in enumerate(draft.all_gathered()):
        source, gather, latest = draft.source(layer), int(draft.proj[layer]), int(held_s.argmax())
        limit_s = float(held_s[latest]) - costs.quickest_s(Kind.HEAD, int(holders[latest])) / tokens
        found.append(HeadsStage(source, gather, draft.times.hop_s(source, gather), limit_s))
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


def resplit(draft: PartialPlacement, layer: int, stage: HeadsStage, costs: MoveCosts, tokens: float) -> Resplit:
    """Move groups of a placed layer from the latest devices to the earliest, as many as gain most over `tokens` steps.

    The gain is net of the migration. `draft.room` can count more than `draft.groups`: what is leaving still is there.
    """
    times, counts = draft.times, draft.groups[layer]
    source, gather, floor_s, limit_s = stage
    if limit_s <= floor_s:
        return Resplit(counts, 0.0, 0.0)
    lines = finish(times, source, gather)
    next_s = lines.at(counts + 1, slice(None))  # [n_devices] with one more group on each
    able = ((next_s < limit_s) | (counts > 0)).nonzero()[0]  # [a] devices that can have a part in a move
    room = draft.room.groups_room(layer, able)  # [a]
    spare = _spare_devices(next_s[able], room, limit_s, times.n_groups)  # [a]
    if not spare.any():
        return Resplit(counts, 0.0, 0.0)
    part = spare | (counts[able] > 0)  # [a]
    chosen, extra = able[part], room[part]  # [m]
    price_s = _price_by_slot(times, source, gather, lines, chosen)
    exchange = _exchange(chosen.tolist(), price_s, counts[chosen].tolist(), extra.tolist(), limit_s)
    return _best_number_of_moves(costs, exchange, counts, floor_s, tokens)


def _spare_devices(next_s: FloatArray, room: IntArray, limit_s: float, n_groups: int) -> NDArray[np.bool_]:
    """The earliest devices, at most n_groups, where one more group would finish before the limit and fits.

    `next_s`: when it would; `room`: how many fit. [a] each.
    """
    spare: NDArray[np.bool_] = (next_s < limit_s) & (room > 0)
    if np.count_nonzero(spare) > n_groups:
        found = spare.nonzero()[0]
        spare = np.zeros_like(spare)
        spare[found[next_s[found].argpartition(n_groups - 1)[:n_groups]]] = True
    return spare


def _price_by_slot(
    times: StepTimes, source: int, gather: int, lines: Finish, chosen: IntArray
) -> Callable[[int, int], float]:
    """`slot_prices` one by one: when the k-th group of the device in a place of `chosen` [m] has reached proj."""
    computed, computed_each, read, read_each = (line[chosen].tolist() for line in lines)
    at_source = np.flatnonzero(chosen == source).tolist() if source != gather else []  # whose outputs wait for x
    here = at_source[0] if at_source else -1
    per_bit_s, delay_s = times.links.s_per_bit.pair(source, gather), times.links.delay_s.pair(source, gather)
    fixed_bits, slope_bits = times.hidden_bits + times.attention_fixed_bits, times.attention_slope_bits

    def price_s(place: int, k: int) -> float:
        found_s: float = computed[place] + k * computed_each[place]
        read_s: float = read[place] + k * read_each[place]
        if read_s > found_s:  # `max` takes as long as all the rest
            found_s = read_s
        return max(found_s, (fixed_bits + k * slope_bits) * per_bit_s + delay_s) if place == here else found_s

    return price_s


def _exchange(
    chosen: list[int], price_s: Callable[[int, int], float], held: list[int], extra: list[int], limit_s: float
) -> _Exchange:
    """Pair taken slots, the latest first, with free slots, the earliest first, as long as these are earlier.

    Each of the devices `chosen` [m] has `held` [m] groups and room for `extra` [m]. Of both the next ones are in heaps.
    """
    taken = [(-price_s(place, count), place, count) for place, count in enumerate(held) if count]
    free = [(price_s(place, held[place] + 1), place, held[place] + 1) for place, more in enumerate(extra) if more]
    free = [slot for slot in free if slot[0] < limit_s]
    heapify(taken)
    heapify(free)
    sources, targets, left_s, filled_s = list[int](), list[int](), [-taken[0][0]], list[float]()
    while free and free[0][0] < left_s[-1]:
        (early_s, target, first), (_, source, last) = free[0], taken[0]
        sources.append(chosen[source])
        targets.append(chosen[target])
        filled_s.append(early_s)
        after_s = price_s(target, first + 1) if first < held[target] + extra[target] else inf
        if after_s < limit_s:
            heapreplace(free, (after_s, target, first + 1))
        else:
            heappop(free)
        if last > 1:
            heapreplace(taken, (-price_s(source, last - 1), source, last - 1))
        else:
            heappop(taken)
        left_s.append(-taken[0][0] if taken else 0.0)
    return _Exchange(sources, targets, left_s, filled_s)


def _best_number_of_moves(
    costs: MoveCosts, exchange: _Exchange, counts: IntArray, floor_s: float, tokens: float
) -> Resplit:
    """The first m moves of an exchange, with the m that gains most over `tokens` steps, net of the migration."""
    before_s = max(floor_s, exchange.left_s[0])
    ends_s = zip(exchange.filled_s, exchange.left_s[1:], strict=True)
    gains_s = [before_s - max(floor_s, filled_s, left_s) for filled_s, left_s in ends_s]
    if not gains_s or max(gains_s) <= (1 - ROUNDING) * costs.quickest_s(Kind.HEAD, exchange.sources[0]) / tokens:
        return Resplit(counts, 0.0, 0.0)
    links, bits, flash_s = costs.prices.links, costs.link_bits[Kind.HEAD], costs.flash_s[Kind.HEAD]
    pairs = np.array(exchange.sources), np.array(exchange.targets)  # [n_moves] each
    prices = zip(links.s_per_bit.pairs(*pairs).tolist(), links.delay_s.pairs(*pairs).tolist(), strict=True)
    sent, read_s = dict[Pair, float](), dict[int, float]()  # bits over each link; from the storage of each target
    moving_s, best_m, best, best_net_s = 0.0, 0, (0.0, 0.0), 0.0
    ends = zip(exchange.sources, exchange.targets, strict=True)
    for m, (pair, (s_per_bit, delay_s), gain_s) in enumerate(zip(ends, prices, gains_s, strict=True), 1):
        sent[pair] = pair_bits = sent.get(pair, 0.0) + bits
        read_s[pair[1]] = target_s = read_s.get(pair[1], 0.0) + flash_s
        sent_s = s_per_bit * pair_bits + delay_s if bits else 0.0
        moving_s = max(moving_s, target_s, sent_s)
        if gain_s > 0 and (net_s := tokens * gain_s - moving_s) > best_net_s:
            best_m, best, best_net_s = m, (gain_s, moving_s), net_s
    if not best_m:
        return Resplit(counts, 0.0, 0.0)
    left, came = (np.bincount(each[:best_m], minlength=len(counts)) for each in pairs)  # [n_devices] groups
    return Resplit(counts - left + came, *best)
