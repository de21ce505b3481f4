"""Places in memory for searches near the placement in force, made once for all decisions of a run."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.compiled.device_speeds import AllDevices
from edgeemu.policies.compiled.near_code import most_changes
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables
from edgeemu.policies.compiled.share_descent import Best
from edgeemu.policies.compiled.share_ends import BEGUN, MOST, EndTimes
from edgeemu.policies.compiled.share_known import ChosenDevices, Layouts
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.compiled.share_seeds import Seeds
from edgeemu.policies.compiled.tables import Batch, WayTables
from edgeemu.policies.view.block_owners import BlockOwners, begins_of
from edgeemu.policies.view.same import Same
from edgeemu.policies.view.share_runs import Runs
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, fields_of, packed
from edgeemu_kernels.shape import ModelShape

MOST_EARLIER = 8  # placements that the run has left


class SearchRoom(NamedTuple):
    """Places to write in, for searches on some devices with some layers: nothing in them is kept."""

    near_count: int  # placements for which there is room near one
    base: Packed
    near: Packed
    changes: Packed
    best: Packed
    ends: Packed
    ends_numbers: IntArray  # all that is in these
    times: Packed
    known: Packed  # placements: the one in force, and those that the run has left
    chosen: Packed
    found: IntArray  # [5] of these
    ways_fields: tuple[tuple[object, ...], ...]  # of `WayTables`, without what is moved
    blocks: Packed  # of these, who has which block now, and links
    assigned: Packed
    seeds: Packed
    ahead: Packed  # all devices as they are expected …
    ahead_at: int  # … and where that is written, as `device_speeds.expect` does it
    ranges: tuple[tuple[int, int], ...]  # of layers that are changed alike
    each_layer: Runs


def batch_room(count: int, n_layers: int, n: int) -> Packed:
    """Room for so many placements, of which each layer is a run."""
    parts = count * n_layers * n
    return blank(Batch, count, n_layers, n, count, count, parts, count * n_layers, parts, n_layers)


def layouts_of(placements: Sequence[BlockOwners], n_devices: int) -> Packed:
    """Placements of one model on the devices of a cluster."""
    assert len(placements) <= 1 + MOST_EARLIER, "there is no room for so many"
    numbers, shape = [owners.numbers for owners in placements], placements[0].shape
    sizes = len(numbers[0]), shape.n_layers, shape.n_groups, shape.ffn_units
    return packed(Layouts, n_devices, len(numbers), *sizes, np.concatenate(numbers))


@lru_cache(maxsize=16)
def assigned_room(shape: ModelShape, n: int) -> Packed:
    """Places to write in, for blocks that are assigned to n devices: nothing in them is kept."""
    parts = shape.n_layers * shape.n_groups, shape.n_layers * shape.ffn_units
    return blank(Assigned, *parts, n, n * n, n * n, n, 2 * n, 2 * n)


@lru_cache(maxsize=16)
def search_room(
    shape: ModelShape,
    n_devices: int,
    n: int,
    ranges: tuple[tuple[int, int], ...],
    *,
    divide: bool,
) -> SearchRoom:
    """Room for searches near a placement on some of all devices. `ranges`: of layers that are changed alike."""
    n_layers, n_groups, n_units, begins = shape.n_layers, shape.n_groups, shape.ffn_units, begins_of(shape)
    most, one = most_changes(n, len(ranges), n_groups, n_units), np.ones(n_layers, np.int64)
    others = n * (n - 1) // 2 * 3 + n + (2 if divide else 0)
    known, ends = batch_room(1 + MOST_EARLIER, n_layers, n), batch_room(MOST, n_layers, n)
    chosen = blank(ChosenDevices, 5, n, n_devices, begins[-1], n, n, n, n, n * n, n * n, n * n, 1, 1)
    old, at = fields_of(Batch, known), fields_of(ChosenDevices, chosen)
    ways = at.found, old.heads, old.proj, old.units, at.pace_s_per_bit, at.handled_s_per_bit, at.capacity
    chunks = at.chunk_bits, at.message_s, at.byte_s
    keys, ahead = np.empty((2, n)), np.empty((6, n_devices))
    sizes = n, n_layers, n_groups, n_units, max(1, n_units // n_groups), divide
    return SearchRoom(
        near_count=most + others + MOST_EARLIER + 1,
        base=blank(Base, *sizes, 2, n_layers * n, n_layers, n_layers * n),
        near=batch_room(most + others + MOST_EARLIER + 1, n_layers, n),
        changes=batch_room(most, n_layers, n),
        best=blank(Best, 3, 3),
        ends=ends,
        ends_numbers=ends.values[0].view(np.int64),
        times=blank(EndTimes, MOST, MOST, MOST, BEGUN, BEGUN, 3),
        known=known,
        chosen=chosen,
        found=chosen.values[0][:5].view(np.int64),
        ways_fields=((n, n_groups), (at.cache,), ways),
        blocks=packed(BlockTables, n_layers, n_units, at.owners, at.s_per_bit, at.delay_s, *chunks),
        assigned=assigned_room(shape, n),
        seeds=packed(Seeds, at.devices, *keys),
        ahead=packed(AllDevices, n_devices, *ahead[1:]),
        ahead_at=address_of(ahead),
        ranges=ranges,
        each_layer=Runs(np.arange(n_layers), one),
    )


@lru_cache(maxsize=8)
def ways_in(room: Same[SearchRoom], moved: tuple[float, ...]) -> Packed:
    """The placement in force, and the prices of moves, as they are written in a room.

    `moved`: fields of `MoveSizes`, without the first ones and the cache.
    """
    sizes, cache, places = room.kept.ways_fields
    return packed(WayTables, *sizes, *moved[:2], *cache, *moved[2:], *places)
