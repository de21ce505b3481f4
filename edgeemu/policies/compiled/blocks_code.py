"""Blocks that a placement assigns to devices, and the migration to it, by machine code."""

from typing import Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.compiled.search_room import assigned_room
from edgeemu.policies.compiled.share_assigned import BlockTables
from edgeemu.policies.compiled.share_code import batch_of, functions
from edgeemu.policies.compiled.tables import MoveSizes
from edgeemu.policies.view.block_owners import BlockOwners, begins_of
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, packed
from edgeemu_kernels.shape import ModelShape


def move_sizes(costs: MoveCosts, n: int) -> Packed:
    """Bytes of blocks that move between n devices."""
    view = costs.view
    numbers = n, view.costs.shape.n_groups, view.weights_on_flash, view.flash_bytes_per_s
    return packed(MoveSizes, *numbers, np.array([costs.group_cache_bytes]), *costs.sizes)


def chunk_bits_of(costs: MoveCosts) -> float:
    """Bits of a chunk of blocks that move; 0 where chunks keep no processor busy."""
    return 8.0 * costs.view.chunk_bytes if costs.prices.chunks_cost else 0.0


class BlocksCode:
    """Blocks that a placement assigns to devices, as many as possible where they are, and their migration."""

    def __init__(self, shape: ModelShape, devices: IntArray, sizes: Packed, blocks: Packed, assigned: Packed) -> None:
        """`sizes`: `MoveSizes`. `blocks`: `BlockTables` of the placement in force. `assigned`: places to write in."""
        self._functions, self._shape, self._devices = functions(), shape, devices
        self._tables, self._assigned = (sizes, blocks), assigned

    @classmethod
    def of(cls, costs: MoveCosts, devices: IntArray, owners: BlockOwners) -> Self:
        """Blocks of the placement in force, by their owners as places among `devices` [n]."""
        shape, n, links = owners.shape, len(devices), costs.view.links.wire
        between = (np.ascontiguousarray(each.block(devices, devices)) for each in (links.s_per_bit, links.delay_s))
        sizes, chunks = (
            move_sizes(costs, n),
            (np.array([chunk_bits_of(costs)]), *map(np.ascontiguousarray, costs.view.message_ends[:, devices])),
        )
        blocks = packed(BlockTables, shape.n_layers, shape.ffn_units, owners.numbers, *between, *chunks)
        return cls(shape, devices, sizes, blocks, assigned_room(shape, n))

    def moving_s(self, shares: ShareArrays) -> float:
        """Seconds that a sequence waits for the migration to a placement."""
        (sizes, blocks), batch = self._tables, batch_of(Folded.of(shares))
        took_s: float = self._functions.moving_s(sizes.at, blocks.at, batch.at, 0, self._assigned.at)
        return took_s

    def owners(self, shares: ShareArrays) -> BlockOwners:
        """Devices of the blocks of a placement."""
        return self.owners_in(batch_of(Folded.of(shares)), 0)

    def owners_in(self, batch: Packed, which: int) -> BlockOwners:
        """Devices of the blocks of a placement of a batch."""
        (sizes, blocks), numbers = self._tables, np.empty(begins_of(self._shape)[-1], np.int64)
        tables = sizes.at, blocks.at, batch.at, which, self._assigned.at
        self._functions.write_owners(*tables, address_of(self._devices), address_of(numbers))
        return BlockOwners(numbers, self._shape)
