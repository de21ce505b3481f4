"""Ends of a search near the placement in force, and the blocks that move to them, by machine code in one call each."""

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, ffn, proj
from edgeemu.policies.compiled.near_code import NearCode, most_changes
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables
from edgeemu.policies.compiled.share_code import NeedsCode, StepCode, batch_of, functions
from edgeemu.policies.compiled.share_descent import Best, CostTerms
from edgeemu.policies.compiled.share_ends import BEGUN, MOST, Found, Terms
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.compiled.tables import Batch
from edgeemu.policies.view.block_owners import IN_SHARDS, BlockOwners
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_runs import Around, Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.packed_tuples import Packed, blank, packed


class Rules(NamedTuple):
    """Rules of a search."""

    work: float  # for which changes are judged
    no_room: float  # share of the work of judging a placement that is memory
    worth: float  # share of a step that a change must gain
    least_gain: float  # relative, of one step of a descent
    missing: float  # cost of a placement that does not fit, besides its missing bytes


class _Room(NamedTuple):
    """Places to write in, for searches on some devices with some layers: nothing in them is kept."""

    base: Packed
    changes: Packed
    best: Packed
    ends: Packed
    found: Packed


@lru_cache(maxsize=8)
def _room(n: int, n_layers: int, n_ranges: int, n_groups: int, n_units: int, k: int, *, divide: bool) -> _Room:
    """Room for searches near at most k placements, and for the small changes of any of them."""
    parts, most = n_layers * n, most_changes(n, n_ranges, n_groups, n_units)
    sizes = n, n_layers, n_groups, n_units, max(1, n_units // n_groups), divide
    changes, ends = (
        blank(Batch, count, n_layers, n, count, count, count * parts, count * n_layers, count * parts, n_layers)
        for count in (most, MOST)
    )
    base, best = blank(Base, *sizes, 2, parts, n_layers, parts), blank(Best, 3, 3, max(k, most))
    return _Room(base, changes, best, ends, blank(Found, MOST, MOST, BEGUN, BEGUN, 2))


class EndsCode:
    """Ends of descents from placements near the one in force, of models of few layers: all changes are in one batch."""

    def __init__(self, needs: NeedsCode, changes: NearCode, around: Around, near: Folded, beside: int) -> None:
        """`around`: the one in force. `beside`: how many of those near are its small changes."""
        self._functions, self._needs, self._beside, self._batch = functions(), needs, beside, batch_of(near)
        self._ways, self._ranges = needs.ways(near.runs), np.array(around.ranges, np.int64)  # [n_ranges, 2]
        k = -(-len(near) // 256) * 256  # of any decision
        self._n_layers, self._n = near.shares.heads.shape[1:]
        sizes = len(self._ranges), changes.n_groups, changes.n_units, k
        self._room = _room(self._n, self._n_layers, *sizes, divide=changes.divide)

    def found(self, steps: StepCode, price: float, rules: Rules) -> list[tuple[float, float, ShareArrays]]:
        """Costs, steps and placements: of the one in force, then of the ends, the best first.

        `price`: of a second of a migration.
        """
        room = self._room
        numbers = self._beside, rules.work, rules.no_room, rules.worth, rules.least_gain, len(self._ranges)
        terms, prices = packed(Terms, *numbers, self._ranges), packed(CostTerms, price, rules.missing)
        tables = steps.tables.at, self._needs.memory.at, self._ways.at, steps.scratch.at, prices.at, self._batch.at
        places = room.base.at, room.changes.at, room.best.at, room.ends.at, room.found.at
        count = self._functions.find_ends(*tables, *places, terms.at)
        costs, steps_s = room.found.values[0][: 2 * MOST].reshape(2, MOST)[:, :count].tolist()
        known = list(zip(costs, steps_s, self._placements(count), strict=True))
        return [known[0], *sorted(known[1:], key=itemgetter(0))]

    def _placements(self, count: int) -> Iterator[ShareArrays]:
        """The first placements that were written, one by one."""
        n, n_layers, begin, parts = self._n, self._n_layers, 0, []
        numbers = self._room.ends.values[0].view(np.int64).copy()
        for shape in ((MOST,), (MOST,), (MOST, n_layers, n), (MOST, n_layers), (MOST, n_layers, n)):
            size = prod(shape)
            parts.append(numbers[begin : begin + size].reshape(shape))
            begin += size
        for at in range(count):
            yield ShareArrays(*(part[at : at + 1] for part in parts))


class BlocksCode:
    """Blocks that a placement assigns to devices, as many as possible where they are, and their migration."""

    def __init__(self, costs: MoveCosts, devices: IntArray, owners: BlockOwners) -> None:
        """`owners`: of the placement in force, on `devices` [n]."""
        view, shape = costs.view, costs.view.costs.shape
        self._functions, n = functions(), len(devices)
        sizes, links = costs.weight_bytes, view.links.wire
        shards = (costs.shard_bytes(part(0, at)) for part in (proj, ffn) for at in (0, 1))
        ends = sizes[Kind.EMBED], sizes[Kind.LM_HEAD], costs.table_bytes
        blocks = sizes[Kind.HEAD], costs.group_cache_bytes, sizes[Kind.PROJ], sizes[Kind.FFN]
        between = (np.ascontiguousarray(each.block(devices, devices)) for each in (links.s_per_bit, links.delay_s))
        numbers = n, shape.n_groups, shape.ffn_units, view.weights_on_flash, view.flash_bytes_per_s
        self._tables = packed(BlockTables, *numbers, *ends, *blocks, *shards, *owners, *between)
        groups, units = owners.heads.size, owners.units.size
        self._assigned = blank(Assigned, groups, units, n, n * n, n)
        self._shapes = owners.heads.shape, owners.units.shape

    def moved(self, shares: ShareArrays) -> tuple[float, BlockOwners]:
        """Seconds that a sequence waits for the migration to a placement, and the owners of its blocks."""
        batch, whole = batch_of(Folded.of(shares)), shares.whole_ffn[0]
        took_s = self._functions.moving_s(self._tables.at, batch.at, 0, self._assigned.at)
        numbers, (groups, units) = self._assigned.values[0].view(np.int64), self._shapes
        heads = numbers[: groups[0] * groups[1]].reshape(groups).copy()
        parts = numbers[heads.size : heads.size + units[0] * units[1]].reshape(units).copy()
        ends = np.concatenate([shares.embed, shares.lm_head])
        return took_s, BlockOwners(ends, heads, shares.proj[0], np.where(whole, parts[:, 0], IN_SHARDS), parts)
