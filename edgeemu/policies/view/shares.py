"""Placements with divided layers as arrays of shares, many at once. Knows block names; no costs, no time.

A projection is whole on one device, or divided with the heads: the columns of a group are where the group is. A
feed-forward block is in units; whole is who has all of them. So a layer is how many groups and units each device has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, assign_groups
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, n_shards, proj, shards
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

WITH_HEADS = -1  # in place of the device of a projection
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShareArrays:
    """A batch of k placements on n devices."""

    embed: IntArray  # [k] device
    lm_head: IntArray  # [k] device
    heads: IntArray  # [k, n_layers, n] number of groups
    proj: IntArray  # [k, n_layers] device, or WITH_HEADS
    units: IntArray  # [k, n_layers, n] number of units of the feed-forward block

    def __len__(self) -> int:
        return len(self.embed)

    @property
    def whole_proj(self) -> BoolArray:
        """Whether projections are whole: [k, n_layers]."""
        whole: BoolArray = np.greater_equal(self.proj, 0)
        return whole

    @property
    def whole_ffn(self) -> BoolArray:
        """Whether feed-forward blocks are whole: [k, n_layers]."""
        whole: BoolArray = np.equal((self.units > 0).sum(-1), 1)
        return whole

    @property
    def rings(self) -> BoolArray:
        """Devices that share the divided parts of a layer: [k, n_layers, n]."""
        attention = ~self.whole_proj[..., None] & (self.heads > 0)
        return attention | (~self.whole_ffn[..., None] & (self.units > 0))

    def taken(self, chosen: IntArray | Sequence[int] | BoolArray) -> Self:
        """Only the chosen placements."""
        at = np.asarray(chosen)
        return type(self)(self.embed[at], self.lm_head[at], self.heads[at], self.proj[at], self.units[at])

    def where(self, chosen: BoolArray, other: Self) -> Self:
        """The placements that are chosen, [k], and else those of another batch."""
        return type(self)(
            np.where(chosen, self.embed, other.embed),
            np.where(chosen, self.lm_head, other.lm_head),
            np.where(chosen[:, None, None], self.heads, other.heads),
            np.where(chosen[:, None], self.proj, other.proj),
            np.where(chosen[:, None, None], self.units, other.units),
        )

    def repeated(self, times: int) -> Self:
        """Copies of one placement, which can be changed."""
        first = np.zeros(times, np.int64)
        return self.taken(first)

    def normal(self) -> Self:
        """Write a projection that is divided with heads of one device as whole there."""
        alone = (self.heads > 0).sum(-1) == 1  # [k, n_layers]
        proj = np.where((self.proj < 0) & alone, self.heads.argmax(-1), self.proj)
        return type(self)(self.embed, self.lm_head, self.heads, proj, self.units)

    def keys(self) -> list[bytes]:
        """A key of each placement: equal for equal ones."""
        k = len(self)
        parts = (self.embed, self.lm_head, self.heads, self.proj, self.units)
        flat = np.concatenate([part.reshape(k, -1) for part in parts], axis=1)
        return [row.tobytes() for row in flat.astype(np.int32)]

    @classmethod
    def joined(cls, batches: Sequence["ShareArrays"]) -> Self:
        """All placements of several batches."""
        return cls(
            np.concatenate([each.embed for each in batches]),
            np.concatenate([each.lm_head for each in batches]),
            np.concatenate([each.heads for each in batches]),
            np.concatenate([each.proj for each in batches]),
            np.concatenate([each.units for each in batches]),
        )

    @classmethod
    def of(cls, placement: Placement, shape: ModelShape, devices: IntArray) -> Self | None:
        """One placement on `devices` [n], ascending; None: a projection is divided otherwise than with its heads."""
        owner, index = placement.owner, {device: at for at, device in enumerate(devices.tolist())}
        n, n_layers = len(devices), shape.n_layers
        heads = np.zeros((1, n_layers, n), np.int64)
        units = np.zeros((1, n_layers, n), np.int64)
        projs = np.full((1, n_layers), WITH_HEADS)
        for layer in range(n_layers):
            for group in range(shape.n_groups):
                heads[0, layer, index[owner[head(layer, group)]]] += 1
            if (whole := owner.get(proj(layer))) is not None:
                projs[0, layer] = index[whole]
            elif any(owner[proj(layer, g)] != owner[head(layer, g)] for g in range(shape.n_groups)):
                return None
            if (whole := owner.get(ffn(layer))) is not None:
                units[0, layer, index[whole]] = n_shards(shape, Kind.FFN)
            else:
                for block in shards(shape, Kind.FFN, layer):
                    units[0, layer, index[owner[block]]] += 1
        ends = np.array([[index[owner[EMBED]]], [index[owner[LM_HEAD]]]])
        return cls(ends[0], ends[1], heads, projs, units)

    def placement(self, number: int, shape: ModelShape, devices: IntArray, old: Placement | None = None) -> Placement:
        """One of them as blocks on `devices` [n]; as many groups and units as possible stay where `old` has them."""
        where = devices.tolist()
        owner: dict[Block, int] = {EMBED: where[int(self.embed[number])]}
        whole_ffn = self.whole_ffn[number]
        for layer in range(shape.n_layers):
            groups = [head(layer, group) for group in range(shape.n_groups)]
            at = _assigned(self.heads[number, layer], groups, devices, old)
            owner |= dict(zip(groups, at, strict=True))
            gather = int(self.proj[number, layer])
            if gather >= 0:
                owner[proj(layer)] = where[gather]
            else:
                owner |= {proj(layer, group): device for group, device in enumerate(at)}
            if whole_ffn[layer]:
                owner[ffn(layer)] = where[int(self.units[number, layer].argmax())]
            else:
                parts = shards(shape, Kind.FFN, layer)
                owner |= dict(zip(parts, _assigned(self.units[number, layer], parts, devices, old), strict=True))
        owner[LM_HEAD] = where[int(self.lm_head[number])]
        return Placement(owner)


def _assigned(counts: IntArray, blocks: Sequence[Block], devices: IntArray, old: Placement | None) -> list[int]:
    """A device for each of the blocks, so that each device has its count: [n] -> one for each block."""
    before = None
    if old is not None:
        held = [old.owner.get(block, old.owner.get(Block(block.kind, block.layer))) for block in blocks]
        index = {device: at for at, device in enumerate(devices.tolist())}
        before = np.array([index[at] for at in held if at is not None], np.int64)
    assigned: list[int] = devices[assign_groups(counts, before)].tolist()
    return assigned
