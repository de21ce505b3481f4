"""The best split of one layer's groups over devices. Pure.

Groups are alike, so a device's k-th group is a *slot* with a price (for example the time when the device finishes k
groups) that never falls with k. The cheapest slots are then the first ones of each device, and taking them minimises
the dearest slot that is taken: water-filling, which is exact also for whole numbers.
"""

from math import inf
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
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
