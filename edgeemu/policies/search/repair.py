"""A placement without the devices that were lost, which leaves alone what survivors hold. Pure."""

from dataclasses import replace
from functools import partial

from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.memory import Usage
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices

LESS = 0.9  # of its memory, for a device that would refuse


def repaired(view: ClusterView, current: Placement) -> Placement:
    """Give what lost devices had to survivors: layer by layer, the parts of one together where one has room for them.

    Each goes to the device that computes it soonest, with the way of x from the layer before and to the one behind it.
    Devices that would refuse what they are given get less.

    Raises:
        InfeasibleError: the survivors have no room.
    """
    within = view
    while True:
        found = _assigned(within, current)
        refusing = refusing_devices(view, current, found)
        if not refusing:
            return found
        within = replace(
            within,
            devices=tuple(
                replace(device, memory_bytes=int(LESS * device.memory_bytes)) if index in refusing else device
                for index, device in enumerate(within.devices)
            ),
        )


def _assigned(view: ClusterView, current: Placement) -> Placement:
    """Give what lost devices had to those that have room for it afterwards."""
    usages = view.empty_usages()
    orphans: dict[int, list[Block]] = {}
    n_layers = view.costs.shape.n_layers
    places = {block: _place(block, n_layers) for block in current.owner}
    for block, device in sorted(current.owner.items(), key=lambda item: (places[item[0]], item[0])):
        if device in view.lost:
            orphans.setdefault(places[block], []).append(block)
        else:
            usages[device].add(block)
    owner = dict(current.owner)
    holders: dict[int, set[int]] = {}
    for block, device in owner.items():
        if device not in view.lost:
            holders.setdefault(places[block], set()).add(device)
    for place, blocks in orphans.items():
        for some in _together(view, usages, blocks):
            fitting = _fitting(view, usages, some)
            target = min(fitting, key=partial(_cost_s, view, holders, place, some))
            for block in some:
                usages[target].add(block)
                owner[block] = target
            holders.setdefault(place, set()).add(target)
    return Placement(owner)


def _together(view: ClusterView, usages: list[Usage], blocks: list[Block]) -> list[list[Block]]:
    """Blocks that go to one device: all of them if any has room, else each by itself."""
    return [blocks] if _fitting(view, usages, blocks) else [[block] for block in blocks]


def _fitting(view: ClusterView, usages: list[Usage], blocks: list[Block]) -> list[int]:
    """Devices that have room for blocks, also those that were lost and are there again.

    Raises:
        InfeasibleError: a single block has no room.
    """
    found = [
        device
        for device, usage in enumerate(usages)
        if (room := view.devices[device].memory_bytes) and usage.page_with(*blocks).total_bytes <= room
    ]
    if not found and len(blocks) == 1:
        raise view.infeasible(blocks[0], usages)
    return found


def _cost_s(view: ClusterView, holders: dict[int, set[int]], place: int, blocks: list[Block], device: int) -> float:
    """Time of blocks on a device, and of x from and to the devices around them, by the longest of each."""
    bits = 8.0 * view.costs.activation_bytes(1)
    work_s = sum(view.time_s(block.whole if block.is_shard else block, device) for block in blocks)
    before = (view.links.pair(other, device, bits) for other in holders.get(place - 1, ()))
    beside = (view.links.pair(other, device, bits) for other in holders.get(place, ()))
    behind = (view.links.pair(device, other, bits) for other in holders.get(place + 1, ()))
    return work_s + max(before, default=0.0) + 2 * max(beside, default=0.0) + max(behind, default=0.0)


def _place(block: Block, n_layers: int) -> int:
    """Number of a layer; the embedding is before the first, and the output matrix behind the last."""
    if block.kind is Kind.LM_HEAD:
        return n_layers
    return -1 if block.kind is Kind.EMBED else block.layer
