"""Blocks dealt out one by one, each to the first device that has room, from some device on. Pure."""

from collections.abc import Callable

import numpy as np

from edgeemu.placement.blocks import Block, Kind, all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom


def dealt(view: ClusterView, next_turn: Callable[[int], int]) -> Placement:
    """Blocks in model order. The search begins at device 0, and after a block at `next_turn` of the device it went to.

    Raises:
        InfeasibleError: a block fits nowhere.
    """
    room, n_devices = MemoryHeadroom(view), len(view.devices)
    owner: dict[Block, int] = {}
    turn = 0
    for block in all_blocks(view.costs.shape):
        if block.kind is Kind.HEAD:
            fits = room.groups_room(block.layer) > 0
        else:
            fits = room.with_single(block.kind) <= room.capacity
        after = int(np.roll(fits, -turn).argmax())  # devices from this turn's on
        device = (turn + after) % n_devices
        if not fits[device]:
            raise view.infeasible(block, room.total.tolist())
        if block.kind is Kind.HEAD:
            room.add_groups(block.layer, np.bincount([device], minlength=n_devices))
        else:
            room.add_single(block.kind, device)
        owner[block] = device
        turn = next_turn(device) % n_devices
    return Placement(owner)
