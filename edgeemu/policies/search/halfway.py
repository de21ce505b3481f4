"""Half of a change: what of it has room now, where the rest has room only after that has left. Pure.

Receivers hold what they have and what arrives until a migration is over. So a placement that every device has room for
may be out of reach in one migration: of two full devices that exchange layers, none can be first. With a third device,
or where only one of them is full, two migrations reach it.
"""

import numpy as np

from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.blocks_refused import refuses
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.migration_memory import refusing_devices


def halfway(view: ClusterView, current: Placement, target: Placement) -> Placement | None:
    """A placement between two, such that devices have room for the migration to it, and for the one from it.

    The attention of a layer, its feed-forward and each end of the model are moved as a whole, or stay. None: there is
    no such placement, or `target` can be reached at once.
    """
    refusing = set(refusing_devices(view, current, target))
    held = current.owner
    waiting = {
        _part(block) for block, device in target.owner.items() if device in refusing and held.get(block) != device
    }
    if not waiting:
        return None
    moving = {block: device for block, device in target.owner.items() if _part(block) not in waiting}
    middle = Placement({block: device for block, device in held.items() if _part(block) in waiting} | moving)
    if middle == current or not view.holds(middle) or view.has_refused(middle):
        return None
    if refusing_devices(view, current, middle) or refusing_devices(view, middle, target):
        return None
    return middle


def halfway_of_blocks(view: ClusterView, old: PlacementArrays, target: PlacementArrays) -> PlacementArrays | None:
    """`halfway` of undivided blocks, where all layers have one precision; it can be what devices have refused."""
    refusing = refuses(view, old, target)  # [n_devices]
    heads = ((old.heads != target.heads) & refusing[target.heads]).any(1)  # [n_layers] whose heads wait
    heads |= (old.proj != target.proj) & refusing[target.proj]
    ffns = (old.ffn != target.ffn) & refusing[target.ffn]  # [n_layers]
    embed, lm_head = (
        before if before != after and refusing[after] else after
        for before, after in ((old.embed, target.embed), (old.lm_head, target.lm_head))
    )
    middle = PlacementArrays(
        embed,
        lm_head,
        np.where(heads[:, None], old.heads, target.heads),
        np.where(heads, old.proj, target.proj),
        np.where(ffns, old.ffn, target.ffn),
    )
    if middle.same(old) or middle.same(target) or not MemoryHeadroom.of(view, middle).fits():
        return None
    return None if refuses(view, old, middle).any() or refuses(view, middle, target).any() else middle


def _part(block: Block) -> tuple[int, Kind]:
    """A key for the blocks that move together: the shards of a projection are with their heads."""
    return block.layer, Kind.HEAD if block.kind is Kind.PROJ else block.kind
