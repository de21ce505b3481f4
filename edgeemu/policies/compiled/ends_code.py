"""Ends of a search near the placement in force, and the blocks that move to them, by machine code in one call each."""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled.blocks_code import BlocksCode, chunk_bits_of
from edgeemu.policies.compiled.devices_code import forecasts_of, layer_works
from edgeemu.policies.compiled.search_room import batch_room, search_room, ways_in
from edgeemu.policies.compiled.share_code import functions, links_between, memory_tables, scratch_for, step_sizes
from edgeemu.policies.compiled.share_descent import CostTerms
from edgeemu.policies.compiled.share_ends import MOST, Terms
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.outlook import STAYS
from edgeemu.policies.view.same import Same
from edgeemu.policies.view.share_memory import share_bytes
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, packed

_NO_FORECASTS = forecasts_of(STAYS)


class SearchRules(NamedTuple):
    """Rules of a search near the placement in force."""

    work: float  # for which changes are judged
    no_room: float  # share of the work of judging a placement that is memory
    worth: float  # share of a step that a change must gain
    least_gain: float  # relative, of one step of a descent
    missing: float  # cost of a placement that does not fit, besides its missing bytes


class _RunSizes(NamedTuple):
    """Sizes that stay as they are while a sequence is generated."""

    memory: Packed
    copied: int  # bytes, as `view.share_memory` says
    most: int  # bytes of any placement on one device
    works: Packed  # of a layer when the sequence ends


@lru_cache(maxsize=16)
def _sizes_of(costs: Costs, rows: int, total: int, concurrent: tuple[int, ...], n: int, star: bool) -> _RunSizes:
    last = costs.at_step(1, total - 1)
    held = share_bytes(last, rows, total, concurrent, n, star=star)
    return _RunSizes(memory_tables(held), held.copied, held.most, layer_works(last, total - 1))


@lru_cache(maxsize=16)
def _terms(rules: SearchRules, ranges: tuple[tuple[int, int], ...]) -> Packed:
    return packed(Terms, *rules[:-1], len(ranges), np.array(ranges, np.int64))


class EndsCode:
    """Ends of descents from placements near the one in force, of models of few layers: all changes are in one batch."""

    def __init__(
        self,
        view: ClusterView,
        costs: MoveCosts,
        devices: IntArray,
        everyone: Packed,
        layouts: Packed,
        ranges: tuple[tuple[int, int], ...],
        *,
        divide: bool,
    ) -> None:
        """`everyone`: all devices. `layouts`: of placements, first the one in force.

        `ranges`: of layers that are changed alike. `divide`: whether blocks may be divided.
        """
        workload, n, prices = view.workload, len(devices), costs.prices
        sequences = workload.prompt_tokens, workload.total_tokens, workload.concurrent
        self._functions, self._view, self._costs, self._devices, self._n = functions(), view, costs, devices, n
        moved = view.weights_on_flash, view.flash_bytes_per_s, *costs.sizes
        self._room = room = search_room(view.costs.shape, view.n_devices, n, ranges, divide=divide)
        self._ways = ways_in(Same(room), moved)
        self._sizes = sizes = _sizes_of(view.costs, *sequences, n, view.star)
        self._links, self._all_devices = links_between(prices.wire, devices), everyone
        links, rows = self._links
        memory_bytes, handled_s_per_bit = address_of(view.memory_bytes), address_of(prices.processor_s_per_bit)
        known = memory_bytes, handled_s_per_bit, links.at, address_of(rows), sizes.most
        sent = costs.group_cache_bytes, chunk_bits_of(costs)
        works = sizes.works.at, workload.total_tokens - 1
        self._tables = self._ways.at, everyone.at, *works, room.base.at
        places = room.chosen.at, room.known.at, sizes.memory.at, *self._tables, room.near.at, room.seeds.at
        self._known: int = self._functions.look_around(layouts.at, address_of(devices), *known, *sent, *places)
        self.missing_bytes = int(room.found[3])  # of the placement in force
        self._count = int(room.found[4])  # of simple and known placements

    @property
    def is_placed(self) -> bool:
        """Whether the placement in force is on the devices."""
        return self._known > 0

    def found(
        self, links: LinkMatrix, tokens: float | None, past: int, price: float, rules: SearchRules
    ) -> tuple[float, list[tuple[float, Callable[[], ShareArrays], float, float, int]]]:
        """Cost of the placement in force; of the ends, the best first, what `search.share_search.End` has of each.

        `links`: on the wire, as they are expected. `tokens`: in the mean over which devices are as they are expected;
        None: they are as they are now. `past`: positions that are cached then. `price`: of a second of a migration.
        """
        room, step, (between, rows) = self._room, step_sizes(self._view, self._n, past), self._links_in(links)
        forecasts = _NO_FORECASTS if tokens is None else self._forecasts
        devices = self._all_devices.at, forecasts.at, tokens or 1.0, room.ahead_at, room.ahead.at
        chosen = address_of(self._devices), between.at, address_of(rows), step.works.at, past
        tables = step.passing.at, *devices, *chosen, self._sizes.memory.at, self._ways.at, step.scratch.at
        places = room.near.at, room.base.at, self._count, room.changes.at, room.best.at, room.ends.at, room.times.at
        moved = self._ways.at, room.blocks.at, room.assigned.at
        terms = _terms(rules, room.ranges).at, packed(CostTerms, price, rules.missing).at
        count = self._functions.find_ends(*tables, *places, *moved, *terms)
        times: list[float] = room.times.values[0][: 2 * MOST + count].tolist()
        if count == 1:
            return times[0], []
        moves_s = times[2 * MOST :]
        ends, order = room.ends_numbers.copy(), sorted(range(1, count), key=times.__getitem__)
        return times[0], [
            (times[at], partial(self._shares, ends, MOST, slice(at, at + 1)), times[MOST + at], moves_s[at], at)
            for at in order
        ]

    @cached_property
    def blocks(self) -> BlocksCode:
        """Machine code that knows migrations exactly."""
        shape, room = self._view.costs.shape, self._room
        return BlocksCode(shape, self._devices, self._ways, room.blocks, room.assigned)

    def owners(self, which: int) -> BlockOwners:
        """Devices of the blocks of one of the ends that were found last."""
        return self.blocks.owners_in(self._room.ends, which)

    def has_room(self, which: int) -> bool:
        """Whether devices have room for all that a migration to one of the ends brings, beside all that they hold."""
        memory, copied, *_ = self._sizes
        tables = memory.at, self._ways.at, self._room.ends.at, scratch_for(self._n, 1).at
        installed_bytes = self._view.installed_bytes[self._devices]
        return bool(self._functions.have_room(*tables, which, copied, address_of(installed_bytes)))

    def steps_of(self, past: int, which: int) -> tuple[float, float]:
        """Time of a step, as all is now, of the placement in force and of one of the ends. `past`: cached positions."""
        step, found = step_sizes(self._view, self._n, past), np.empty(MOST)
        links, rows = self._links
        chosen = self._all_devices.at, address_of(self._devices), links.at, address_of(rows), step.works.at
        self._functions.fill(step.passing.at, *chosen, past)
        self._functions.rounds(step.passing.at, self._room.ends.at, step.scratch.at, which + 1, address_of(found))
        return float(found[0]), float(found[which])

    def _links_in(self, links: LinkMatrix) -> tuple[Packed, IntArray]:
        """Links on the wire between the devices, and the rows of those among them."""
        return self._links if links is self._costs.prices.wire else links_between(links, self._devices)

    @cached_property
    def _forecasts(self) -> Packed:
        return forecasts_of(self._view.outlook)

    @cached_property
    def near(self) -> tuple[Folded, int]:
        """All placements near, and how many of them are small changes."""
        room, functions = self._room, self._functions
        batch = batch_room(room.near_count, len(room.each_layer.first), self._n)
        others = room.known.at, self._known, room.seeds.at
        functions.write_others(*self._tables, batch.at, *others, 0)  # also what changes are made of
        beside = functions.ends(room.base.at, batch.at, 0)
        for begin, end in room.ranges:
            beside = functions.changes(room.base.at, batch.at, beside, begin, end)
        count = functions.write_others(*self._tables, batch.at, *others, beside)
        numbers = batch.values[0].view(np.int64)
        return Folded(self._shares(numbers, room.near_count, slice(0, count)), room.each_layer), beside

    def _shares(self, numbers: IntArray, k: int, chosen: slice) -> ShareArrays:
        """Some placements of a batch with room for k."""
        n, n_layers, begin, parts = self._n, len(self._room.each_layer.first), 0, []
        for shape in ((k,), (k,), (k, n_layers, n), (k, n_layers), (k, n_layers, n)):
            size = prod(shape)
            parts.append(numbers[begin : begin + size].reshape(shape)[chosen])
            begin += size
        return ShareArrays(*parts)
