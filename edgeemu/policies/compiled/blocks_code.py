"""Blocks that a placement assigns to devices, and the migration to it, by machine code."""

from functools import lru_cache
from typing import Any, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables
from edgeemu.policies.compiled.share_code import batch_of, functions
from edgeemu.policies.compiled.share_known import Layouts
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, packed


@lru_cache(maxsize=8)
def _assigned(n: int, n_layers: int, n_groups: int, n_units: int) -> Packed:
    """Places to write in: nothing in them is kept."""
    return blank(Assigned, n_layers * n_groups, n_layers * n_units, n, n * n, n)


class BlocksCode:
    """Blocks that a placement assigns to devices, as many as possible where they are, and their migration."""

    def __init__(
        self, costs: MoveCosts, layouts: Packed, sizes: tuple[int, int, int, int, int], arrays: tuple[Any, ...]
    ) -> None:
        """`layouts`: with the chosen devices. `arrays`: who has which block now, and links, or where they are.

        `sizes`: how many devices are chosen, and numbers of a placement's owners, of layers, groups, units.
        """
        (n, self._size, n_layers, n_groups, n_units), view = sizes, costs.view
        self._functions, self._layouts, self._shape = functions(), layouts, view.costs.shape
        self._assigned = _assigned(n, n_layers, n_groups, n_units)
        numbers = n, n_groups, n_units, view.weights_on_flash, view.flash_bytes_per_s, costs.group_cache_bytes
        self._tables = packed(BlockTables, *numbers, *costs.sizes, *arrays)

    @classmethod
    def of(cls, costs: MoveCosts, devices: IntArray, owners: BlockOwners) -> Self:
        """Blocks of the placement in force, by their owners as places among `devices` [n]."""
        shape, links = owners.shape, costs.view.links.wire
        sizes = len(owners.numbers), shape.n_layers, shape.n_groups, shape.ffn_units
        between = (np.ascontiguousarray(each.block(devices, devices)) for each in (links.s_per_bit, links.delay_s))
        layouts = packed(Layouts, len(costs.view.memory_bytes), 1, *sizes, owners.numbers, devices)
        parts = owners.ends, owners.heads, owners.projs, owners.ffns, owners.units
        return cls(costs, layouts, (len(devices), *sizes), (*parts, *between))

    def moving_s(self, shares: ShareArrays) -> float:
        """Seconds that a sequence waits for the migration to a placement."""
        batch = batch_of(Folded.of(shares))
        took_s: float = self._functions.moving_s(self._tables.at, batch.at, 0, self._assigned.at)
        return took_s

    def moving_each_s(self, batch: Packed, count: int) -> list[float]:
        """Seconds for each of the first placements of a batch."""
        found_s = np.empty(count)
        self._functions.moving_each_s(self._tables.at, batch.at, count, self._assigned.at, address_of(found_s))
        each_s: list[float] = found_s.tolist()
        return each_s

    def owners(self, shares: ShareArrays) -> BlockOwners:
        """Devices of the blocks of a placement."""
        return self.owners_in(batch_of(Folded.of(shares)), 0)

    def owners_in(self, batch: Packed, which: int) -> BlockOwners:
        """Devices of the blocks of a placement of a batch."""
        numbers = np.empty(self._size, np.int64)
        tables = self._tables.at, batch.at, which, self._assigned.at, self._layouts.at
        self._functions.write_owners(*tables, address_of(numbers))
        return BlockOwners(numbers, self._shape)
