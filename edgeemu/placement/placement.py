"""Placement: the device of every block, its validity, and the moves between two placements. No costs, no time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Block, Kind, all_blocks, n_shards, shards
from edgeemu_kernels.shape import ModelShape


class PlacementError(EdgeemuError):
    """Raised for a placement that leaves a block without a device, or names a device that does not exist."""


class Move(NamedTuple):
    block: Block
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Owner of every block, as a device's index in the cluster.

    A layer's projection is one block or all of its shards, and so is its feed-forward.
    """

    owner: Mapping[Block, int]

    def check(self, shape: ModelShape, n_devices: int) -> None:
        """Check that every block of the model is on exactly one device that exists.

        Raises:
            PlacementError: naming the first block that breaks this.
        """
        blocks = set(all_blocks(shape))
        for kind, layer in {(block.kind, block.layer) for block in self.owner if block.is_shard}:
            blocks.discard(Block(kind, layer))
            if 0 <= layer < shape.n_layers:
                blocks.update(shards(shape, kind, layer))
        for block in sorted(blocks ^ self.owner.keys()):
            where = "is placed but not part of the model" if block in self.owner else "is on no device"
            raise PlacementError(f"{block} {where}")
        for block, device in self.owner.items():
            if not 0 <= device < n_devices:
                raise PlacementError(f"{block} is on device {device}, but there are {n_devices} devices")

    def groups(self, layer: int, n_groups: int) -> dict[int, tuple[int, ...]]:
        """Groups of `layer` on each device that has some, both ascending."""
        held: dict[int, list[int]] = defaultdict(list)
        for group in range(n_groups):
            held[self.owner[Block(Kind.HEAD, layer, group)]].append(group)
        return {device: tuple(held[device]) for device in sorted(held)}

    def shares(self, kind: Kind, layer: int, count: int) -> dict[int, tuple[int, ...]]:
        """Shards of a layer's projection or feed-forward on each device that has some, both ascending.

        Empty for an undivided block. `count` is the number of shards (`blocks.n_shards`).
        """
        if Block(kind, layer, 0) not in self.owner:
            return {}
        held: dict[int, list[int]] = defaultdict(list)
        for index in range(count):
            held[self.owner[Block(kind, layer, index)]].append(index)
        return {device: tuple(held[device]) for device in sorted(held)}

    def on(self, device: int) -> list[Block]:
        """Blocks that `device` owns, in the order of `owner`."""
        return [block for block, owner in self.owner.items() if owner == device]

    def devices(self) -> list[int]:
        """Devices that own a block, ascending."""
        return sorted(set(self.owner.values()))

    def moved(self, blocks: Iterable[Block], target: int) -> "Placement":
        """Placement with `blocks` on `target` and all others as they are."""
        return Placement({**self.owner, **dict.fromkeys(blocks, target)})


def ring_of(placement: Placement, shape: ModelShape, layer: int) -> tuple[int, ...]:
    """Devices that share the divided parts of a layer, ascending; none if nothing is divided."""
    members: set[int] = set()
    if shares := placement.shares(Kind.PROJ, layer, n_shards(shape, Kind.PROJ)):
        members |= {*shares, *placement.groups(layer, shape.n_groups)}
    members |= set(placement.shares(Kind.FFN, layer, n_shards(shape, Kind.FFN)))
    return tuple(sorted(members))


def is_divided(placement: Placement) -> bool:
    """Whether any projection or feed-forward is in shards."""
    return any(block.kind in (Kind.PROJ, Kind.FFN) and block.group >= 0 for block in placement.owner)


class Regrouping(NamedTuple):
    """Block that a device cuts into shards at a commit, or puts together from them.

    `copied` are the shards that it keeps of the whole, or all that it puts together: they are in its memory twice
    meanwhile. None, if the device keeps all shards: nothing is copied.
    """

    device: int
    copied: tuple[Block, ...]


def moves(old: Placement, new: Placement) -> list[Move]:
    """Moves that lead from `old` to `new`, in block order.

    A block that only one of the two divides moves in shards: those that are not yet where they are to be.
    Cutting it and putting it together moves nothing.

    Raises:
        PlacementError: they are not placements of one model.
    """
    before, after = _as_divided(old, new), _as_divided(new, old)
    if different := before.keys() ^ after.keys():
        raise PlacementError(f"{min(different)} is in only one of the two placements")
    return [Move(block, before[block], after[block]) for block in sorted(before) if before[block] != after[block]]


def regroupings(old: Placement, new: Placement) -> list[Regrouping]:
    """Blocks that a device cuts or puts together on the way from `old` to `new`, in block order."""
    found = []
    for at, (one, other) in enumerate(((old, new), (new, old))):
        by_whole: dict[Block, list[Block]] = defaultdict(list)  # of blocks that `one` has whole, and `other` divided
        for block in other.owner.keys() - one.owner.keys():
            if block.is_shard:
                by_whole[block.whole].append(block)
        for whole, parts in by_whole.items():
            device = one.owner[whole]
            kept = [block for block in parts if other.owner[block] == device]
            copied = [] if len(kept) == len(parts) else parts if at else kept
            found.append((whole, Regrouping(device, tuple(sorted(copied)))))
    return [regrouping for _, regrouping in sorted(found)]


def _as_divided(placement: Placement, other: Placement) -> dict[Block, int]:
    """Owner of every block of a placement, with those in shards that are in shards in `other`."""
    owner = dict(placement.owner)
    for block in other.owner.keys() - placement.owner.keys():
        if block.is_shard and block.whole in placement.owner:
            owner[block] = placement.owner[block.whole]
            owner.pop(block.whole, None)
    return owner
