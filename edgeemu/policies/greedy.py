"""Greedy first fit, a baseline of the head-level paper (arXiv 2505.02533, section V). Pure."""

import numpy as np

from edgeemu.blocks import Block, Kind, all_blocks
from edgeemu.placement import Placement
from edgeemu.policies.keeping import placed_anew
from edgeemu.room import Room
from edgeemu.view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Blocks in model order, each to the first device, in the order of the scenario, that has room for it.

    Asked again, it places by the same rule what devices now have room for, whatever that moves [D]: the paper has its
    baselines decide at every interval as its own algorithm does, and does not say how.

    Raises:
        InfeasibleError: first call: a block fits nowhere.
        NoBetterPlacement: the same at a later call.
    """
    return placed_anew(_first_fit, view, current)


def _first_fit(view: ClusterView) -> Placement:
    room, n_devices = Room(view), len(view.devices)
    owner: dict[Block, int] = {}
    for block in all_blocks(view.costs.shape):
        if block.kind is Kind.HEAD:
            fits = room.groups_room(block.layer) > 0
        else:
            fits = room.with_single(block.kind) <= room.capacity
        device = int(fits.argmax())
        if not fits[device]:
            raise view.infeasible(block, room.total.tolist())
        if block.kind is Kind.HEAD:
            room.add_groups(block.layer, np.bincount([device], minlength=n_devices))
        else:
            room.add_single(block.kind, device)
        owner[block] = device
    return Placement(owner)
