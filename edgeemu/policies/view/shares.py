"""Placements with divided layers as arrays of shares, many at once. Knows block names; no costs, no time.

A projection is whole on one device, or divided with the heads: the columns of a group are where the group is. A
feed-forward block is in units; whole is who has all of them. So a layer is how many groups and units each device has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, assign_groups
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, proj, shards
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
        owner, n, n_layers, n_groups = placement.owner, len(devices), shape.n_layers, shape.n_groups
        place = np.full(int(devices[-1]) + 1, -1)  # of each device
        place[devices] = np.arange(n)
        blocks = _blocks(shape)
        at = place[[owner[block] for block in blocks.heads]].reshape(n_layers, n_groups)
        projs = np.array([[owner.get(block, WITH_HEADS) for block in blocks.projs]])  # [1, n_layers]
        for layer in np.flatnonzero(projs[0] < 0).tolist():
            if (place[[owner[block] for block in blocks.columns[layer]]] != at[layer]).any():
                return None
        projs = np.where(projs < 0, WITH_HEADS, place[projs])
        units = np.zeros((1, n_layers, n), np.int64)
        for layer, block in enumerate(blocks.ffns):
            if (whole := owner.get(block)) is not None:
                units[0, layer, place[whole]] = len(blocks.units[layer])
            else:
                held = place[[owner[unit] for unit in blocks.units[layer]]]
                units[0, layer] = np.bincount(held, minlength=n)
        ends = place[[owner[EMBED], owner[LM_HEAD]]]
        return cls(ends[:1], ends[1:], _counted(at, n)[None], projs, units)

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
                parts = _blocks(shape).units[layer]
                owner |= dict(zip(parts, _assigned(self.units[number, layer], parts, devices, old), strict=True))
        owner[LM_HEAD] = where[int(self.lm_head[number])]
        return Placement(owner)


class _Blocks(NamedTuple):
    """Names of a model's blocks and shards, made once: all heads, and by layer."""

    heads: list[Block]
    projs: list[Block]
    ffns: list[Block]
    columns: list[list[Block]]  # of divided projections
    units: list[list[Block]]  # of divided feed-forward blocks


@lru_cache(maxsize=4)
def _blocks(shape: ModelShape) -> _Blocks:
    layers = range(shape.n_layers)
    return _Blocks(
        [head(layer, group) for layer in layers for group in range(shape.n_groups)],
        [proj(layer) for layer in layers],
        [ffn(layer) for layer in layers],
        [shards(shape, Kind.PROJ, layer) for layer in layers],
        [shards(shape, Kind.FFN, layer) for layer in layers],
    )


def _counted(at: IntArray, n: int) -> IntArray:
    """Groups of each layer on each device: [n_layers, n_groups] of devices -> [n_layers, n]."""
    n_layers = len(at)
    flat = (at + np.arange(n_layers)[:, None] * n).ravel()
    return np.bincount(flat, minlength=n_layers * n).reshape(n_layers, n)


def _assigned(counts: IntArray, blocks: Sequence[Block], devices: IntArray, old: Placement | None) -> list[int]:
    """A device for each of the blocks, so that each device has its count: [n] -> one for each block."""
    before = None
    if old is not None:
        held = [old.owner.get(block, old.owner.get(Block(block.kind, block.layer))) for block in blocks]
        index = {device: at for at, device in enumerate(devices.tolist())}
        before = np.array([index[at] for at in held if at is not None], np.int64)
    assigned: list[int] = devices[assign_groups(counts, before)].tolist()
    return assigned
