"""Placement: the device of every block, its validity, and the moves between two placements. No costs, no time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, shards
from edgeemu_kernels.shape import ModelShape


class PlacementError(EdgeemuError):
    """Raised for a placement that leaves a block without a device, or names a device that does not exist."""


class Move(NamedTuple):
    """Move of one block. `ends_meet`: the target has, or gets, the other end of the model, whose table it can share."""

    block: Block
    source: int
    target: int
    ends_meet: bool = False


@lru_cache(maxsize=4)
def _undivided(shape: ModelShape) -> frozenset[Block]:
    return frozenset(all_blocks(shape))


@lru_cache(maxsize=16)
def _divided(shape: ModelShape, firsts: frozenset[Block]) -> frozenset[Block]:
    """All blocks of a model, of which those are divided that have these first shards."""
    parts = (shards(shape, first.kind, first.layer) for first in firsts)
    return (_undivided(shape) - {first.whole for first in firsts}).union(*parts)


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
        if self.owner.keys() != _undivided(shape):
            self._check_blocks(shape)
        held = set(self.owner.values())
        if min(held) >= 0 and max(held) < n_devices:
            return
        for block, device in self.owner.items():
            if not 0 <= device < n_devices:
                raise PlacementError(f"{block} is on device {device}, but there are {n_devices} devices")

    def _check_blocks(self, shape: ModelShape) -> None:
        firsts = frozenset(self.owner.keys() & _first_shards(shape.n_layers))
        if self.owner.keys() == _divided(shape, firsts):
            return
        blocks = set(_undivided(shape))
        for kind, layer in {(block.kind, block.layer) for block in self.owner if block.is_shard}:
            blocks.discard(Block(kind, layer))
            if 0 <= layer < shape.n_layers:
                blocks.update(shards(shape, kind, layer))
        for block in sorted(blocks ^ self.owner.keys()):
            where = "is placed but not part of the model" if block in self.owner else "is on no device"
            raise PlacementError(f"{block} {where}")

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

    def left_by(self, lost: Collection[int]) -> "Placement":
        """Placement when devices have lost what they held: those blocks are nowhere.

        Owners of blocks that are nowhere are below 0: `~device`, for the device that has lost them, and may be there
        again.
        """
        if not lost:
            return self
        return Placement({block: ~device if device in lost else device for block, device in self.owner.items()})


def rings_of(placement: Placement, n_layers: int) -> list[tuple[int, ...]]:
    """Devices that share the divided parts of each layer, ascending; none where nothing is divided."""
    heads: dict[int, set[int]] = defaultdict(set)  # devices of each layer's groups
    members: dict[int, set[int]] = defaultdict(set)
    divided = set[int]()  # layers with shards of a projection, which belong to their groups
    for (kind, layer, group), device in placement.owner.items():
        if kind is Kind.HEAD:
            heads[layer].add(device)
        elif group >= 0:
            members[layer].add(device)
            if kind is Kind.PROJ:
                divided.add(layer)
    return [tuple(sorted(members[at] | heads[at] if at in divided else members[at])) for at in range(n_layers)]


@lru_cache(maxsize=4)
def _first_shards(n_layers: int) -> frozenset[Block]:
    return frozenset(Block(kind, layer, 0) for kind in (Kind.PROJ, Kind.FFN) for layer in range(n_layers))


def is_divided(placement: Placement, n_layers: int) -> bool:
    """Whether any projection or feed-forward of a placement, in which all blocks are, is in shards."""
    return not placement.owner.keys().isdisjoint(_first_shards(n_layers))


class Regrouping(NamedTuple):
    """Shards of one block that a device puts together at a commit: they are in its memory twice meanwhile."""

    device: int
    parts: tuple[Block, ...]


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
    meeting = ends_meeting((before[EMBED], after[EMBED]), (before[LM_HEAD], after[LM_HEAD]))
    moved = sorted(block for block in before if before[block] != after[block])
    return [Move(block, before[block], after[block], block.kind in meeting) for block in moved]


def ends_meeting(embeds: tuple[int, int], lm_heads: tuple[int, int]) -> set[Kind]:
    """Ends that move to where the other is, or goes too: then they need no table, if the model ties the two.

    Given are the devices of each end before and after. If both go to one device, the embedding brings the table.
    """
    (embed, new_embed), (lm_head, new_lm_head) = embeds, lm_heads
    meeting = set[Kind]()
    if new_embed != embed and new_embed == lm_head:
        meeting.add(Kind.EMBED)
    if new_lm_head != lm_head and new_lm_head in embeds:
        meeting.add(Kind.LM_HEAD)
    return meeting


def regroupings(old: Placement, new: Placement, moved: Sequence[Move] | None = None) -> list[Regrouping]:
    """Shards that devices put together on the way from `old` to `new`, in block order. `moved`: its moves, if known.

    A device does so if it is to have other shards of a block than it has: also what it keeps of a whole, or all shards
    that become one. A whole of which it keeps all shards is as it was, and so are all shards that become a whole there.
    """
    moved = moves(old, new) if moved is None else moved
    shards = [move for move in moved if move.block.is_shard]
    changed = {(*move.block[:2], at) for move in shards for at in (move.source, move.target)}  # kind, layer, device
    parts: dict[tuple[Kind, int, int], list[Block]] = defaultdict(list)
    for block, device in _as_divided(new, old).items() if changed else ():
        kind, layer, group = block
        if group >= 0 and (kind, layer, device) in changed:
            parts[kind, layer, device].append(block)
    return [Regrouping(part[-1], tuple(sorted(parts[part]))) for part in sorted(parts)]


def _as_divided(placement: Placement, other: Placement) -> dict[Block, int]:
    """Owner of every block of a placement, with those in shards that are in shards in `other`."""
    owner = dict(placement.owner)
    for block in other.owner.keys() - placement.owner.keys():
        if block.is_shard and block.whole in placement.owner:
            owner[block] = placement.owner[block.whole]
            owner.pop(block.whole, None)
    return owner
