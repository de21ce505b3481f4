"""Placements on chosen devices, looked at by machine code: what NumPy computes, in a fraction of its time.

LLVM makes the code in memory, in a third of a second, when it is first asked for.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from edgeemu.policies.compiled import share_costs, share_descent, share_needs, share_neighbours, share_step
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements
from edgeemu.policies.view.share_runs import Folded, Runs
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, packed

DECISIONS = 128  # of a run, from which on machine code takes less time than it saves


class _Functions(NamedTuple):
    """What owns machine code, and its functions."""

    owner: object
    steps: Any
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


@cache
def functions() -> _Functions:
    """The machine code, made at the first call."""
    from edgeemu_kernels.scalar_functions import MachineCode  # brings LLVM

    needs, near, descent = share_needs, share_neighbours, share_descent
    every = (
        *(share_step.steps, share_costs.costs, needs.missing, needs.migrations, needs.have_room),
        *(near.ends, near.changes, near.elsewhere, descent.near_costs, descent.best_near, descent.best_change),
    )
    made = MachineCode(*every)
    return _Functions(made, *(made[each] for each in every))


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


def batch_of(near: Folded) -> Packed:
    """Placements as machine code reads them."""
    shares, (_, lengths) = near
    parts = (shares.embed, shares.lm_head, shares.heads, shares.proj, shares.units, lengths)
    return packed(Batch, *shares.heads.shape, *map(np.ascontiguousarray, parts))


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
        self.tables = packed(StepTables, *sizes, *bits, *links, *blocks, t.attention_bits, *bounds)
        self.scratch = _scratch(t.n, n_layers)

    def steps(self, near: Folded) -> FloatArray:
        """Time of a step of each placement: [k]."""
        found, batch = np.empty(len(near)), batch_of(near)
        self._functions.steps(self.tables.at, batch.at, self.scratch.at, address_of(found))
        return found

    def costs(self, near: Folded, known: Requirements, price: float, below: float, missing: float) -> FloatArray:
        """Step and migration of each placement, as `share_costs.costs` says: [k]."""
        found, batch = np.empty(len(near)), batch_of(near)
        needs = address_of(known.missing_bytes), address_of(known.moves_s)
        tables = self.tables.at, batch.at, self.scratch.at
        self._functions.costs(*tables, *needs, price, below, missing, address_of(found))
        return found


class NeedsCode:
    """Memory of placements, and migrations from one placement to them."""

    def __init__(self, memory: ShareMemory, moving: ShareMigrations) -> None:
        m, s, y = memory, memory.sizes, moving
        self._functions, self._moving = functions(), moving
        counts = len(m.capacity), len(s.head_workspace), len(m.units_workspace) - 1, m.ample
        sizes = *counts, s.group, s.norm, m.embed, m.lm_head, s.shared, m.proj, m.ffn
        shards = m.column, m.columns_bias, m.unit, m.units_bias
        tables = s.head_workspace, m.columns_workspace, m.units_workspace, m.collective, m.capacity
        self.memory = packed(MemoryTables, *sizes, *shards, *s.workspace.values(), s.proj_messages, m.once, *tables)
        self._copied, self.scratch = m.copied_bytes, _scratch(len(m.capacity), 1)
        self._sizes = y.head, y.column, y.unit, y.embed, y.lm_head, y.table, y.cache, y.flash_bytes_per_s

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        k, batch, ways = len(near), batch_of(near), self.ways(near.runs)
        found = Requirements(np.empty(k, np.int64), np.empty(k))
        self._functions.missing(self.memory.at, batch.at, address_of(found.missing_bytes))
        self._functions.migrations(ways.at, batch.at, self.scratch.at, address_of(found.moves_s))
        return found

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for all that a migration to a placement brings, beside all that they hold."""
        both = Folded.of(ShareArrays.joined([self._moving.begin, shares]))
        batch, ways = batch_of(both), self.ways(both.runs)
        found = self._functions.have_room(self.memory.at, ways.at, batch.at, self.scratch.at, self._copied)
        return bool(found)

    def ways(self, runs: Runs) -> Packed:
        """The placement where moves begin, with one layer of each run, and the prices of moves."""
        y, old, first = self._moving, self._moving.begin, runs.first
        begin = (old.heads[0, first], old.proj[0, first], old.units[0, first])
        sizes = old.heads.shape[2], y.n_groups, y.on_flash, *self._sizes, int(old.embed[0]), int(old.lm_head[0])
        return packed(WayTables, *sizes, *map(np.ascontiguousarray, begin), y.s_per_bit, y.handled_s_per_bit)
