"""Ends of a search near the placement in force, and the blocks that move to them, by machine code in one call each."""

from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, ffn, proj
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled.near_code import NearCode, most_changes
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables
from edgeemu.policies.compiled.share_code import NeedsCode, StepCode, batch_of, functions
from edgeemu.policies.compiled.share_descent import Best, CostTerms
from edgeemu.policies.compiled.share_ends import BEGUN, MOST, EndTimes, Terms
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.compiled.share_seeds import AllDevices, LayerWorks, Seeds
from edgeemu.policies.compiled.tables import Batch
from edgeemu.policies.view.block_owners import IN_SHARDS, BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_runs import Folded, Runs
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, packed

MOST_EARLIER = 8  # placements that the run has left


class SearchRules(NamedTuple):
    """Rules of a search near the placement in force."""

    work: float  # for which changes are judged
    no_room: float  # share of the work of judging a placement that is memory
    worth: float  # share of a step that a change must gain
    least_gain: float  # relative, of one step of a descent
    missing: float  # cost of a placement that does not fit, besides its missing bytes


class _SearchRoom(NamedTuple):
    """Places to write in, for searches on some devices with some layers: nothing in them is kept."""

    base: Packed
    near: Packed
    changes: Packed
    best: Packed
    ends: Packed
    found: Packed
    numbers: FloatArray  # [2 n + 2] for what is not in a piece of its own
    near_count: int  # placements for which there is room near one


@lru_cache(maxsize=8)
def _room(n: int, n_layers: int, n_ranges: int, n_groups: int, n_units: int, *, divide: bool) -> _SearchRoom:
    """Room for searches near a placement, and for the small changes of any other."""
    parts, most = n_layers * n, most_changes(n, n_ranges, n_groups, n_units)
    sizes = n, n_layers, n_groups, n_units, max(1, n_units // n_groups), divide
    k = most + n * (n - 1) // 2 * 3 + n + 2 + MOST_EARLIER + 1
    near, changes, ends = (
        blank(Batch, count, n_layers, n, count, count, count * parts, count * n_layers, count * parts, n_layers)
        for count in (k, most, MOST)
    )
    base, best, found = (
        blank(Base, *sizes, 2, parts, n_layers, parts),
        blank(Best, 3, 3),
        (MOST, MOST, BEGUN, BEGUN, 2),
    )
    return _SearchRoom(base, near, changes, best, ends, blank(EndTimes, *found), np.empty(2 * n + 2), k)


@lru_cache(maxsize=16)
def _layer_works(costs: Costs, past: int) -> tuple[FloatArray, FloatArray]:
    """Works of a layer with so many positions cached, as `LayerWorks` has them, and what each more adds: [8] each."""

    def works(past: int) -> FloatArray:
        one, two = (costs.work(Kind.HEAD, groups, 1, past) for groups in (1, 2))
        each = two.flops - one.flops, two.bytes_read - one.bytes_read
        heads = one.flops - each[0], each[0], one.bytes_read - each[1], each[1]
        rest = (costs.work(kind, 1, 1, past) for kind in (Kind.PROJ, Kind.FFN))
        return np.array([*heads, *chain.from_iterable(rest)], np.float64)

    here = works(past)
    return here, works(past + 1) - here


def _works_at(view: ClusterView, costs: Costs, past: int) -> Packed:
    """Works of a layer with so many positions cached."""
    begin = 0 if view.costs.at_step(1, past) is view.costs else past  # at which they are known
    here, more = _layer_works(costs, begin)
    return packed(LayerWorks, costs.shape.n_groups, *(here + (past - begin) * more).tolist())


def _cluster(view: ClusterView) -> Packed:
    """All devices as they are now."""
    return packed(AllDevices, view.n_devices, view.flops_per_s, view.mem_bytes_per_s, view.overhead_s)


def fastest(view: ClusterView, size: int) -> list[int]:
    """The devices on which a complete layer takes least, the first where they are alike."""
    chosen, layers_s, works = (
        np.empty(size, np.int64),
        np.empty(view.n_devices),
        _works_at(view, view.costs.at_step(1, view.past), view.past),
    )
    functions().fastest(_cluster(view).at, works.at, address_of(layers_s), size, address_of(chosen))
    found: list[int] = chosen.tolist()
    return found


class EndsCode:
    """Ends of descents from placements near the one in force, of models of few layers: all changes are in one batch."""

    def __init__(
        self,
        view: ClusterView,
        devices: IntArray,
        needs: NeedsCode,
        changes: NearCode,
        runs: Runs,
        ranges: IntArray,
        earlier: ShareArrays,
    ) -> None:
        """`runs`: each layer alone. `ranges`: of layers that are changed alike. `earlier`: left by the run."""
        self._functions, self._needs, self._ranges, self.runs = functions(), needs, ranges, runs
        self._ways, self._n, self._n_layers = needs.ways(runs), len(devices), len(runs.first)
        sizes = self._n_layers, len(ranges), changes.n_groups, changes.n_units
        self._room = room = _room(self._n, *sizes, divide=changes.divide)
        weights, keys = room.numbers[: self._n], room.numbers[self._n : 2 * self._n]
        found = room.numbers[2 * self._n :].view(np.int64)
        seeds = packed(Seeds, len(ranges), ranges, devices, weights, keys, found)
        works, others = _works_at(view, view.costs, view.total_tokens - 1), batch_of(Folded(earlier, runs))
        tables = needs.memory.at, self._ways.at, _cluster(view).at, works.at
        self.count: int = self._functions.surround(*tables, room.base.at, room.near.at, others.at, seeds.at)
        self.beside, self.missing_bytes = int(found[0]), int(found[1])

    def found(
        self, steps: StepCode, price: float, rules: SearchRules, blocks: Callable[[], "BlocksCode | None"]
    ) -> tuple[float, list[tuple[float, ShareArrays, float, float | None]]]:
        """Cost of the placement in force; of the ends, the best first, costs, placements, steps, and migrations.

        `price`: of a second of a migration. `blocks`: what knows migrations exactly, if anything does.
        """
        room = self._room
        numbers = self.beside, self.count, rules.work, rules.no_room, rules.worth, rules.least_gain, len(self._ranges)
        terms, prices = packed(Terms, *numbers, self._ranges), packed(CostTerms, price, rules.missing)
        tables = steps.tables.at, self._needs.memory.at, self._ways.at, steps.scratch.at, prices.at, room.near.at
        places = room.base.at, room.changes.at, room.best.at, room.ends.at, room.found.at
        count = self._functions.find_ends(*tables, *places, terms.at)
        costs: list[float] = room.found.values[0][:count].tolist()
        if count == 1:
            return costs[0], []
        steps_s, parts = room.found.values[0][MOST : MOST + count].tolist(), self._parts(room.ends, MOST)
        known = blocks()
        moves_s = [None] * count if known is None else known.moving_each_s(room.ends, count)
        order = sorted(range(1, count), key=costs.__getitem__)
        return costs[0], [
            (costs[at], ShareArrays(*(part[at : at + 1] for part in parts)), steps_s[at], moves_s[at]) for at in order
        ]

    def placements(self) -> Folded:
        """All placements near, as they are in memory until the next decision."""
        parts = self._parts(self._room.near, self._room.near_count)
        return Folded(ShareArrays(*(part[: self.count] for part in parts)), self.runs)

    def _parts(self, batch: Packed, k: int) -> list[IntArray]:
        """A copy of a batch with room for k placements, by their parts."""
        n, n_layers, begin, parts = self._n, self._n_layers, 0, []
        numbers = batch.values[0].view(np.int64).copy()
        for shape in ((k,), (k,), (k, n_layers, n), (k, n_layers), (k, n_layers, n)):
            size = prod(shape)
            parts.append(numbers[begin : begin + size].reshape(shape))
            begin += size
        return parts


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
        """Owners of the blocks of a placement."""
        self.moving_s(shares)  # assigns them
        heads, units = self._shapes
        numbers = self._assigned.values[0][: prod(heads) + prod(units)].view(np.int64).copy()
        groups, parts = numbers[: prod(heads)].reshape(heads), numbers[prod(heads) :].reshape(units)
        ends, whole = np.concatenate([shares.embed, shares.lm_head]), shares.whole_ffn[0]
        return BlockOwners(ends, groups, shares.proj[0], np.where(whole, parts[:, 0], IN_SHARDS), parts)
