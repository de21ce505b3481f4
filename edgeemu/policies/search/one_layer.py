"""One layer placed as well as can be: all ways round the ring output matrix, embedding, heads, proj, ffn. Pure.

For every pair of a device that sends x and one that has the projection, the best split of the heads is a water-filling
problem with an exact answer; the rest of a step is a sum over the ring. Memory ties the parts together: ways round are
tried from the one that would be shortest if every device were empty for the heads, until none can be shorter than the
best that fits.
"""

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.head_split import Split, best_split, cheapest_slots, slots
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.step_time import StepTimes

MAX_WAYS = 24  # that are looked at in full
FEW = 6  # devices, up to which all may hold single blocks
CARRIERS = 4  # that may, on clusters that have more


def best_ring(
    view: ClusterView,
    times: StepTimes,
    below_s: float = np.inf,
    moves_s: dict[Kind, FloatArray] | None = None,
) -> PartialPlacement | None:
    """The placement with the shortest step; None: none of those that were tried fits and is below `below_s`.

    `moves_s` says what a single block's move to each device, [n_devices], adds to a step: they go side by side, so the
    largest counts.
    """
    empty = PartialPlacement.empty(view, times)
    carriers = _carriers(times, empty)  # [c]
    n, everyone = len(carriers), carriers.tolist()
    if not n:
        return None
    s_per_bit = np.stack([times.links.s_per_bit.row(d)[carriers] for d in everyone])  # [c, c]
    delay_s = np.stack([times.links.delay_s.row(d)[carriers] for d in everyone])  # [c, c]
    hop_s = s_per_bit * times.hidden_bits + delay_s  # [c, c]
    token_s = s_per_bit * times.token_bits + delay_s  # [c, c]
    embed_s, proj_s = times.embed_s[carriers], times.proj_s[carriers]
    ffn_s, lm_head_s = times.ffn_s[carriers], times.lm_head_s[carriers]
    least_stage_s = np.maximum(hop_s, _stage_without_links_s(times))  # [c, c] by source and gather: a bound
    step_s = (  # [embed, proj, ffn, lm_head]: a bound of every way
        (embed_s[:, None] + least_stage_s + proj_s[None, :])[:, :, None, None]
        + (hop_s + ffn_s[None, :])[None, :, :, None]
        + (hop_s + lm_head_s[None, :])[None, None, :, :]
        + token_s.T[:, None, None, :]
    )
    if moves_s is not None:
        e, p, f, o = (
            moves_s[kind][carriers].reshape([-1 if axis == at else 1 for axis in range(4)])
            for at, kind in enumerate((Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD))
        )
        step_s = step_s + np.maximum(np.maximum(e, p), np.maximum(f, o))
    flat = step_s.ravel()
    first = np.argpartition(flat, min(MAX_WAYS, flat.size) - 1)[:MAX_WAYS]
    best, best_s = None, below_s
    splits: dict[tuple[int, int], Split | None] = {}  # as if every device were empty for the heads
    for way in first[np.argsort(flat[first], kind="stable")].tolist():
        if flat[way] >= best_s:
            break
        at_embed, at_proj, at_ffn, at_lm_head = way // n**3, way // n**2 % n, way // n % n, way % n
        pair = at_embed, at_proj
        if pair not in splits:
            splits[pair] = best_split(times, everyone[at_embed], everyone[at_proj], empty.room, 0)
        split = splits[pair]
        if split is None or flat[way] - least_stage_s[pair] + split.stage_s >= best_s:
            continue
        draft = _realised(view, times, [everyone[i] for i in (at_embed, at_proj, at_ffn, at_lm_head)], split)
        if draft is None:
            continue
        moving_s = max(moves_s[kind][draft.at(kind, 0)] for kind in moves_s) if moves_s is not None else 0.0
        if (found_s := draft.step_s() + moving_s) < best_s:
            best, best_s = draft, found_s
    return best


def _stage_without_links_s(times: StepTimes) -> float:
    """What the heads would take if links took no time: no split is faster."""
    k = slots(times.n_groups)
    prices = np.maximum(
        times.compute_fixed_s[:, None] + k * times.compute_slope_s[:, None],
        times.memory_fixed_s[:, None] + k * times.memory_slope_s[:, None],
    )  # [n_devices, n_groups]
    found = cheapest_slots(prices, times.n_groups)
    assert found is not None, "every device has as many slots as there are groups"
    return found[0]


def _carriers(times: StepTimes, empty: PartialPlacement) -> IntArray:
    """The devices that run the single blocks fastest, by all of them and by each, with memory for one at least."""
    fits = np.zeros(times.n_devices, np.bool_)
    for kind in (Kind.EMBED, Kind.PROJ, Kind.FFN, Kind.LM_HEAD):
        fits |= empty.room.with_single(kind) <= empty.room.capacity
    able = np.flatnonzero(fits)
    if len(able) <= FEW:
        return able
    whole = times.heads_s(able, np.full(len(able), times.n_groups))
    layer_s = times.proj_s[able] + times.ffn_s[able]  # heads are spread: what they take alone counts less
    serial_s: FloatArray = layer_s + times.embed_s[able] + times.lm_head_s[able] + 0.1 * whole
    return np.sort(able[np.argpartition(serial_s, CARRIERS)[:CARRIERS]])


def _realised(view: ClusterView, times: StepTimes, devices: list[int], ideal: Split) -> PartialPlacement | None:
    """Single blocks on their devices, heads split into the memory that is left; None: it does not fit.

    `ideal` is the split if the devices were empty for the heads: where there is memory for it, no other is shorter.
    """
    embed, proj, ffn, lm_head = devices
    draft = PartialPlacement.empty(view, times)
    room = draft.room
    for kind, device in ((Kind.EMBED, embed), (Kind.PROJ, proj), (Kind.FFN, ffn), (Kind.LM_HEAD, lm_head)):
        draft.put(kind, 0, device)
    if not room.fits():
        return None
    split = ideal if bool((ideal.counts <= room.groups_room(0)).all()) else best_split(times, embed, proj, room, 0)
    if split is None:
        return None
    draft.put_groups(0, split.counts)
    return draft
