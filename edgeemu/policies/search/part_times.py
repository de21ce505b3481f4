"""Times of the parts of a step on each device, alone, for bounds and searches that divide layers. Pure."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, n_shards, proj, shards
from edgeemu.placement.costs import Costs
from edgeemu.placement.memory import Usage
from edgeemu.placement.work import Work
from edgeemu.policies.view.cluster_view import ClusterView

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class PartTimes:
    """Times of all parts of a step on each device; infinite where a device cannot hold them. All [n, …]."""

    view: ClusterView
    rows: int
    past: int
    _needs_bytes: dict[tuple[Kind, int], int] = field(default_factory=dict)

    @cached_property
    def costs(self) -> Costs:
        return self.view.costs.at_step(self.rows, self.past)

    @cached_property
    def totals(self) -> dict[Kind, int]:
        """Number of groups, shards and units of a layer."""
        shape = self.costs.shape
        return {Kind.HEAD: shape.n_groups} | {kind: n_shards(shape, kind) for kind in (Kind.PROJ, Kind.FFN)}

    def seconds(self, work: Work) -> FloatArray:
        """Duration of some work on each device: [n]."""
        view = self.view
        found: FloatArray = (
            np.maximum(work.flops / view.flops_per_s, work.bytes_read / view.mem_bytes_per_s) + view.overhead_s
        )
        return found

    def whole_s(self, block: Block) -> FloatArray:
        """Duration of an undivided block: [n]."""
        return np.where(self._fits([block]), self.seconds(self.costs.work(block.kind, 1, self.rows, self.past)), np.inf)

    def shares_s(self, kind: Kind) -> FloatArray:
        """Duration of 1, 2, … groups of heads, or shards: [n, total]."""
        rows, past, total = self.rows, self.past, self.totals[kind]
        if kind is Kind.HEAD:
            works = [self.costs.work(kind, k, rows, past) for k in range(1, total + 1)]
        else:  # without the first, which alone has a bias
            works = [self.costs.shard_work(kind, 0, range(1, k + 1), rows, past) for k in range(1, total + 1)]
        blocks = [head(0, g) for g in range(total)] if kind is Kind.HEAD else shards(self.costs.shape, kind, 0)
        most = self._most_of_all(blocks)  # [n]
        times_s = np.stack([self.seconds(work) for work in works], axis=1)  # [n, total]
        return np.where(np.arange(1, total + 1) <= most[:, None], times_s, np.inf)

    def halves_of_heads_s(self) -> tuple[FloatArray, FloatArray]:
        """Duration of queries, keys and values of 1, 2, … groups, and of their attention: [n, n_groups] each."""
        numbers, shape = range(1, self.costs.shape.n_groups + 1), self.costs.shape
        qkv = [self.seconds(self.costs.qkv_work(k, self.rows)) for k in numbers]
        attend = [self.seconds(self.costs.attention_work(k, self.rows, self.past)) for k in numbers]
        most = self._most_of_all([head(0, group) for group in range(shape.n_groups)])  # [n]
        fits = np.array(numbers) <= most[:, None]  # [n, n_groups]
        return np.where(fits, np.stack(qkv, axis=1), np.inf), np.where(fits, np.stack(attend, axis=1), np.inf)

    @cached_property
    def sum_s(self) -> FloatArray:
        """Duration of a sum of x and one partial result, the least there is: [n]."""
        return self.seconds(self.costs.rows_work(3, self.rows, 1))

    @cached_property
    def holds_all(self) -> BoolArray:
        """Whether a device holds the complete model: [n]."""
        shape = self.costs.shape
        layers = range(shape.n_layers)
        every = [head(layer, group) for layer in layers for group in range(shape.n_groups)]
        return self._fits([EMBED, LM_HEAD, *every, *map(proj, layers), *map(ffn, layers)])

    def _usage(self, blocks: list[Block]) -> Usage:
        usage = self.view.empty_usage()
        usage.members = int(any(block.is_shard for block in blocks))
        for block in blocks:
            usage.add(block)
        return usage

    def _fits(self, blocks: list[Block]) -> BoolArray:
        found: BoolArray = self._usage(blocks).page().total_bytes <= self.view.memory_bytes
        return found

    def _most_of_all(self, blocks: list[Block]) -> NDArray[np.int64]:
        """How many of a layer's blocks each device can hold, if it holds nothing else: [n]."""
        return np.array([self._most(blocks, device) for device in range(self.view.n_devices)], np.int64)

    def _most(self, blocks: list[Block], device: int) -> int:
        """How many of a layer's blocks a device can hold, if it holds nothing else."""
        low, high, room = 0, len(blocks), self.view.devices[device].memory_bytes
        while low < high:
            middle = (low + high + 1) // 2
            key = blocks[0].kind, middle
            if key not in self._needs_bytes:
                least = blocks[-middle:]  # without the first, which alone has a bias
                self._needs_bytes[key] = self._usage(least).page().total_bytes
            low, high = (middle, high) if self._needs_bytes[key] <= room else (low, middle - 1)
        return low
