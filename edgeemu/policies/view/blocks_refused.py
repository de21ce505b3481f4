"""Devices without memory for a migration of undivided blocks, as arrays: `migration_memory` to the byte, but quick.

Only where all layers have one precision: the sizes of blocks are those of any layer.
"""

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import PlacementArrays, moved_blocks
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, head, proj
from edgeemu.placement.placement import ends_meeting
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom

_ANY = {Kind.EMBED: EMBED, Kind.HEAD: head(0, 0), Kind.PROJ: proj(0), Kind.FFN: ffn(0), Kind.LM_HEAD: LM_HEAD}


def refuses(view: ClusterView, old: PlacementArrays, new: PlacementArrays) -> NDArray[np.bool_]:
    """Whether each device lacks the memory that a migration would reserve there: [n_devices].

    Nothing of `old` is lost. Whether `new` fits on its own, `MemoryHeadroom.fits` says.
    """
    room, workload, costs = MemoryHeadroom.of(view, old), view.workload, view.costs
    rows = workload.cached or workload.length
    last_rows = max(rows, sum((workload.total_tokens, *workload.concurrent))) if view.precopy else rows
    groups = room.groups.sum(0)  # [n_devices]
    cached_bytes = costs.at_step(1, workload.total_tokens - 1).kv_bytes(rows)
    taken_bytes = room.held - groups * (room.sizes.caches - cached_bytes) + room.workspace  # [n_devices]
    if last_rows > rows:
        taken_bytes += groups * costs.kv_bytes(last_rows - rows) + room.messages
    at_switch = costs.at_step(1, last_rows)
    meeting = ends_meeting((old.embed, new.embed), (old.lm_head, new.lm_head))
    receives = np.zeros(view.n_devices, np.bool_)
    for kind, _, targets in moved_blocks(old, new):
        size_bytes = weight_bytes(_ANY[kind], at_switch, ends_meet=kind in meeting)
        size_bytes += at_switch.kv_bytes(last_rows) if kind is Kind.HEAD else 0
        taken_bytes += size_bytes * np.bincount(targets, minlength=view.n_devices)
        receives[targets] = True
    refused: NDArray[np.bool_] = receives & (taken_bytes > view.memory_bytes)
    return refused
