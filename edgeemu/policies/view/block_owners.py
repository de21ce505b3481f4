"""Owners of a model's blocks on chosen devices, as arrays: heads, and projections and feed-forward blocks in shards."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, proj, shards
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

BoolArray = NDArray[np.bool_]
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
        owner, blocks, place = placement.owner, _blocks(shape), np.full(int(devices[-1]) + 1, IN_SHARDS)
        place[devices] = np.arange(len(devices))  # of each device
        split_projs = tuple(block not in owner for block in blocks.projs)
        split_ffns = tuple(block not in owner for block in blocks.ffns)
        order = _block_order(shape, split_projs, split_ffns)
        found = place[np.array(order.held(owner), np.int64)]  # [n_held]
        ends, heads, projs, columns, ffns, units = (found[begin:end] for begin, end in pairwise(order.ends))
        heads = heads.reshape(shape.n_layers, shape.n_groups)
        if len(columns) and (columns.reshape(-1, shape.n_groups) != heads[order.split_projs]).any():
            return None
        all_projs, all_ffns = np.full((2, shape.n_layers), IN_SHARDS)
        all_projs[~order.split_projs], all_ffns[~order.split_ffns] = projs, ffns
        all_units = np.repeat(all_ffns[:, None], shape.ffn_units, 1)
        all_units[order.split_ffns] = units.reshape(-1, shape.ffn_units)
        return cls(ends, heads, all_projs, all_ffns, all_units)

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


class _BlockOrder(NamedTuple):
    """Order in which devices of blocks are looked up: ends, heads, whole projections, columns, whole blocks, units."""

    held: Callable[[Mapping[Block, int]], tuple[int, ...]]
    ends: list[int]  # where each kind begins, and the last ends
    split_projs: BoolArray  # [n_layers]
    split_ffns: BoolArray  # [n_layers]


@lru_cache(maxsize=16)
def _block_order(shape: ModelShape, split_projs: tuple[bool, ...], split_ffns: tuple[bool, ...]) -> _BlockOrder:
    """The order where these layers are divided."""
    blocks, parts = _blocks(shape), [[EMBED, LM_HEAD]]
    parts.append(blocks.heads)
    for split, wholes, shares in ((split_projs, blocks.projs, blocks.columns), (split_ffns, blocks.ffns, blocks.units)):
        parts.append([whole for whole, divided in zip(wholes, split, strict=True) if not divided])
        parts.append([part for share, divided in zip(shares, split, strict=True) if divided for part in share])
    ends = list(accumulate(map(len, parts), initial=0))
    return _BlockOrder(itemgetter(*chain.from_iterable(parts)), ends, np.array(split_projs), np.array(split_ffns))
