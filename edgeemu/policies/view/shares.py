"""Placements with divided layers as arrays of shares, many at once. Knows block names; no costs, no time.

A projection is whole on one device, or divided with the heads: the columns of a group are where the group is. A
feed-forward block is in units; whole is who has all of them. So a layer is how many groups and units each device has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, assign_all_groups
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
        at = place[_held(owner, blocks.heads)].reshape(n_layers, n_groups)
        projs = np.array([owner.get(block, WITH_HEADS) for block in blocks.projs])  # [n_layers]
        split = np.flatnonzero(projs < 0)  # layers whose projection is divided
        columns = chain.from_iterable(blocks.columns[layer] for layer in split.tolist())
        if (place[_held(owner, list(columns))] != at[split].ravel()).any():
            return None
        projs = np.where(projs < 0, WITH_HEADS, place[projs])
        wholes = [owner.get(block, -1) for block in blocks.ffns]
        units = np.zeros((n_layers, n), np.int64)
        split = np.flatnonzero(np.array(wholes) < 0)  # layers whose feed-forward block is divided
        parts = list(chain.from_iterable(blocks.units[layer] for layer in split.tolist()))
        units[split] = _counted(place[_held(owner, parts)].reshape(len(split), shape.ffn_units), n)
        for layer, whole in enumerate(wholes):
            if whole >= 0:
                units[layer, place[whole]] = len(blocks.units[layer])
        ends = place[[owner[EMBED], owner[LM_HEAD]]]
        return cls(ends[:1], ends[1:], _counted(at, n)[None], projs[None], units[None])

    def placement(self, number: int, shape: ModelShape, devices: IntArray, old: Placement | None = None) -> Placement:
        """One of them as blocks on `devices` [n]; as many groups and units as possible stay where `old` has them."""
        where, blocks, whole_ffn = devices.tolist(), _blocks(shape), self.whole_ffn[number]
        n_layers, n_groups = shape.n_layers, shape.n_groups
        heads = [blocks.heads[layer * n_groups : (layer + 1) * n_groups] for layer in range(n_layers)]
        groups, split = _assigned(self.heads[number], heads, devices, old), np.flatnonzero(~whole_ffn).tolist()
        assigned = _assigned(self.units[number, split], [blocks.units[layer] for layer in split], devices, old)
        units = dict(zip(split, assigned, strict=True))
        owner: dict[Block, int] = {EMBED: where[int(self.embed[number])]}
        for layer in range(n_layers):
            owner.update(zip(heads[layer], groups[layer], strict=True))
            gather = int(self.proj[number, layer])
            if gather >= 0:
                owner[blocks.projs[layer]] = where[gather]
            else:
                owner.update(zip(blocks.columns[layer], groups[layer], strict=True))
            if whole_ffn[layer]:
                owner[blocks.ffns[layer]] = where[int(self.units[number, layer].argmax())]
            else:
                owner.update(zip(blocks.units[layer], units[layer], strict=True))
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


def _held(owner: Mapping[Block, int], blocks: Sequence[Block]) -> IntArray:
    """The devices of some blocks: [n_blocks]."""
    return np.fromiter(map(owner.__getitem__, blocks), np.int64, len(blocks))


def _assigned(
    counts: IntArray, blocks: Sequence[Sequence[Block]], devices: IntArray, old: Placement | None
) -> list[list[int]]:
    """A device for each of the blocks of each layer, so that each device has its count: [n_layers, n]."""
    if not len(blocks):
        return []
    if old is None:
        before = np.zeros((len(blocks), len(blocks[0])), np.int64)
    else:
        place = np.full(int(devices[-1]) + 1, -1)  # of each device
        place[devices] = np.arange(len(devices))
        first = (each[0] if each[0] in old.owner else each[0].whole for each in blocks)
        divided = [each if one == each[0] else [one] * len(each) for each, one in zip(blocks, first, strict=True)]
        before = place[_held(old.owner, list(chain.from_iterable(divided)))].reshape(len(blocks), -1)
    assigned: list[list[int]] = devices[assign_all_groups(counts, before)].tolist()
    return assigned
