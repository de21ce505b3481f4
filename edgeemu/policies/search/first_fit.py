"""First fit: blocks one by one, each on the first device with room, from some device on. Pure."""

from collections.abc import Callable

import numpy as np

from edgeemu.placement.blocks import Block, Kind, all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom


def first_fit(view: ClusterView, next_start: Callable[[int], int]) -> Placement:
    """Place blocks in model order. The search for a device begins at device 0, then at `next_start(device)`.

    `next_start` is given the device of the block before. Device numbers wrap round.

    Raises:
        InfeasibleError: a block fits on no device.
    """
    room, n_devices = MemoryHeadroom(view), view.n_devices
    owner: dict[Block, int] = {}
    start = 0
    for block in all_blocks(view.costs.shape):
        if block.kind is Kind.HEAD:
            fits = room.groups_room(block.layer) > 0
        else:
            fits = room.with_single(block.kind) <= room.capacity
        able = np.flatnonzero(fits)  # ascending
        if not len(able):
            raise view.infeasible(block, room.total.tolist())
        device = int(able[np.searchsorted(able, start) % len(able)])  # the first from `start` on
        if block.kind is Kind.HEAD:
            room.add_groups(block.layer, np.bincount([device], minlength=n_devices))
        else:
            room.add_single(block.kind, device)
        owner[block] = device
        start = next_start(device) % n_devices
    return Placement(owner)
