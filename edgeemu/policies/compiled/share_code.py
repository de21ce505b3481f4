"""Placements on chosen devices, looked at by machine code: what NumPy computes, in a fraction of its time.

LLVM makes the code in memory, in a third of a second, when it is first asked for.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.compiled import share_costs, share_needs, share_neighbours, share_step
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, packed

DECISIONS = 128  # of a run, from which on machine code takes less time than it saves


class _Functions(NamedTuple):
    """Functions as machine code, and what owns it."""

    steps: Any
    costs: Any
    missing: Any
    migrations: Any
    ends: Any
    changes: Any
    owner: object


@cache
def functions() -> _Functions:
    """The machine code, made at the first call."""
    from edgeemu_kernels.scalar_functions import MachineCode  # brings LLVM

    steps, costs, missing = share_step.steps, share_costs.costs, share_needs.missing
    migrations, ends, changes = share_needs.migrations, share_neighbours.ends, share_neighbours.changes
    made = MachineCode(steps, costs, missing, migrations, ends, changes)
    return _Functions(made[steps], made[costs], made[missing], made[migrations], made[ends], made[changes], made)


def pays(view: ClusterView) -> bool:
    """Whether a run is long enough for machine code to save the time that it takes to make."""
    return view.total_tokens - view.prompt_tokens >= DECISIONS * view.interval_tokens


def _scratch(n: int, n_layers: int) -> Packed:
    """Places to write in, for placements on n devices."""
    run, needs = np.empty(n_layers, np.int64), np.empty(4 * n_layers * n, np.bool_)
    need, ring, has, had = np.empty((4, n), np.bool_)
    x_s, done_s, joined_s, before_x_s, weights, caches, lost = np.empty((7, n))
    free_s, before_free_s = np.empty((2, n * n))
    times = x_s, free_s, done_s, joined_s, had, before_x_s, before_free_s, weights, caches, lost
    return packed(Scratch, run, needs, need, ring, has, *times)


def _batch(shares: ShareArrays, lengths: IntArray) -> Packed:
    """Placements with one layer for each run of so many alike."""
    k, n_runs, n = shares.heads.shape
    parts = (shares.embed, shares.lm_head, shares.heads, shares.proj, shares.units, lengths)
    return packed(Batch, k, n_runs, n, *map(np.ascontiguousarray, parts))


class StepCode:
    """Decode steps of one sequence alone, where messages keep no processor busy."""

    def __init__(self, times: ShareTimes, n_layers: int) -> None:
        assert times.messages is None, "messages keep processors busy"
        t = times
        self._functions = functions()
        sizes = t.n, n_layers, t.heads_s.shape[1], t.units_s.shape[1], t.star
        bits, links = (t.hidden_bits, t.partial_bits, t.token_bits), (t.s_per_bit, t.delay_s)
        blocks = t.embed_s, t.proj_s, t.ffn_s, t.lm_head_s, t.heads_s, t.columns_s, t.units_s, t.sums_s
        bounds = t.hop_s, t.quickest_s, t.least_sums_s
        self._tables = packed(StepTables, *sizes, *bits, *links, *blocks, t.attention_bits, *bounds)
        self._scratch = _scratch(t.n, n_layers)

    def steps(self, near: Folded) -> FloatArray:
        """Time of a step of each placement: [k]."""
        found, batch = np.empty(len(near)), _batch(near.shares, near.runs.lengths)
        self._functions.steps(self._tables.at, batch.at, self._scratch.at, address_of(found))
        return found

    def costs(self, near: Folded, known: Requirements, price: float, below: float, missing: float) -> FloatArray:
        """Step and migration of each placement, as `share_costs.costs` says: [k]."""
        found, batch = np.empty(len(near)), _batch(near.shares, near.runs.lengths)
        needs = address_of(known.missing_bytes), address_of(known.moves_s)
        tables = self._tables.at, batch.at, self._scratch.at
        self._functions.costs(*tables, *needs, price, below, missing, address_of(found))
        return found


class NeedsCode:
    """Memory of placements, and migrations from one placement to them."""

    def __init__(self, memory: ShareMemory, moving: ShareMigrations) -> None:
        m, s, y = memory, memory.sizes, moving
        self._functions, self._moving = functions(), moving
        sizes = len(m.capacity), len(s.head_workspace), s.group, s.norm, m.embed, m.lm_head, s.shared, m.proj, m.ffn
        shards = m.column, m.columns_bias, m.unit, m.units_bias
        tables = s.head_workspace, m.columns_workspace, m.units_workspace, m.collective, m.capacity
        self._memory = packed(MemoryTables, *sizes, *shards, *s.workspace.values(), s.proj_messages, m.once, *tables)
        self._scratch = _scratch(len(m.capacity), 1)
        self._sizes = y.head, y.column, y.unit, y.embed, y.lm_head, y.table, y.cache, y.flash_bytes_per_s

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        shares, (first, lengths) = near
        y, k, batch = self._moving, len(shares), _batch(shares, lengths)
        old = y.begin
        begin = (old.heads[0, first], old.proj[0, first], old.units[0, first])
        sizes = shares.heads.shape[2], y.n_groups, y.on_flash, *self._sizes, int(old.embed[0]), int(old.lm_head[0])
        ways = packed(WayTables, *sizes, *map(np.ascontiguousarray, begin), y.s_per_bit, y.handled_s_per_bit)
        found = Requirements(np.empty(k, np.int64), np.empty(k))
        self._functions.missing(self._memory.at, batch.at, address_of(found.missing_bytes))
        self._functions.migrations(ways.at, batch.at, self._scratch.at, address_of(found.moves_s))
        return found


class NearCode:
    """Small changes of placements, in the order of `search.share_moves`."""

    def __init__(self, n_groups: int, n_units: int, *, divide: bool) -> None:
        self._functions, self._n_groups, self._n_units, self._divide = functions(), n_groups, n_units, divide
        self._shifts = n_units.bit_length() + 1 + 2 * (n_groups.bit_length() + 1)  # at most, between two devices

    def near(self, base: ShareArrays, ranges: Sequence[tuple[int, int]], *, ends: bool) -> ShareArrays:
        """Changes of each of some ranges of a placement's layers, after those of its ends."""
        n_runs, n = base.heads.shape[1:]
        room = (3 * n if ends else 0) + len(ranges) * (n * (n - 1) * self._shifts + 5 * n + 1)
        like = base.embed, base.lm_head, base.heads, base.proj, base.units
        parts = [np.empty((room, *part.shape[1:]), np.int64) for part in like]
        each = max(1, self._n_units // self._n_groups)
        sizes = n, n_runs, self._n_groups, self._n_units, each, self._divide
        begin = (
            int(base.embed[0]),
            int(base.lm_head[0]),
            *map(np.ascontiguousarray, (base.heads, base.proj, base.units)),
        )
        source, batch = packed(Base, *sizes, *begin), packed(Batch, room, n_runs, n, *parts, np.empty(0, np.int64))
        count = self._functions.ends(source.at, batch.at, 0) if ends else 0
        for first, after in ranges:
            count = self._functions.changes(source.at, batch.at, count, first, after)
        return ShareArrays(*(part[:count] for part in parts))
