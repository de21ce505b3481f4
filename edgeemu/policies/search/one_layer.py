"""The best placement of one layer: every choice of devices for output matrix, embedding, proj and ffn. Pure.

For every pair of a device that sends x and one that has the projection, the best split of the heads is a water-filling
problem with an exact answer; the rest of a step is a sum over the *ring* of hops from the output matrix through
embedding, proj and ffn back to it. Memory ties the parts together: choices are tried from the one that would be
shortest if every device were empty for the heads, until none can be shorter than the best that fits.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.compiled.layer_bounds import CARRIERS, FEW
from edgeemu.policies.search.head_split import Split, best_split, slots
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom, sizes_of
from edgeemu.policies.view.step_time import ROUNDING, StepTimes

MAX_CHOICES = 24  # that are tried in full
RING = (Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD)


class _Bounds(NamedTuple):
    """Lower bounds of times, by the carriers that hold the single blocks."""

    stage_s: FloatArray  # [source, proj] of the heads' stage
    step_s: FloatArray  # [embed, proj, ffn, lm_head] of a step, with the migration's share


def best_ring(
    view: ClusterView,
    times: StepTimes,
    below_s: float = np.inf,
    moves_s: FloatArray | None = None,
) -> PartialPlacement | None:
    """The placement with the shortest step; None: none of those that were tried fits and is below `below_s`.

    `moves_s` gives the seconds that the move of each block of `RING` to each device adds to a step, [4, n_devices];
    moves happen in parallel, so the largest counts.
    """
    carriers = _carriers(times, view.memory_bytes >= sizes_of(view).least_alone)  # [c]
    if not len(carriers):
        return None
    if _least_singles_s(times, carriers) + _least_move_s(carriers, moves_s) >= below_s:
        return None
    everyone, bounds = carriers.tolist(), _bounds(times, carriers, moves_s)
    if bounds.step_s.min() >= below_s:
        return None
    empty, best, best_s = MemoryHeadroom(view), None, below_s
    splits: dict[tuple[int, int], Split | None] = {}  # as if every device were empty for the heads
    for choice in _shortest_first(bounds.step_s):
        bound_s = bounds.step_s[choice]
        if bound_s >= best_s:
            break
        devices = [everyone[index] for index in choice]
        pair = choice[0], choice[1]
        if pair not in splits:
            limit_s = best_s - float(bound_s - bounds.stage_s[pair])
            splits[pair] = best_split(times, devices[0], devices[1], empty, 0, limit_s)
        split = splits[pair]
        if split is None or bound_s - bounds.stage_s[pair] + split.stage_s >= best_s:
            continue
        draft = _realised(view, times, devices, split)
        if draft is None:
            continue
        moving_s = 0.0 if moves_s is None else float(moves_s[np.arange(len(RING)), devices].max())
        if (found_s := draft.step_s() + moving_s) < best_s:
            best, best_s = draft, found_s
    return best


def _bounds(times: StepTimes, carriers: IntArray, moves_s: FloatArray | None) -> _Bounds:
    """Lower bounds for all choices of carriers: heads take no time on links and have all memory."""
    s_per_bit = times.links.s_per_bit.block(carriers, carriers)  # [c, c]
    delay_s = times.links.delay_s.block(carriers, carriers)  # [c, c]
    hop_s = s_per_bit * times.hidden_bits + delay_s  # [c, c]
    token_s = s_per_bit * times.token_bits + delay_s  # [c, c]
    embed_s, proj_s = times.embed_s[carriers], times.proj_s[carriers]
    ffn_s, lm_head_s = times.ffn_s[carriers], times.lm_head_s[carriers]
    stage_s = np.maximum(hop_s, _stage_without_links_s(times))  # [source, proj]
    step_s = (  # [embed, proj, ffn, lm_head]
        (embed_s[:, None] + stage_s + proj_s[None, :])[:, :, None, None]
        + (hop_s + ffn_s[None, :])[None, :, :, None]
        + (hop_s + lm_head_s[None, :])[None, None, :, :]
        + token_s.T[:, None, None, :]
    )
    if moves_s is not None:
        embed, proj, ffn, lm_head = moves_s[:, carriers]  # [c] each
        first, last = np.maximum(embed[:, None], proj), np.maximum(ffn[:, None], lm_head)  # [c, c] each
        step_s = step_s + np.maximum(first[:, :, None, None], last)
    return _Bounds(stage_s, step_s)


def _shortest_first(step_s: FloatArray) -> list[tuple[int, int, int, int]]:
    """The choices with the least bounds, as indexes of [embed, proj, ffn, lm_head], ascending."""
    flat = step_s.ravel()
    first = flat.argpartition(min(MAX_CHOICES, flat.size) - 1)[:MAX_CHOICES]
    n = len(step_s)
    ordered = first[flat[first].argsort(kind="stable")].tolist()
    return [(at // n**3, at // n**2 % n, at // n % n, at % n) for at in ordered]


def _stage_without_links_s(times: StepTimes) -> float:
    """Time of the heads' stage if links took no time: no split is faster."""
    k = slots(times.n_groups)
    prices = np.maximum(
        times.compute_fixed_s[:, None] + k * times.compute_slope_s[:, None],
        times.memory_fixed_s[:, None] + k * times.memory_slope_s[:, None],
    )  # [n_devices, n_groups]
    dearest = times.n_groups - 1  # of the slots that are taken; every device has as many slots as there are groups
    cheapest_s = prices.ravel()
    cheapest_s.partition(dearest)
    return float(cheapest_s[dearest])


def _least_singles_s(times: StepTimes, carriers: IntArray) -> float:
    """The least time of all single blocks, each on the carrier that is fastest at it: no step takes less."""
    alone_s = times.embed_s, times.proj_s, times.ffn_s, times.lm_head_s
    return (1 - ROUNDING) * sum(float(each_s[carriers].min()) for each_s in alone_s)


def _least_move_s(carriers: IntArray, moves_s: FloatArray | None) -> float:
    """The least that the move of the block that takes longest to a carrier adds to a step."""
    return 0.0 if moves_s is None else float(moves_s[:, carriers].min(1).max())


def _carriers(times: StepTimes, fits: NDArray[np.bool_]) -> IntArray:
    """Devices that could hold single blocks: the fastest with memory for one at least, ascending. `fits`: who has."""
    able = fits.nonzero()[0]
    if len(able) <= FEW:
        return able
    whole = times.all_heads_s[able]
    layer_s = times.proj_s[able] + times.ffn_s[able]  # heads are spread: what they take alone counts less
    serial_s: FloatArray = layer_s + times.embed_s[able] + times.lm_head_s[able] + 0.1 * whole
    carriers: IntArray = able[serial_s.argpartition(CARRIERS)[:CARRIERS]]
    carriers.sort()
    return carriers


def _realised(view: ClusterView, times: StepTimes, devices: list[int], ideal: Split) -> PartialPlacement | None:
    """Place single blocks on `devices`, in the order of RING, and heads where memory is left; None: it does not fit.

    `ideal` is the split if the devices were empty for the heads: where there is memory for it, no other is shorter.
    """
    embed, proj = devices[:2]
    draft = PartialPlacement.empty(view, times)
    room = draft.room
    for kind, device in zip(RING, devices, strict=True):
        draft.put(kind, 0, device)
    if not room.fits():
        return None
    split = ideal if bool((ideal.counts <= room.groups_room(0)).all()) else best_split(times, embed, proj, room, 0)
    if split is None:
        return None
    draft.put_groups(0, split.counts)
    return draft
