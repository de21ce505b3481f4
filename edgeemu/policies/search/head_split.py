"""How the groups of one layer are best spread over devices. Pure.

Groups are alike, so a device's k-th group is a *slot* with a price (when the device would be done with k of them, say)
that never falls with k. Taking the cheapest slots then is taking each device's first ones, and it minimises the
dearest slot that is taken: water-filling, exact also for whole numbers.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes


class Split(NamedTuple):
    """`stage_s`: from x at its source until proj has all. `counts` [n_devices]."""

    stage_s: float
    counts: IntArray


class Finish(NamedTuple):
    """When a device's first k groups of a layer have reached proj: the larger of two lines in k. All [n_devices]."""

    compute_fixed_s: FloatArray
    compute_slope_s: FloatArray
    memory_fixed_s: FloatArray
    memory_slope_s: FloatArray

    def at(self, counts: IntArray | int, devices: IntArray | slice) -> FloatArray:
        """Of some devices, with a number of groups above 0 on each: [m] -> [m]."""
        return np.maximum(
            self.compute_fixed_s[devices] + counts * self.compute_slope_s[devices],
            self.memory_fixed_s[devices] + counts * self.memory_slope_s[devices],
        )


def finish(times: StepTimes, source: int, gather: int) -> Finish:
    """The lines of every device, with x at `source` and proj at `gather`.

    Left out is that outputs may queue behind x on the way from `source` to `gather`, as `StepTimes` has it.
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
    """The `needed` cheapest of [m, n_slots]: the dearest of them, and how many each row gives; None: too few.

    A slot that is not there costs infinity.
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
    return np.arange(1, n + 1)[None, :]  # [1, n]


def best_split(times: StepTimes, source: int, gather: int, room: MemoryHeadroom, layer: int) -> Split | None:
    """The split of a layer that is on no device yet, with the shortest heads stage. None: it does not fit."""
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
    prices = slot_prices(times, source, gather, lines, chosen)  # [m, n_groups]
    prices[slots(needed) > fitting[:, None]] = np.inf
    found = cheapest_slots(prices, needed)
    assert found is not None, "room for all was counted"
    counts = np.zeros(times.n_devices, np.int64)
    counts[chosen] = found[1]
    return Split(max(found[0], times.hop_s(source, gather)), counts)


def _queue_behind_x(times: StepTimes, source: int, gather: int, chosen: IntArray, prices: FloatArray) -> None:
    """Raises the prices of the source's own slots, [m, n_groups], to when the pipe has let x pass."""
    here = (chosen == source).nonzero()[0]
    if here.size:
        per_bit_s = times.links.s_per_bit.pair(source, gather)
        delay_s = times.links.delay_s.pair(source, gather)
        k = slots(times.n_groups)[0]  # [n_groups]
        bits = times.hidden_bits + times.attention_fixed_bits + k * times.attention_slope_bits
        prices[here[0]] = np.maximum(prices[here[0]], bits * per_bit_s + delay_s)


def slot_prices(times: StepTimes, source: int, gather: int, lines: Finish, chosen: IntArray) -> FloatArray:
    """When the k-th group of each chosen device has reached proj: [m, n_groups]."""
    k = slots(times.n_groups)
    prices = np.maximum(
        lines.compute_fixed_s[chosen, None] + k * lines.compute_slope_s[chosen, None],
        lines.memory_fixed_s[chosen, None] + k * lines.memory_slope_s[chosen, None],
    )  # [m, n_groups]
    if source != gather:
        _queue_behind_x(times, source, gather, chosen, prices)
    return prices


class Resplit(NamedTuple):
    """A split, what a step gains by it, and how long its moves take."""

    counts: IntArray  # [n_devices]
    gain_s: float
    migration_s: float


def resplit(
    times: StepTimes,
    costs: MoveCosts,
    source: int,
    gather: int,
    counts: IntArray,
    room: MemoryHeadroom,
    layer: int,
    tokens: float,
) -> Resplit:
    """Moves groups of a placed layer from the latest devices to the earliest: as many as gain most over `tokens` steps.

    The m-th move takes the group that is m-th latest to the slot that is m-th earliest. Net of the migration, the best
    m is taken. `counts` [n_devices] is the split now; `room` may count more as taken, of groups that are leaving.
    """
    floor_s = times.hop_s(source, gather)
    holders = counts.nonzero()[0]
    held_s = times.gathered_s(source, gather, holders, counts[holders])
    last_s = float(held_s.max())
    last = int(holders[held_s.argmax()])
    # Of the moves that pay, one is from `last`, and the stage then takes as long as the slots that are filled: a slot
    # that is not done by this time is of no use. It rules out most devices, and most layers, before memory is counted.
    limit_s = last_s - costs.quickest_s(Kind.HEAD, last) / tokens
    if limit_s <= floor_s:
        return Resplit(counts, 0.0, 0.0)
    lines = finish(times, source, gather)
    next_s = lines.at(counts + 1, slice(None))  # [n_devices] when one more group there would be done
    spare = (next_s < limit_s).nonzero()[0]
    spare = spare[room.groups_room(layer, spare) > 0]
    if not len(spare):
        return Resplit(counts, 0.0, 0.0)
    if len(spare) > times.n_groups:
        spare = spare[next_s[spare].argpartition(times.n_groups - 1)[: times.n_groups]]
    chosen = np.union1d(holders, spare)  # [m]
    extra = room.groups_room(layer, chosen)  # [m]
    prices = slot_prices(times, source, gather, lines, chosen)  # [m, n_groups]
    k = slots(times.n_groups)
    held = counts[chosen, None]
    free_at, free_k = np.nonzero((k > held) & (k <= held + extra[:, None]) & (prices < limit_s))
    free = prices[free_at, free_k]
    taken_at, taken_k = np.nonzero((k <= held) & (prices > free.min(initial=last_s)))
    taken = prices[taken_at, taken_k]
    rest_s = prices[(k <= held) & (prices <= free.min(initial=last_s))].max(initial=0.0)  # of those that never move
    latest = np.argsort(-taken, kind="stable")
    earliest = np.argsort(free, kind="stable")[: len(taken)]
    down, up = np.append(taken[latest], rest_s), free[earliest]
    useful = int(np.count_nonzero(up < down[: len(up)]))
    before_s = max(floor_s, float(down[0]))
    best_m, best_net_s, best = 0, 0.0, (0.0, 0.0)
    bits: dict[tuple[int, int], float] = defaultdict(float)
    flash: dict[int, float] = defaultdict(float)
    moving_s = 0.0
    sources, targets = chosen[taken_at[latest[:useful]]].tolist(), chosen[free_at[earliest[:useful]]].tolist()
    for m, (a, b) in enumerate(zip(sources, targets, strict=True), start=1):
        bits[a, b] += costs.link_bits[Kind.HEAD]
        flash[b] += costs.flash_s[Kind.HEAD]
        moving_s = max(moving_s, times.links.pair(a, b, bits[a, b]) if bits[a, b] else 0.0, flash[b])
        after_s = max(floor_s, float(up[m - 1]), float(down[m]))
        gain_s = before_s - after_s
        if tokens * gain_s - moving_s > best_net_s:
            best_m, best_net_s, best = m, tokens * gain_s - moving_s, (gain_s, moving_s)
    after = counts.copy()
    for a, b in zip(sources[:best_m], targets[:best_m], strict=True):
        after[a] -= 1
        after[b] += 1
    return Resplit(after, *best)
