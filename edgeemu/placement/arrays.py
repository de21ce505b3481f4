"""Placement as arrays, for policies and closed forms. Knows block names; no costs, no time.

The groups of a layer are identical in cost, so most computations need only their number on each device.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.blocks import Block, Kind, all_blocks
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu_kernels.shape import ModelShape

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
FEW = 3  # layers up to which it is quicker to assign the groups of one after the other


@lru_cache(maxsize=16)
def blocks_of(shape: ModelShape) -> tuple[Block, ...]:
    """Blocks in model order, computed once: embed, then each layer's groups, proj and ffn, then lm_head."""
    return tuple(all_blocks(shape))


@dataclass(frozen=True, slots=True)
class PlacementArrays:
    """Owner of every block, as a device's index."""

    embed: int
    lm_head: int
    heads: IntArray  # [n_layers, n_groups]
    proj: IntArray  # [n_layers]
    ffn: IntArray  # [n_layers]

    @classmethod
    def of(cls, placement: Placement, shape: ModelShape) -> Self:
        """Build from a placement. Raises PlacementError for a block that is not placed, or that is in shards."""
        owner, blocks = placement.owner, blocks_of(shape)
        try:  # most placements are in model order
            in_order = owner.values() if tuple(owner) == blocks else map(owner.__getitem__, blocks)
            owners = np.fromiter(in_order, np.int64, len(blocks))  # [n_blocks]
        except KeyError as missing:
            raise PlacementError(f"{missing.args[0]} is on no device as a whole, and shards have no layout") from None
        layers = owners[1:-1].reshape(shape.n_layers, shape.n_groups + 2)  # [n_layers, n_groups + 2]
        return cls(int(owners[0]), int(owners[-1]), layers[:, :-2], layers[:, -2], layers[:, -1])

    def placement(self, shape: ModelShape) -> Placement:
        layers = np.concatenate([self.heads, self.proj[:, None], self.ffn[:, None]], axis=1)
        return Placement(dict(zip(blocks_of(shape), [self.embed, *layers.ravel().tolist(), self.lm_head], strict=True)))

    def counts(self, n_devices: int) -> IntArray:
        """Number of groups of each layer on each device: [n_layers, n_devices]."""
        n_layers = len(self.proj)
        flat = (self.heads + np.arange(n_layers)[:, None] * n_devices).ravel()  # [n_layers * n_groups]
        return np.bincount(flat, minlength=n_layers * n_devices).reshape(n_layers, n_devices)

    def heads_by(self, counts: IntArray) -> IntArray:
        """Owners of groups so that each device has its count, [n_layers, n_devices]; as many as possible stay."""
        heads = self.heads.copy()
        changed = np.flatnonzero((counts != self.counts(counts.shape[1])).any(1))  # [n_changed]
        if len(changed):
            heads[changed] = assign_all_groups(counts[changed], heads[changed])
        return heads

    def same(self, other: "PlacementArrays") -> bool:
        return self is other or (
            (self.embed, self.lm_head) == (other.embed, other.lm_head)
            and np.array_equal(self.proj, other.proj)
            and np.array_equal(self.ffn, other.ffn)
            and np.array_equal(self.heads, other.heads)
        )


class MovedBlocks(NamedTuple):
    """Blocks of one kind whose device changes: [n_moved] each."""

    kind: Kind
    sources: IntArray
    targets: IntArray


def moved_blocks(old: PlacementArrays, new: PlacementArrays) -> list[MovedBlocks]:
    """Blocks whose device changes, by kind; kinds of which none changes are left out."""
    found = []
    for kind, befores, afters in (
        (Kind.EMBED, np.array([old.embed]), np.array([new.embed])),
        (Kind.LM_HEAD, np.array([old.lm_head]), np.array([new.lm_head])),
        (Kind.HEAD, old.heads, new.heads),
        (Kind.PROJ, old.proj, new.proj),
        (Kind.FFN, old.ffn, new.ffn),
    ):
        changed = befores != afters
        if changed.any():
            found.append(MovedBlocks(kind, befores[changed], afters[changed]))
    return found


def assign_all_groups(counts: IntArray, old: IntArray) -> IntArray:
    """`assign_groups` of several layers at once: [k, n_devices], [k, n_groups] -> [k, n_groups]."""
    n_layers, n_groups = old.shape
    if n_layers <= FEW:
        return np.array([assign_groups(*layer) for layer in zip(counts, old, strict=True)], np.int64)
    row = np.arange(n_layers)[:, None]
    order = old.argsort(axis=1, kind="stable")  # [k, n_groups] groups by device, ascending
    by_device, place = old[row, order], np.arange(n_groups)  # [k, n_groups], [n_groups]
    begins = np.ones((n_layers, n_groups), np.bool_)  # whether a group is the first of its device
    begins[:, 1:] = by_device[:, 1:] != by_device[:, :-1]
    before = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)  # [k, n_groups] others there before it
    stays = np.empty((n_layers, n_groups), np.bool_)
    stays[row, order] = before < counts[row, by_device]
    lacking = counts.copy()
    np.subtract.at(lacking, (np.nonzero(stays)[0], old[stays]), 1)
    heads = old.copy()
    layers, devices = np.nonzero(lacking)  # [m] each
    heads[~stays] = np.repeat(devices, lacking[layers, devices])
    return heads


def assign_groups(counts: IntArray, old: IntArray | None) -> IntArray:
    """Assign one layer's groups to devices so that each has its count: [n_devices] -> [n_groups].

    With `old` [n_groups], as many groups as possible stay where they are; the others go to devices that lack some, both
    in ascending order. It does not matter which groups stay, because all cost the same.
    """
    if old is None:
        return np.repeat(np.arange(len(counts)), counts)
    want = counts.tolist()
    owners = old.tolist()
    unplaced = []
    for group, device in enumerate(owners):
        if want[device]:
            want[device] -= 1
        else:
            unplaced.append(group)
    if unplaced:
        lacking = [device for device, count in enumerate(want) for _ in range(count)]
        for group, device in zip(unplaced, lacking, strict=True):
            owners[group] = device
    return np.array(owners, np.int64)


def runs(devices: IntArray) -> list[tuple[int, int]]:
    """Contiguous runs of layers on one device, as (first layer, end)."""
    if len(devices) == 1:
        return [(0, 1)]
    borders = [0, *(np.flatnonzero(np.diff(devices)) + 1).tolist(), len(devices)]
    return list(pairwise(borders))
