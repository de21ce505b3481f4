"""Complete layers move, never heads: the dynamic layer-based baseline of the head-level paper (arXiv 2505.02533)."""

import numpy as np

from edgeemu.placement.blocks import Block, Kind, layer_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies import layers
from edgeemu.policies.search.layer_runs import whole_layers_room
from edgeemu.policies.search.partial_placement import PartialPlacement
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.same import layout_of
from edgeemu.policies.view.step_time import StepTimes


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place the chain of `layers` first; then move each layer, in order, to where that shortens the step most and pays.

    [D] As with the blocks of the paper's algorithm, a layer moves only where its gain over the interval exceeds its
    migration delay; a layer on a device that has lost the memory for it moves in any case, to where it takes least.

    Raises:
        InfeasibleError: first call: the chain cannot hold the model.
        NoBetterPlacement: a device has lost memory, and what it holds fits nowhere.
    """
    shape = view.costs.shape
    if current is None:
        return layers.place(view)
    times, costs = StepTimes(view), MoveCosts(view)
    old = layout_of(current, shape)
    draft = PartialPlacement.of(view, times, old)
    owner: dict[Block, int] = {}
    for layer in range(shape.n_layers):
        target = _move_layer(draft, costs, layer)
        if target is not None:
            owner.update(dict.fromkeys(layer_blocks(shape, layer), target))
    over = draft.room.over()
    if len(over):
        names = ", ".join(view.devices[device].name for device in over.tolist())
        raise NoBetterPlacement(f"{names}: more is held than there is memory, and no complete layer fits elsewhere")
    return Placement({**current.owner, **owner}) if owner else current


def _move_layer(draft: PartialPlacement, costs: MoveCosts, layer: int) -> int | None:
    """Move a layer in the draft to where that pays most, or where there is memory for it; None: it stays."""
    times, here, last = draft.times, int(draft.ffn[layer]), len(draft.ffn) - 1
    bits, n_groups = times.hidden_bits, times.n_groups
    must = bool(draft.room.total[here] > draft.room.memory_bytes[here])
    source = draft.source(layer)
    after = int(draft.proj[layer + 1]) if layer < last else draft.lm_head
    step_s = times.links.row(source, bits) + times.whole_layer_s + times.links.column(after, bits)  # [n_devices]
    moved_bits, flash_s = costs.layer(n_groups)
    move_s = np.maximum(times.links.wire.row(here, moved_bits), flash_s)
    net_s = draft.view.interval_tokens * (step_s[here] - step_s) - move_s
    net_s[whole_layers_room(draft) < 1] = -np.inf
    net_s[here] = -np.inf
    target = int(net_s.argmax())
    if net_s[target] == -np.inf or not (must or net_s[target] > 0):
        return None
    for kind, at in ((Kind.PROJ, int(draft.proj[layer])), (Kind.FFN, here)):
        draft.put(kind, layer, target)
        if must:
            draft.room.remove_single(kind, at)
    counts = np.zeros(times.n_devices, np.int64)
    counts[target] = n_groups
    before = draft.groups[layer]
    draft.resplit(layer, counts)
    if must:
        for device in np.flatnonzero(before).tolist():
            if device != target:
                draft.room.remove_groups(layer, device, int(before[device]))
    return target
