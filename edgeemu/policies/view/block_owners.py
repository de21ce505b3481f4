"""Owners of a model's blocks on chosen devices, as arrays: heads, and projections and feed-forward blocks in shards."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, proj, shards
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

IN_SHARDS = -1  # in place of the device of a block; the shards of a projection are with their heads


class BlockOwners(NamedTuple):
    """Devices of one placement's blocks, as places among chosen ones."""

    ends: IntArray  # [2] embedding, output matrix
    heads: IntArray  # [n_layers, n_groups]
    projs: IntArray  # [n_layers] or IN_SHARDS
    ffns: IntArray  # [n_layers] or IN_SHARDS
    units: IntArray  # [n_layers, ffn_units] of whole blocks all on one device

    @classmethod
    def of(cls, placement: Placement, shape: ModelShape, devices: IntArray) -> Self | None:
        """Owners on `devices` [n], ascending; None: a projection is divided otherwise than with its heads."""
        owner, n_layers, blocks = placement.owner, shape.n_layers, _blocks(shape)
        place = np.full(int(devices[-1]) + 1, IN_SHARDS)  # of each device
        place[devices] = np.arange(len(devices))
        heads = place[_held(owner, blocks.heads)].reshape(n_layers, shape.n_groups)
        projs = np.array([owner.get(block, IN_SHARDS) for block in blocks.projs])  # [n_layers]
        ffns = np.array([owner.get(block, IN_SHARDS) for block in blocks.ffns])  # [n_layers]
        split = np.flatnonzero(projs < 0)  # layers whose projection is divided
        if len(split):
            columns = chain.from_iterable(blocks.columns[layer] for layer in split.tolist())
            if (place[_held(owner, list(columns))] != heads[split].ravel()).any():
                return None
        projs = np.where(projs < 0, IN_SHARDS, place[projs])
        ffns = np.where(ffns < 0, IN_SHARDS, place[ffns])
        units = np.repeat(ffns[:, None], shape.ffn_units, 1)
        split = np.flatnonzero(ffns < 0)  # layers whose feed-forward block is divided
        if len(split):
            parts = list(chain.from_iterable(blocks.units[layer] for layer in split.tolist()))
            units[split] = place[_held(owner, parts)].reshape(len(split), -1)
        return cls(place[[owner[EMBED], owner[LM_HEAD]]], heads, projs, ffns, units)

    def placement(self, shape: ModelShape, devices: IntArray) -> Placement:
        """The placement of the blocks on `devices` [n]."""
        blocks, (embed, lm_head) = _blocks(shape), devices[self.ends].tolist()
        heads, units = devices[self.heads].tolist(), devices[self.units].tolist()
        owner: dict[Block, int] = {EMBED: embed}
        for layer, (whole_proj, whole_ffn) in enumerate(zip(self.projs.tolist(), self.ffns.tolist(), strict=True)):
            owner.update(zip(blocks.of_layers[layer], heads[layer], strict=True))
            if whole_proj >= 0:
                owner[blocks.projs[layer]] = int(devices[whole_proj])
            else:
                owner.update(zip(blocks.columns[layer], heads[layer], strict=True))
            if whole_ffn >= 0:
                owner[blocks.ffns[layer]] = int(devices[whole_ffn])
            else:
                owner.update(zip(blocks.units[layer], units[layer], strict=True))
        owner[LM_HEAD] = lm_head
        return Placement(owner)


class _Blocks(NamedTuple):
    """Names of a model's blocks and shards, made once: all heads, and by layer."""

    heads: list[Block]
    of_layers: list[list[Block]]  # the heads of each
    projs: list[Block]
    ffns: list[Block]
    columns: list[list[Block]]  # of divided projections
    units: list[list[Block]]  # of divided feed-forward blocks


@lru_cache(maxsize=4)
def _blocks(shape: ModelShape) -> _Blocks:
    layers = range(shape.n_layers)
    heads = [[head(layer, group) for group in range(shape.n_groups)] for layer in layers]
    return _Blocks(
        list(chain.from_iterable(heads)),
        heads,
        [proj(layer) for layer in layers],
        [ffn(layer) for layer in layers],
        [shards(shape, Kind.PROJ, layer) for layer in layers],
        [shards(shape, Kind.FFN, layer) for layer in layers],
    )


def _held(owner: Mapping[Block, int], blocks: Sequence[Block]) -> IntArray:
    """The devices of some blocks: [n_blocks]."""
    return np.fromiter(map(owner.__getitem__, blocks), np.int64, len(blocks))
