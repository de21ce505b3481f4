"""Placement of many layers in runs: a device takes complete layers for as long as it has memory. Pure.

Every change of device between layers costs a hop; so the chain continues on the device whose run of layers takes least
per layer, the hop to it included. Afterwards the heads of each layer are spread over devices that have memory left,
where that shortens the layer.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.search.head_split import Split, best_split
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_time import ROUNDING, StepTimes

WORTH = 0.002  # share of a layer's time that spreading its heads must gain
SMALL = 2000  # devices x layers up to which several beginnings are tried


def best_chain(view: ClusterView, times: StepTimes, below_s: float = np.inf) -> PartialPlacement | None:
    """The best of a few chains, which differ in their ends and in how runs are measured; None: none is below `below_s`.

    On a large cluster it is the first chain that fits. Whether runs are measured with their heads, or without because
    heads go to other devices, is then chosen by the best split of one layer.
    """
    best, best_s = None, below_s
    least = _LeastTimes(view, times)
    small = times.n_devices * view.costs.shape.n_layers <= SMALL
    measures = (True, False) if _spreads(view, times) else (False, True)
    for embed, lm_head in _ends(view, times):
        for heads_elsewhere in measures:
            draft = _chain(view, times, embed, lm_head, heads_elsewhere)
            if draft is None:
                continue
            if least.step_s(draft) < best_s:
                if not _split_heads(draft, heads_elsewhere):
                    continue
                if (found_s := draft.step_s()) < best_s:
                    best, best_s = draft, found_s
            if not small:
                return best
    return best


class _LeastTimes:
    """Lower bounds of a step's time by the devices of single blocks: heads are split as if all memory were free."""

    def __init__(self, view: ClusterView, times: StepTimes) -> None:
        self._times = times
        self._room = PartialPlacement.empty(view, times).room
        self._stages_s: dict[tuple[int, int], float] = {}  # of heads, by source of x and device of proj

    def step_s(self, draft: PartialPlacement) -> float:
        """A lower bound for a draft of which all single blocks are placed."""
        times, pairs = (
            self._times,
            Counter(zip([draft.embed, *draft.ffn[:-1].tolist()], draft.proj.tolist(), strict=True)),
        )
        heads_s = sum(number * self._stage_s(*pair) for pair, number in pairs.items())
        singles_s = float((times.proj_s[draft.proj] + times.ffn_s[draft.ffn]).sum())
        return (draft.ends_s() + heads_s + singles_s) * (1 - ROUNDING)

    def _stage_s(self, source: int, gather: int) -> float:
        stage_s = self._stages_s.get((source, gather))
        if stage_s is None:
            split = best_split(self._times, source, gather, self._room, 0)
            stage_s = self._stages_s[source, gather] = np.inf if split is None else split.stage_s
        return stage_s


def _spreads(view: ClusterView, times: StepTimes) -> bool:
    """Whether most heads of a layer are best on other devices than the fastest, if all devices are empty."""
    fastest = int((times.proj_s + times.ffn_s).argmin())
    split = best_split(times, fastest, fastest, PartialPlacement.empty(view, times).room, 0)
    return split is not None and int(split.counts[fastest]) < times.n_groups // 2


def whole_layers_room(draft: PartialPlacement, *, with_heads: bool = True) -> IntArray:
    """How many more complete layers every device has room for: [n_devices]."""
    room, s = draft.room, draft.room.sizes
    layer = s.weights[Kind.PROJ] + s.weights[Kind.FFN] + (int(s.groups_total[-1]) if with_heads else 0)
    heads = int(s.head_workspace[-1]) if with_heads else 0
    workspace = max(s.workspace[Kind.PROJ], s.workspace[Kind.FFN], heads)
    messages = np.maximum(room.messages, s.any_messages + s.proj_messages)
    free = room.capacity - room.held - np.maximum(room.workspace, workspace) - messages
    fitting: IntArray = np.maximum(free // layer, 0)
    return fitting


def spread(draft: PartialPlacement, layers: Iterator[int] | range) -> None:
    """Split the heads of layers from nothing, wherever that is shorter."""
    times = draft.times
    in_vain: tuple[int, int, bytes] | None = None  # the last layer that is best as it is: those alike are, too
    for layer in layers:
        held = draft.groups[layer].copy()
        source, gather = draft.source(layer), int(draft.proj[layer])
        alike = source, gather, held.tobytes()
        if alike == in_vain:
            continue
        holders = np.flatnonzero(held)
        before_s = times.heads_stage_s(source, gather, holders, held[holders])
        for device in holders.tolist():
            draft.take_groups(layer, device, int(held[device]))
        split = best_split(times, source, gather, draft.room, layer)
        shorter = split is not None and split.stage_s < before_s * (1 - WORTH)
        draft.put_groups(layer, split.counts if split is not None and shorter else held)
        in_vain = None if shorter else alike


def _ends(view: ClusterView, times: StepTimes) -> list[tuple[int, int]]:
    """Choices of (embed, lm_head): on the device that is fastest at the ends, at layers, or has most memory."""
    empty = PartialPlacement.empty(view, times)
    room, capacity = empty.room, empty.room.capacity
    empty_lm = room.with_single(Kind.LM_HEAD)
    shared = room.sizes.shared
    both = empty_lm + room.sizes.weights[Kind.EMBED] - shared <= capacity  # [n_devices]
    ends_s, layer_s = times.embed_s + times.lm_head_s, times.whole_layer_s
    able = np.flatnonzero(both)
    small = times.n_devices * len(empty.ffn) <= SMALL
    if len(able):
        picks = [able[ends_s[able].argmin()], able[layer_s[able].argmin()], able[capacity[able].argmax()]]
        together = list(dict.fromkeys((int(d), int(d)) for d in picks))
        return together if small else together[:1]
    embeds = np.flatnonzero(room.with_single(Kind.EMBED) <= capacity)
    lm_heads = np.flatnonzero(empty_lm <= capacity)
    if not len(embeds) or not len(lm_heads):
        return []
    return [(int(embeds[times.embed_s[embeds].argmin()]), int(lm_heads[times.lm_head_s[lm_heads].argmin()]))]


def _chain(
    view: ClusterView, times: StepTimes, embed: int, lm_head: int, heads_elsewhere: bool
) -> PartialPlacement | None:
    """Place runs one after the other, without the heads if those go elsewhere: they then count as taking no memory."""
    draft = PartialPlacement.empty(view, times)
    draft.put(Kind.EMBED, 0, embed)
    draft.put(Kind.LM_HEAD, 0, lm_head)
    room, n_layers = draft.room, len(draft.ffn)
    layer_s = times.whole_layer_s
    to_end_s = times.links.column(lm_head, times.hidden_bits)  # [n_devices]
    layer, source = 0, embed
    while layer < n_layers:
        left = n_layers - layer
        run = np.minimum(whole_layers_room(draft, with_heads=not heads_elsewhere), left)  # [n_devices]
        cost_s = times.links.row(source, times.hidden_bits) + run * layer_s
        cost_s += np.where(run == left, to_end_s, 0.0)
        device = int(np.where(run > 0, cost_s / np.maximum(run, 1), np.inf).argmin())
        length = int(run[device])
        if not length:
            return None
        draft.proj[layer : layer + length] = device
        draft.ffn[layer : layer + length] = device
        room.singles[Kind.PROJ][device] += length
        room.singles[Kind.FFN][device] += length
        if not heads_elsewhere:
            draft.groups[layer : layer + length, device] = times.n_groups
            room.groups[layer : layer + length, device] = times.n_groups
        room.recount_one(device)
        layer, source = layer + length, device
    return draft


def _split_heads(draft: PartialPlacement, heads_elsewhere: bool) -> bool:
    """Place the heads of a chain, or spread those that are with their layers already; whether they fit."""
    layers = range(len(draft.ffn))
    if not heads_elsewhere:
        spread(draft, layers)
        return True
    splits: dict[tuple[int, int], Split] = {}  # where there is memory for one again, no other is shorter
    for layer in layers:
        ends = draft.source(layer), int(draft.proj[layer])
        split = splits.get(ends)
        if split is None or bool((split.counts > draft.room.groups_room(layer)).any()):
            split = best_split(draft.times, *ends, draft.room, layer)
            if split is None:
                return False
            splits[ends] = split
        draft.put_groups(layer, split.counts)
    return True
