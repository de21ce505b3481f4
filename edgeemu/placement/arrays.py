"""Placement as arrays, for policies and closed forms. Knows block names; no costs, no time.

The groups of a layer are identical in cost, so most computations need only their number on each device.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.blocks import Block, Kind, all_blocks
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu_kernels.shape import ModelShape

IntArray = NDArray[np.int64]


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
        try:
            owners = np.array([owner[block] for block in blocks], np.int64)  # [n_blocks]
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
        changed = (counts != self.counts(counts.shape[1])).any(1)  # [n_layers]
        for layer in np.flatnonzero(changed).tolist():
            heads[layer] = assign_groups(counts[layer], heads[layer])
        return heads

    def same(self, other: "PlacementArrays") -> bool:
        return (
            (self.embed, self.lm_head) == (other.embed, other.lm_head)
            and np.array_equal(self.proj, other.proj)
            and np.array_equal(self.ffn, other.ffn)
            and np.array_equal(self.heads, other.heads)
        )


def moved_blocks(old: PlacementArrays, new: PlacementArrays) -> list[tuple[Kind, int, int]]:
    """Blocks whose device changes, as (kind, source, target)."""
    found = []
    for kind, before, after in ((Kind.EMBED, old.embed, new.embed), (Kind.LM_HEAD, old.lm_head, new.lm_head)):
        if before != after:
            found.append((kind, before, after))
    for kind, befores, afters in (
        (Kind.HEAD, old.heads, new.heads),
        (Kind.PROJ, old.proj, new.proj),
        (Kind.FFN, old.ffn, new.ffn),
    ):
        changed = befores != afters
        if changed.any():
            sources, targets = befores[changed].tolist(), afters[changed].tolist()
            found += [(kind, a, b) for a, b in zip(sources, targets, strict=True)]
    return found


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
    borders = [0, *(np.flatnonzero(np.diff(devices)) + 1).tolist(), len(devices)]
    return list(pairwise(borders))
