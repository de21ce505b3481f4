"""Owners of a model's blocks as arrays: of heads, and of projections and feed-forward blocks whole or in shards."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, ffn, head, proj
from edgeemu.placement.placement import Placement
from edgeemu_kernels.shape import ModelShape

IN_SHARDS = -1  # in place of the device of a block; the shards of a projection are with their heads


class BlockOwners(NamedTuple):
    """Devices of one placement's blocks: of a cluster, or as places among chosen ones.

    They are in one array: of the embedding and the output matrix; of heads [n_layers, n_groups]; of projections, and of
    feed-forward blocks, or IN_SHARDS, [n_layers] each; of units [n_layers, ffn_units], of whole blocks all on one.
    """

    numbers: IntArray  # [2 + n_layers * (n_groups + 2 + ffn_units)]
    shape: ModelShape

    @property
    def ends(self) -> IntArray:
        """Embedding, output matrix: [2]."""
        return self.numbers[:2]

    @property
    def heads(self) -> IntArray:
        """Heads: [n_layers, n_groups]."""
        return self._part(1).reshape(self.shape.n_layers, -1)

    @property
    def projs(self) -> IntArray:
        """Projections, or IN_SHARDS: [n_layers]."""
        return self._part(2)

    @property
    def ffns(self) -> IntArray:
        """Feed-forward blocks, or IN_SHARDS: [n_layers]."""
        return self._part(3)

    @property
    def units(self) -> IntArray:
        """Units: [n_layers, ffn_units]."""
        return self._part(4).reshape(self.shape.n_layers, -1)

    def _part(self, which: int) -> IntArray:
        begins = begins_of(self.shape)
        return self.numbers[begins[which] : begins[which + 1]]

    @classmethod
    def joined(cls, parts: tuple[IntArray, ...], shape: ModelShape) -> Self:
        """Owners by their parts."""
        return cls(np.concatenate([part.ravel() for part in parts]), shape)

    @classmethod
    def of(cls, placement: Placement, shape: ModelShape) -> Self | None:
        """Devices of a placement; None: a projection is divided otherwise than with its heads."""
        owner = placement.owner
        order = _order(shape, tuple(map(owner.__contains__, _wholes(shape))))
        # Most placements are in model order.
        held = owner.values() if tuple(owner) == order.blocks else order.held(owner)
        devices = np.fromiter(chain(held, (IN_SHARDS,)), np.int64, len(order.blocks) + 1)
        numbers = devices[order.written]
        return cls(numbers, shape) if (numbers[order.read] == devices[:-1]).all() else None

    def among(self, devices: IntArray) -> Self:
        """Devices of the cluster as places among `devices` [n], ascending, which all of them are."""
        places = np.full(int(devices[-1]) + 2, IN_SHARDS)  # of each device, and in the last place of none
        places[devices] = np.arange(len(devices))
        return type(self)(places[self.numbers], self.shape)

    def on(self, devices: IntArray) -> Self:
        """Places among `devices` [n] as devices of the cluster."""
        return type(self)(np.append(devices, IN_SHARDS)[self.numbers], self.shape)

    def placement(self) -> Placement:
        """The placement of the blocks."""
        begins = begins_of(self.shape)
        order = _order(self.shape, tuple([owner >= 0 for owner in self.numbers[begins[2] : begins[4]].tolist()]))
        return Placement(dict(zip(order.blocks, self.numbers[order.read].tolist(), strict=True)))


@lru_cache(maxsize=16)
def begins_of(shape: ModelShape) -> tuple[int, ...]:
    """Where the parts of `BlockOwners` begin, and the last ends."""
    n_layers, n_heads = shape.n_layers, shape.n_layers * shape.n_groups
    ends, projs = 2, 2 + n_heads
    return 0, ends, projs, projs + n_layers, projs + 2 * n_layers, projs + n_layers * (2 + shape.ffn_units)


@lru_cache(maxsize=4)
def _wholes(shape: ModelShape) -> list[Block]:
    """Undivided projections, then feed-forward blocks."""
    return [whole(layer) for whole in (proj, ffn) for layer in range(shape.n_layers)]


class _BlockOrder(NamedTuple):
    """Blocks of a model in its order, where some layers are divided, and where their devices are."""

    blocks: tuple[Block, ...]  # [n_held]
    held: Callable[[Mapping[Block, int]], tuple[int, ...]]  # looks them up
    read: IntArray  # [n_held] which of the owners each has
    written: IntArray  # of all owners, which block has it; the last of all: none


@lru_cache(maxsize=16)
def _order(shape: ModelShape, wholes: tuple[bool, ...]) -> _BlockOrder:
    """The order where these are whole, of projections and then of feed-forward blocks."""
    begins, n_groups, n_units = begins_of(shape), shape.n_groups, shape.ffn_units
    placed, whole_ffns = [(EMBED, 0)], wholes[shape.n_layers :]
    for layer in range(shape.n_layers):
        first_head, first_unit = begins[1] + layer * n_groups, begins[4] + layer * n_units
        placed += [(head(layer, group), first_head + group) for group in range(n_groups)]
        if wholes[layer]:
            placed.append((proj(layer), begins[2] + layer))
        else:
            placed += [(proj(layer, group), first_head + group) for group in range(n_groups)]
        if whole_ffns[layer]:
            placed.append((ffn(layer), begins[3] + layer))
        else:
            placed += [(ffn(layer, unit), first_unit + unit) for unit in range(n_units)]
    placed.append((LM_HEAD, 1))
    blocks, read = zip(*placed, strict=True)
    written = np.full(begins[-1], IN_SHARDS)
    written[list(read)] = np.arange(len(read))
    for layer in np.flatnonzero(whole_ffns).tolist():
        written[begins[4] + layer * n_units : begins[4] + (layer + 1) * n_units] = written[begins[3] + layer]
    return _BlockOrder(blocks, itemgetter(*blocks), np.array(read), written)
