"""Ends of a search near the placement in force, and the blocks that move to them, by machine code in one call each."""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled.blocks_code import BlocksCode
from edgeemu.policies.compiled.near_code import most_changes
from edgeemu.policies.compiled.share_code import StepCode, functions, links_between, memory_tables, scratch_for
from edgeemu.policies.compiled.share_descent import Best, CostTerms
from edgeemu.policies.compiled.share_ends import BEGUN, MOST, EndTimes, Terms
from edgeemu.policies.compiled.share_known import Chosen, Cluster, Layouts
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.compiled.share_seeds import AllDevices, LayerWorks, Seeds
from edgeemu.policies.compiled.tables import Batch, WayTables
from edgeemu.policies.view.block_owners import BlockOwners, begins_of
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.share_memory import bytes_of
from edgeemu.policies.view.share_runs import Folded, Runs
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, fields_of, packed
from edgeemu_kernels.shape import ModelShape

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
    pair: Packed  # the placement in force, and an end
    times: Packed
    chosen: Packed
    known: Packed  # placements: the one in force, and those that the run has left
    earlier: tuple[Packed, ...]  # the first 0, 1, 2 … of these
    seeds: Packed
    found: IntArray  # [2] as `Seeds` says
    ranges: IntArray  # of layers that are changed alike
    each_layer: Runs
    near_count: int  # placements for which there is room near one


@lru_cache(maxsize=8)
def _room(
    shape: ModelShape, n_devices: int, n: int, ranges: tuple[tuple[int, int], ...], *, divide: bool
) -> _SearchRoom:
    """Room for searches near a placement on some of all devices, and for the small changes of any other."""
    n_layers, n_groups, n_units = shape.n_layers, shape.n_groups, shape.ffn_units
    most = most_changes(n, len(ranges), n_groups, n_units)
    near_count = most + n * (n - 1) // 2 * 3 + n + 2 + MOST_EARLIER + 1

    def batch(count: int) -> Packed:
        parts = count * n_layers * n
        return blank(Batch, count, n_layers, n, count, count, parts, count * n_layers, parts, n_layers)

    sizes = n, n_layers, n_groups, n_units, max(1, n_units // n_groups), divide
    chosen, known = blank(Chosen, 3, n, n_devices, begins_of(shape)[-1], n, n, n * n, n * n), batch(1 + MOST_EARLIER)
    begins = 1, 1, n_layers * n, n_layers, n_layers * n  # of the second placement
    left = [part + 8 * begin for part, begin in zip(fields_of(Batch, known)[3:8], begins, strict=True)]
    layers, keys, found, every = (
        np.ones(n_layers, np.int64),
        np.empty((2, n)),
        np.empty(2, np.int64),
        np.array(ranges, np.int64),
    )
    return _SearchRoom(
        blank(Base, *sizes, 2, n_layers * n, n_layers, n_layers * n),
        *(batch(near_count), batch(most), blank(Best, 3, 3), batch(MOST), batch(2)),
        *(blank(EndTimes, MOST, MOST, BEGUN, BEGUN, 2), chosen, known),
        tuple(packed(Batch, count, n_layers, n, *left, layers) for count in range(1 + MOST_EARLIER)),
        packed(Seeds, len(ranges), every, fields_of(Chosen, chosen).devices, *keys, found),
        found,
        every,
        Runs(np.arange(n_layers), layers),
        near_count,
    )


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


def _works_at(costs: Costs, past: int, *, always: bool) -> Packed:
    """Works of a layer with so many positions cached. `always`: the costs are those of all steps."""
    begin = 0 if always else past  # at which they are known
    here, more = _layer_works(costs, begin)
    return packed(LayerWorks, costs.shape.n_groups, *(here + (past - begin) * more).tolist())


@lru_cache(maxsize=16)
def _works_at_end(costs: Costs, past: int) -> Packed:
    """The works of a layer when a sequence ends."""
    return _works_at(costs, past, always=costs.at_step(1, past) is costs)


def _cluster(view: ClusterView) -> Packed:
    """All devices as they are now."""
    return packed(AllDevices, view.n_devices, view.flops_per_s, view.mem_bytes_per_s, view.overhead_s)


def fastest(view: ClusterView, size: int) -> list[int]:
    """The devices on which a complete layer takes least, the first where they are alike."""
    costs = view.costs.at_step(1, view.past)
    chosen, layers_s, works = (
        np.empty(size, np.int64),
        np.empty(view.n_devices),
        _works_at(costs, view.past, always=costs is view.costs),
    )
    functions().fastest(_cluster(view).at, works.at, address_of(layers_s), size, address_of(chosen))
    found: list[int] = chosen.tolist()
    return found


class EndsCode:
    """Ends of descents from placements near the one in force, of models of few layers: all changes are in one batch."""

    def __init__(
        self,
        view: ClusterView,
        costs: MoveCosts,
        devices: IntArray,
        owners: list[BlockOwners],
        ranges: tuple[tuple[int, int], ...],
    ) -> None:
        """`owners`: of the placement in force and of others. `ranges`: of layers that are changed alike."""
        shape, n = view.costs.shape, len(devices)
        self._functions, self._view, self._costs, self._n = functions(), view, costs, n
        self._room = room = _room(shape, view.n_devices, n, ranges, divide=view.divide)
        held, prices = bytes_of(view, n), costs.prices
        self._memory, self._copied = memory_tables(held), held.copied
        links, rows = links_between(prices.links, devices)
        cluster = packed(Cluster, view.n_devices, held.most, view.memory_bytes, prices.processor_s_per_bit)
        numbers = np.concatenate([each.numbers for each in owners])
        sizes = len(owners), len(owners[0].numbers), shape.n_layers, shape.n_groups, shape.ffn_units
        self._layouts = packed(Layouts, *sizes, numbers, devices)
        tables = self._layouts.at, cluster.at, links.at, address_of(rows)
        known: int = self._functions.choose(*tables, room.chosen.at, room.known.at)
        self.is_placed = known > 0  # whether the placement in force is on the devices
        if self.is_placed:
            self._ways = self._pack_ways()
            works = _works_at_end(view.costs, view.total_tokens - 1)
            begin = self._memory.at, self._ways.at, _cluster(view).at, works.at
            places = room.base.at, room.near.at, room.earlier[known - 1].at, room.seeds.at
            self.count: int = self._functions.surround(*begin, *places)
            self.beside, self.missing_bytes = map(int, room.found)

    def _pack_ways(self) -> Packed:
        """The placement where moves begin, and the prices of moves."""
        costs, view, room = self._costs, self._view, self._room
        ample, *ends = room.chosen.values[0][:3].view(np.int64).tolist()
        sizes, chosen, known = costs.weight_bytes, fields_of(Chosen, room.chosen), fields_of(Batch, room.known)
        return packed(
            *(WayTables, self._n, view.costs.shape.n_groups, view.weights_on_flash),
            *(sizes[Kind.HEAD], costs.shards.column, costs.shards.unit, sizes[Kind.EMBED], sizes[Kind.LM_HEAD]),
            *(costs.table_bytes, costs.group_cache_bytes, view.flash_bytes_per_s, *ends),
            *(known.heads, known.proj, known.units, chosen.s_per_bit, chosen.handled_s_per_bit),
            *(ample, chosen.capacity),
        )

    def found(
        self, steps: StepCode, price: float, rules: SearchRules
    ) -> tuple[float, list[tuple[float, Callable[[], ShareArrays], float, float | None, int]]]:
        """Cost of the placement in force; of the ends, the best first, what `search.share_search.End` has of each.

        `price`: of a second of a migration.
        """
        room = self._room
        numbers = self.beside, self.count, rules.work, rules.no_room, rules.worth, rules.least_gain, len(room.ranges)
        terms, prices = packed(Terms, *numbers, room.ranges), packed(CostTerms, price, rules.missing)
        tables = steps.tables.at, self._memory.at, self._ways.at, steps.scratch.at, prices.at, room.near.at
        places = room.base.at, room.changes.at, room.best.at, room.ends.at, room.times.at
        count = self._functions.find_ends(*tables, *places, terms.at)
        times: list[float] = room.times.values[0][: MOST + count].tolist()
        if count == 1:
            return times[0], []
        moves_s = [None] * count if self.blocks is None else self.blocks.moving_each_s(room.ends, count)
        ends, order = room.ends.values[0].view(np.int64).copy(), sorted(range(1, count), key=times.__getitem__)
        return times[0], [
            (times[at], partial(self._shares, ends, MOST, slice(at, at + 1)), times[MOST + at], moves_s[at], at)
            for at in order
        ]

    @cached_property
    def blocks(self) -> BlocksCode | None:
        """What knows migrations exactly; None where chunks keep processors busy."""
        if self._costs.prices.chunks_cost:
            return None
        shape, chosen = self._view.costs.shape, fields_of(Chosen, self._room.chosen)
        owners = (chosen.owners + 8 * begin for begin in begins_of(shape)[:-1])
        return BlocksCode(self._costs, self._layouts, self._n, (*owners, chosen.s_per_bit, chosen.delay_s))

    def owners(self, which: int) -> BlockOwners | None:
        """Devices of the blocks of one of the ends that were found last; None where nothing knows them."""
        return None if self.blocks is None else self.blocks.owners_in(self._room.ends, which)

    def pair(self, which: int) -> Packed:
        """The placement in force, and one of the ends that were found last, as a batch."""
        self._functions.write_pair(self._room.ends.at, which, self._room.pair.at)
        return self._room.pair

    def has_room(self, which: int) -> bool:
        """Whether devices have room for all that a migration to one of the ends brings, beside all that they hold."""
        pair, scratch = self.pair(which), scratch_for(self._n, 1)
        return bool(self._functions.have_room(self._memory.at, self._ways.at, pair.at, scratch.at, self._copied))

    def placements(self) -> Folded:
        """All placements near, as they are in memory until the next decision."""
        numbers = self._room.near.values[0].view(np.int64).copy()
        return Folded(self._shares(numbers, self._room.near_count, slice(0, self.count)), self._room.each_layer)

    def _shares(self, numbers: IntArray, k: int, chosen: slice) -> ShareArrays:
        """Some placements of a batch with room for k."""
        n, n_layers, begin, parts = self._n, len(self._room.each_layer.first), 0, []
        for shape in ((k,), (k,), (k, n_layers, n), (k, n_layers), (k, n_layers, n)):
            size = prod(shape)
            parts.append(numbers[begin : begin + size].reshape(shape)[chosen])
            begin += size
        return ShareArrays(*parts)
