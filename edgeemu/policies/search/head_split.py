"""The best split of one layer's groups over devices. Pure.

Groups are alike, so a device's k-th group is a *slot* with a price (for example the time when the device finishes k
groups) that never falls with k. The cheapest slots are then the first ones of each device, and taking them minimises
the dearest slot that is taken: water-filling, which is exact also for whole numbers.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.change_rule import ROUNDING
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import MANY, HeldHeads, StepTimes


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

    def most_before(self, limit_s: float, devices: IntArray, n_groups: int) -> int:
        """The most groups that one of some devices can finish before a limit; rather one more than too few."""
        with np.errstate(divide="ignore"):
            most = np.minimum(
                (limit_s - self.compute_fixed_s[devices]) / self.compute_slope_s[devices],
                (limit_s - self.memory_fixed_s[devices]) / self.memory_slope_s[devices],
            )  # [m]
        return int(min(most.max() + 1.0, n_groups))


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


def best_split(times: StepTimes, source: int, gather: int, room: MemoryHeadroom, layer: int) -> Split | None:
    """The split with the shortest heads stage of a layer that no device holds yet. None: it does not fit."""
    needed = times.n_groups
    lines = finish(times, source, gather)
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
    left_s: FloatArray  # [≥ n_moves + 1] the latest group that has not moved, after 0, 1, … moves
    filled_s: FloatArray  # [≥ n_moves] the latest slot that is filled, after 1, 2, … moves


class HeadsStage(NamedTuple):
    """The heads stage of a placed layer: what of it does not depend on memory."""

    source: int
    gather: int
    holders: IntArray  # [m] devices with groups
    floor_s: float  # x alone from `source` to `gather`
    last_s: float  # when the latest device is done
    limit_s: float  # a slot that is later is of no use


def stages(draft: PartialPlacement, costs: MoveCosts, tokens: float) -> list[HeadsStage]:
    """The heads stages of all layers.

    Of the moves that pay, one is from the latest device, and the stage then takes as long as the slots that are filled.
    That gives a limit, which rules out most devices, and most layers, before memory is counted.
    """
    times = draft.times
    if len(draft.ffn) < MANY:
        ends = [(draft.source(layer), int(at)) for layer, at in enumerate(draft.proj)]
        of_layers = [(*at, times.hop_s(*at), *draft.gathered(layer)) for layer, at in enumerate(ends)]
    else:
        of_layers = _gathered_in_many(draft)
    found = []
    for source, gather, floor_s, holders, held_s in of_layers:
        latest = int(held_s.argmax())
        last_s = float(held_s[latest])
        limit_s = last_s - costs.quickest_s(Kind.HEAD, int(holders[latest])) / tokens
        found.append(HeadsStage(source, gather, holders, floor_s, last_s, limit_s))
    return found


def _gathered_in_many(draft: PartialPlacement) -> list[tuple[int, int, float, IntArray, FloatArray]]:
    """Source and projection of every layer, the time of x between them, and `PartialPlacement.gathered`."""
    sources = np.append(draft.embed, draft.ffn[:-1])  # [n_layers]
    held = HeldHeads.of(draft.groups)
    gathered_s, starts = draft.times.all_gathered_s(sources, draft.proj, held), held.starts(len(sources))
    ends = zip(sources.tolist(), draft.proj.tolist(), draft.times.hops_s(sources, draft.proj).tolist(), strict=True)
    return [
        (*at, held.devices[begin:end], gathered_s[begin:end])
        for at, begin, end in zip(ends, starts, [*starts[1:], None], strict=True)
    ]


def resplit(draft: PartialPlacement, layer: int, stage: HeadsStage, costs: MoveCosts, tokens: float) -> Resplit:
    """Move groups of a placed layer from the latest devices to the earliest, as many as gain most over `tokens` steps.

    The gain is net of the migration. `draft.room` can count more than `draft.groups`: what is leaving still is there.
    """
    times, counts = draft.times, draft.groups[layer]
    source, gather, holders, floor_s, last_s, limit_s = stage
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
    most = max(int(counts[holders].max()), lines.most_before(limit_s, able[spare], times.n_groups))
    prices = slot_prices(times, source, gather, lines, chosen, most)  # [m, most]
    exchange = _exchange(chosen, prices, counts[chosen], extra, limit_s, last_s)
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


def _exchange(
    chosen: IntArray, prices: FloatArray, held: IntArray, extra: IntArray, limit_s: float, last_s: float
) -> _Exchange:
    """Pair taken slots, the latest first, with free slots, the earliest first.

    `prices` [m, most] of the devices `chosen` [m], of which each has `held` [m] groups and room for `extra` [m].
    """
    k = slots(prices.shape[1])  # [1, most]
    own = k <= held[:, None]  # [m, most]
    free_at, free_k = np.nonzero(~own & (k <= (held + extra)[:, None]) & (prices < limit_s))
    free_s = prices[free_at, free_k]  # [n_free]
    earliest_s = free_s.min(initial=last_s)
    taken_at, taken_k = np.nonzero(own & (prices > earliest_s))
    taken_s = prices[taken_at, taken_k]  # [n_taken] slots that are later than the earliest free one
    rest_s = prices[own & (prices <= earliest_s)].max(initial=0.0)  # slots that never move
    latest = np.argsort(-taken_s, kind="stable")  # [n_taken]
    earliest = np.argsort(free_s, kind="stable")[: len(taken_s)]  # [≤ n_taken]
    left_s, filled_s = np.append(taken_s[latest], rest_s), free_s[earliest]
    useful = int(np.count_nonzero(filled_s < left_s[: len(filled_s)]))
    sources, targets = chosen[taken_at[latest[:useful]]], chosen[free_at[earliest[:useful]]]
    return _Exchange(sources.tolist(), targets.tolist(), left_s, filled_s)


def _repeated(keys: Sequence[object], each: float) -> FloatArray:
    """Sums of a value over the moves so far that have the same key as each move: n_moves -> [n_moves]."""
    if len(set(keys)) == len(keys):
        return np.full(len(keys), each)
    sums: dict[object, float] = defaultdict(float)
    found = []
    for key in keys:
        sums[key] += each
        found.append(sums[key])
    return np.array(found)


def _best_number_of_moves(
    costs: MoveCosts, exchange: _Exchange, counts: IntArray, floor_s: float, tokens: float
) -> Resplit:
    """The first m moves of an exchange, with the m that gains most over `tokens` steps, net of the migration."""
    n_moves, links = len(exchange.sources), costs.prices.links
    if not n_moves:
        return Resplit(counts, 0.0, 0.0)
    before_s = max(floor_s, float(exchange.left_s[0]))
    later_s = np.maximum(exchange.filled_s[:n_moves], exchange.left_s[1 : n_moves + 1])
    gains_s = before_s - np.maximum(floor_s, later_s)  # [n_moves]
    if gains_s.max() <= (1 - ROUNDING) * costs.quickest_s(Kind.HEAD, exchange.sources[0]) / tokens:
        return Resplit(counts, 0.0, 0.0)
    bits, flash_s = costs.link_bits[Kind.HEAD], costs.flash_s[Kind.HEAD]
    moves_s = _repeated(exchange.targets, flash_s)  # [n_moves] until each has come, from storage and over its link
    if bits:
        sources, targets = np.array(exchange.sources), np.array(exchange.targets)  # [n_moves] each
        sent = _repeated(list(zip(exchange.sources, exchange.targets, strict=True)), bits)  # [n_moves]
        sent_s = links.s_per_bit.pairs(sources, targets) * sent + links.delay_s.pairs(sources, targets)
        moves_s = np.maximum(moves_s, sent_s)
    moving_s = np.maximum.accumulate(moves_s)
    gaining = gains_s > 0  # [n_moves]
    net_s = np.full(n_moves, -np.inf)
    net_s[gaining] = tokens * gains_s[gaining] - moving_s[gaining]
    most = int(net_s.argmax())
    best_m, best = (most + 1, (float(gains_s[most]), float(moving_s[most]))) if net_s[most] > 0 else (0, (0.0, 0.0))
    after = counts.copy()
    for a, b in zip(exchange.sources[:best_m], exchange.targets[:best_m], strict=True):
        after[a] -= 1
        after[b] += 1
    return Resplit(after, *best)
