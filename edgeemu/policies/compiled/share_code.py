"""Placements on chosen devices, looked at by machine code: what NumPy computes, in a fraction of its time.

LLVM makes the code in two seconds when it is first asked for, and it is kept on disk (`edgeemu_kernels.object_cache`).
"""

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.costs import Costs
from edgeemu.policies.compiled import (
    device_speeds,
    share_assigned,
    share_costs,
    share_descent,
    share_ends,
    share_fill,
    share_known,
    share_loads,
    share_needs,
    share_neighbours,
    share_seeds,
    share_shifts,
    watch_courses,
    watch_levels,
    watch_links,
    watch_operations,
    watch_view,
)
from edgeemu.policies.compiled.device_speeds import AllDevices
from edgeemu.policies.compiled.share_fill import LinkTables, StepWorks
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.share_memory import ShareBytes, ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements
from edgeemu.policies.view.share_runs import Folded, Runs
from edgeemu.policies.view.share_times import works_of
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, packed

FEW_DEVICES = 8  # on which a first placement is searched, in half a second


class _Functions(NamedTuple):
    """Owner of machine code, and its functions."""

    owner: object
    fill: Any
    rounds: Any
    find_link_bits: Any
    costs: Any
    missing: Any
    migrations: Any
    have_room: Any
    ends: Any
    changes: Any
    elsewhere: Any
    near_costs: Any
    best_near: Any
    best_change: Any
    expect: Any
    promising: Any
    look_around: Any
    write_others: Any
    find_ends: Any
    moving_s: Any
    write_owners: Any
    observe_operations: Any
    observe_messages: Any
    observe_slowdowns: Any
    observe_states: Any
    settle: Any
    write_view: Any


@cache
def functions() -> _Functions:
    """The machine code, made at the first call."""
    from edgeemu_kernels.scalar_functions import MachineCode  # brings LLVM

    needs, near, descent = share_needs, share_neighbours, share_descent
    every = (
        *(share_fill.fill, share_loads.rounds, share_loads.find_link_bits, share_costs.costs),
        *(needs.missing, needs.migrations, needs.have_room),
        *(near.ends, near.changes, near.elsewhere, descent.near_costs, descent.best_near, share_shifts.best_change),
        *(device_speeds.expect, device_speeds.promising),
        *(share_seeds.look_around, share_seeds.write_others, share_ends.find_ends),
        *(share_assigned.moving_s, share_known.write_owners),
        *(watch_operations.observe_operations, watch_links.observe_messages),
        *(watch_courses.observe_slowdowns, watch_levels.observe_states, watch_levels.settle, watch_view.write_view),
    )
    made = MachineCode(*every)
    return _Functions(made, *(made[each] for each in every))


def functions_made() -> _Functions | None:
    """Machine code if it has been made, for what gains too little to make it."""
    return functions() if functions.cache_info().currsize else None


def searches_many(view: ClusterView) -> bool:
    """Whether later decisions can search on more than `FEW_DEVICES`: energy is NumPy's, which takes too long."""
    return view.objective != "energy"


@lru_cache(maxsize=64)
def scratch_for(n: int, n_layers: int, row: int = 0, units_row: int = 0) -> Packed:
    """Places to write in, for one placement after the other on n devices; nothing in them is kept.

    `row`, `units_row`: numbers that a device can have of groups, and of units, none included.
    """
    flags, moves = (4 * n_layers * n, n, n, n), (n * row, n * row, n * row, n * units_row, n * units_row)
    messages = n, n, n + 1, n + 1, n, n * n, 2, 4
    return blank(Scratch, n_layers, *flags, n, n * n, n, n, n, n, n * n, 3, *moves, n, n, n, 9 * n, *messages)


def batch_of(near: Folded) -> Packed:
    """Placements as machine code reads them."""
    shares, (_, lengths) = near
    parts = (shares.embed, shares.lm_head, shares.heads, shares.proj, shares.units, lengths)
    return packed(Batch, *shares.heads.shape, *map(np.ascontiguousarray, parts))


def links_between(links: LinkMatrix, devices: IntArray) -> tuple[Packed, IntArray]:
    """Links between chosen devices [n], and the rows of those among them: of dense matrices all."""
    s_per_bit, delay_s = links.s_per_bit.values, links.delay_s.values
    if s_per_bit is not None and delay_s is not None:
        return packed(LinkTables, len(s_per_bit), s_per_bit, delay_s), devices
    between = (np.ascontiguousarray(each.block(devices, devices)) for each in (links.s_per_bit, links.delay_s))
    return packed(LinkTables, len(devices), *between), np.arange(len(devices))


class _StepSizes(NamedTuple):
    """Fields of the tables of steps on n devices, and the works of their parts; places to write in."""

    fields: tuple[float, ...]
    works: Packed
    scratch: Packed
    passing: Packed  # tables that nobody keeps


@lru_cache(maxsize=32)
def _step_sizes(costs: Costs, n: int, past: int, sequences: int, *, star: bool) -> _StepSizes:
    """Sizes of steps with `past` positions cached, or more."""
    shape, row, units_row = costs.shape, costs.shape.n_groups + 1, n_shards(costs.shape, Kind.FFN) + 1
    bits = (8.0 * size for size in (costs.activation_bytes(1), costs.chunk_bytes(1, 1), costs.token_bytes()))
    lengths = n * n, n * n, n, n, n, n, n * row, n * row, n * units_row, n * (n + 2), row, n * n, n * n, n, n + 2
    ends = 1, n, n, n * n, n * n

    def of_heads(past: int) -> FloatArray:
        works = [costs.work(Kind.HEAD, groups, 1, past) for groups in (1, 2)]
        sent = [8.0 * costs.attention_bytes(groups, 1) for groups in (1, 2)]
        pairs = [work.flops for work in works], [work.bytes_read for work in works], sent
        return np.array([number for one, two in pairs for number in (one, two - one)], np.float64)

    works, heads = works_of(costs, n, 1, past), of_heads(past)
    more = of_heads(past + 1) - heads  # works of heads are affine in `past`
    fields = n, shape.n_layers, row, units_row, star, sequences, *bits, *lengths, *ends
    parts = packed(StepWorks, works.flops, works.bytes_read, past, heads, more)
    return _StepSizes(fields, parts, scratch_for(n, shape.n_layers, row, units_row), blank(StepTables, *fields))


def step_sizes(view: ClusterView, n: int, past: int) -> _StepSizes:
    """Sizes of steps on n devices with so many positions cached, and perhaps with others."""
    costs = view.costs.at_step(1, past)
    return _step_sizes(costs, n, 0 if costs.of_every_step else past, view.sequences, star=view.star)


class StepCode:
    """Decode steps: of one sequence, or the time until each of several has its next token."""

    def __init__(self, view: ClusterView, devices: IntArray, past: int) -> None:
        """`devices`: [n], ascending. `past`: positions that are cached."""
        self._functions, self._n, sizes = functions(), len(devices), step_sizes(view, len(devices), past)
        self.tables, self.scratch = blank(StepTables, *sizes.fields), sizes.scratch
        speeds = view.flops_per_s, view.mem_bytes_per_s, view.overhead_s, *view.message_ends
        everyone, (links, rows) = packed(AllDevices, view.n_devices, *speeds), links_between(view.links.wire, devices)
        tables = self.tables.at, everyone.at, address_of(devices), links.at, address_of(rows), sizes.works.at
        self._functions.fill(*tables, past)

    def steps(self, near: Folded) -> FloatArray:
        """Time of a step of each placement, or of a round of several sequences: [k]."""
        found, batch = np.empty(len(near)), batch_of(near)
        self._functions.rounds(self.tables.at, batch.at, self.scratch.at, len(found), address_of(found))
        return found

    def link_bits(self, shares: ShareArrays) -> FloatArray:
        """Bits that a step of one placement sends over each link: [n, n], also of each device to itself."""
        found = np.empty((self._n, self._n))
        self._functions.find_link_bits(
            self.tables.at, batch_of(Folded.of(shares)).at, self.scratch.at, address_of(found)
        )
        return found

    def costs(self, near: Folded, known: Requirements, price: float, below: float, missing: float) -> FloatArray:
        """Step and migration of each placement, as `share_costs.costs` says: [k]."""
        found, batch = np.empty(len(near)), batch_of(near)
        needs = address_of(known.missing_bytes), address_of(known.moves_s)
        tables = self.tables.at, batch.at, self.scratch.at
        self._functions.costs(*tables, *needs, price, below, missing, address_of(found))
        return found


@lru_cache(maxsize=16)
def memory_tables(known: ShareBytes) -> Packed:
    """Bytes as machine code reads them: `known` by its identity."""
    m, s = known, known.sizes
    sizes = (
        len(m.collective) - 1,
        len(s.head_workspace),
        len(m.units_workspace) - 1,
        s.group,
        s.norm,
        m.embed,
        m.lm_head,
    )
    shards = s.shared, m.proj, m.ffn, m.column, m.columns_bias, m.unit, m.units_bias
    tables = s.head_workspace, m.columns_workspace, m.units_workspace, m.collective
    return packed(MemoryTables, *sizes, *shards, *s.workspace.values(), s.proj_messages, m.once, *tables)


class NeedsCode:
    """Memory of placements, and migrations from one placement to them."""

    def __init__(self, memory: ShareMemory, moving: ShareMigrations) -> None:
        n = len(memory.capacity)
        self._functions, self._moving, self._ways = functions(), moving, dict[bytes, Packed]()  # by the runs' layers
        self.memory, self._copied, self.scratch = memory_tables(memory.bytes), memory.bytes.copied, scratch_for(n, 1)
        self._room, self._installed_bytes = (memory.ample, memory.capacity), memory.installed

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        k, batch, ways = len(near), batch_of(near), self.ways(near.runs)
        found = Requirements(np.empty(k, np.int64), np.empty(k))
        self._functions.missing(self.memory.at, ways.at, batch.at, address_of(found.missing_bytes))
        self._functions.migrations(ways.at, batch.at, self.scratch.at, address_of(found.moves_s))
        return found

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for all that a migration to a placement brings, beside all that they hold."""
        both = Folded.of(ShareArrays.joined([self._moving.begin, shares]))
        batch, ways = batch_of(both), self.ways(both.runs)
        tables = self.memory.at, ways.at, batch.at, self.scratch.at
        return bool(self._functions.have_room(*tables, 1, self._copied, address_of(self._installed_bytes)))

    def ways(self, runs: Runs) -> Packed:
        """The placement where moves begin, with one layer of each run, and the prices of moves."""
        key = runs.first.tobytes()
        if key not in self._ways:
            self._ways[key] = self._packed_ways(runs)
        return self._ways[key]

    def _packed_ways(self, runs: Runs) -> Packed:
        y, old, first = self._moving, self._moving.begin, runs.first
        begin = old.heads[0], old.proj[0], old.units[0]
        if len(first) < len(old.proj[0]):
            begin = begin[0][first], begin[1][first], begin[2][first]
        numbers = old.heads.shape[2], y.n_groups, y.on_flash, y.flash_bytes_per_s, np.array([y.cache]), *y.sizes
        ample, capacity = self._room
        ends = np.array([ample, old.embed[0], old.lm_head[0]], np.int64)
        tables = *map(np.ascontiguousarray, begin), y.s_per_bit, y.handled_s_per_bit, capacity
        return packed(WayTables, *numbers, ends, *tables)
