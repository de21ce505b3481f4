"""The optimum of one decision, as a mixed-integer program solved by HiGHS. Pure, and slow on large clusters.

It covers placements of whole blocks, with any number of layers. Projections and feed-forward blocks stay undivided: a
placement with shards can be faster, and `search.lower_bound` says what no placement, divided or not, can beat.

The objective is migration + `interval_tokens` x decode step, by `view.migration_time` and `view.step_time`, subject to
memory at the end of the sequence. It is myopic, as the head-level paper's optimum is (arXiv 2505.02533, section IV),
but the paper enumerates |V|^(h+2) placements. Here, groups of a layer being alike, their *number* on each device is a
variable, and so is how many go from a device to another. For every layer, with devices s (has x), d (holds groups), j
(projection):

    pair[s, j] = 1 where x is at s and the projection on j       a transport plan between two one-hot choices: integer
                                                                 where they are, and it needs no binaries of its own
    via[s, d, j] = 1 where, besides, d holds groups              like pair, one more index; sums to used[d]
    sent[d, j] = groups of d if the projection is on j           so that time is linear in it

    stage >= every device's time through its groups to j         a maximum of linear terms: exact, no big constant
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import IntArray, PlacementArrays, assign_groups
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.bound_memory import SOLVED
from edgeemu.policies.search.mip import Columns, MixedIntegerProgram, UnprovenError
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.memory_arrays import MemoryHeadroom, sizes_of
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.step_time import StepTimes

TIME_LIMIT_S = 9.0  # below the controller's own limit, whose alarm cannot interrupt HiGHS
MOST_DEVICES_CUBED_BY_LAYERS, MOST_LAYERS = 2000, 12  # up to which a proof takes a few seconds
_RESOLUTION = 1e4  # the objective of a step on the fastest device, so that HiGHS's absolute tolerances do not matter
_MIB = 2**20


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """The placement with the least migration and step time.

    Raises:
        InfeasibleError: first call, and no placement fits.
        NoBetterPlacement: the current one no longer fits, and no other does; or no proof in time.
    """
    shape = view.costs.shape
    old = None if current is None else PlacementArrays.of(current, shape)
    best = _PlacementProgram(view, old).solve()
    if best is None and current is None:
        raise InfeasibleError(f"no placement of {shape.name} fits the devices' memory; that is proven")
    if best is None:
        raise NoBetterPlacement("no placement fits the devices' memory; that is proven")
    return current if current is not None and old is not None and best.same(old) else best.placement(shape)


def least_step_s(view: ClusterView) -> float:
    """Seconds that a decode step of any placement of whole blocks takes at least: the optimum, to a hundred-thousandth.

    Infinite if it is proven that no such placement fits; 0 if nothing was proven in time.
    """
    try:
        return _PlacementProgram(view, None).least_s()
    except UnprovenError:
        return 0.0


def answers(n_devices: int, n_layers: int) -> bool:
    """Whether a proof within the time limit is likely: variables grow with the cube of devices, and with layers."""
    return n_devices**3 * n_layers <= MOST_DEVICES_CUBED_BY_LAYERS and n_layers <= MOST_LAYERS


class _PlacementProgram:
    def __init__(self, view: ClusterView, old: PlacementArrays | None) -> None:
        self.view, self.old = view, old
        self.times, self.sizes = StepTimes(view), sizes_of(view)
        self.n, self.n_groups = view.n_devices, view.costs.shape.n_groups
        self.n_layers = view.costs.shape.n_layers
        step_s = self.n_layers * float(self.times.whole_layer_s.min())
        self.per_s = _RESOLUTION / step_s
        self.model = MixedIntegerProgram()
        self.both_ends: list[int] = []  # of a tied model: variables that are 1 where both ends are on a device, [n]
        self._variables()
        self._steps()
        self._memory()
        if old is not None:
            self._migration(old)

    def least_s(self) -> float:
        """The objective for each step, without migration. Raises UnprovenError."""
        values = self.model.solve(TIME_LIMIT_S)
        if values is None:
            return np.inf
        return SOLVED * float(np.dot(self.model.cost, values)) / (self.per_s * self.view.interval_tokens)

    def solve(self) -> PlacementArrays | None:
        try:
            values = self.model.solve(TIME_LIMIT_S)
        except UnprovenError as error:
            raise NoBetterPlacement(str(error)) from error
        if values is None:
            return None

        def chosen(columns: Columns) -> int:
            return int(values[columns].argmax())

        counts = np.rint(values[self.count]).astype(np.int64)  # [n_layers, n]
        before: Sequence[IntArray | None] = [None] * self.n_layers if self.old is None else list(self.old.heads)
        heads = np.stack([self._owners(row, values, layer, before[layer]) for layer, row in enumerate(counts)])
        proj = np.array([chosen(row) for row in self.proj])
        ffn = np.array([chosen(row) for row in self.ffn])
        layout = PlacementArrays(chosen(self.embed), chosen(self.lm_head), heads, proj, ffn)
        assert MemoryHeadroom.of(self.view, layout).fits(), "the program's memory is that of placement.memory"
        return layout

    def _owners(self, counts: IntArray, values: Any, layer: int, before: IntArray | None) -> IntArray:
        """The groups' owners, by the program's own flows from device to device."""
        if before is None:
            return assign_groups(counts, None)
        flow = np.rint(values[self.flow[layer]]).astype(np.int64)  # [n, n]
        after = before.copy()
        for device in range(self.n):
            mine = np.flatnonzero(before == device)
            leaving = np.repeat(np.arange(self.n), np.where(np.arange(self.n) == device, 0, flow[device]))
            after[mine[len(mine) - len(leaving) :]] = leaving
        return after

    def _variables(self) -> None:
        model, n, layers = self.model, self.n, self.n_layers
        self.embed = model.add(n, upper=1, integer=True)
        self.lm_head = model.add(n, upper=1, integer=True)
        self.proj = model.add(layers, n, upper=1, integer=True)
        self.ffn = model.add(layers, n, upper=1, integer=True)
        self.count = model.add(layers, n, upper=self.n_groups, integer=True)
        self.used = model.add(layers, n, upper=1, integer=True)
        for choice in (self.embed, self.lm_head, *self.proj, *self.ffn):
            model.equal([(1.0, int(x)) for x in choice], 1)
        for count, used in zip(self.count, self.used, strict=True):
            model.equal([(1.0, int(x)) for x in count], self.n_groups)
            for k, u in zip(count, used, strict=True):
                model.row([(1, k), (-self.n_groups, u)], high=0)
                model.row([(1, k), (-1, u)], low=0)

    def _pair(self, a: Columns, b: Columns) -> Columns:
        """Variables that are 1 where both of two one-hot choices are made: [n, n]."""
        model = self.model
        both = model.add(self.n, self.n, upper=1)
        for i in range(self.n):
            model.equal([*((1, x) for x in both[i]), (-1, a[i])])
            model.equal([*((1, x) for x in both[:, i]), (-1, b[i])])
        return both

    def _charge(self, columns: Columns, seconds: Any) -> None:
        """Add seconds per step to the cost of variables."""
        tokens = self.view.interval_tokens * self.per_s
        for column, price_s in zip(columns.ravel().tolist(), np.asarray(seconds).ravel().tolist(), strict=True):
            self.model.cost[column] += tokens * price_s

    def _hops_s(self, bits: float) -> Any:
        return np.stack([self.times.links.row(d, bits) for d in range(self.n)])  # [n, n]

    def _steps(self) -> None:
        times = self.times
        x_s = self._hops_s(times.hidden_bits)
        self._charge(self.embed, times.embed_s)
        self._charge(self.lm_head, times.lm_head_s)
        self._charge(self._pair(self.lm_head, self.embed), self._hops_s(times.token_bits))
        self._charge(self._pair(self.ffn[-1], self.lm_head), x_s)
        source = self.embed
        for layer in range(self.n_layers):
            self._charge(self.proj[layer], times.proj_s)
            self._charge(self.ffn[layer], times.ffn_s)
            self._charge(self._pair(self.proj[layer], self.ffn[layer]), x_s)
            self._heads(layer, source, x_s)
            source = self.ffn[layer]

    def _heads(self, layer: int, source: Columns, x_s: Any) -> None:
        """Add the stage of a layer's heads: see the module's docstring."""
        model, times, n, per_s = self.model, self.times, self.n, self.per_s
        count, used, proj = self.count[layer], self.used[layer], self.proj[layer]
        stage = int(model.add(1, cost=float(self.view.interval_tokens))[0])
        pair = self._pair(source, proj)
        via = model.add(n, n, n, upper=1)
        sent = model.add(n, n, upper=self.n_groups)
        fixed_s, slope_s = self._hops_s(times.attention_fixed_bits), self._hops_s(times.attention_slope_bits)
        slope_s = slope_s - np.stack([times.links.delay_s.row(d) for d in range(n)])
        leaves_s = x_s - np.stack([times.links.delay_s.row(d) for d in range(n)])
        model.row([(1, stage), *((-per_s * x_s[s, j], pair[s, j]) for s in range(n) for j in range(n))], low=0)
        roofs = (
            (times.compute_fixed_s, times.compute_slope_s),
            (times.memory_fixed_s, times.memory_slope_s),
        )
        for d in range(n):
            model.equal([*((1.0, int(w)) for w in via[:, d].ravel()), (-1.0, int(used[d]))])
            model.equal([*((1, x) for x in sent[d]), (-1, count[d])])
            for j in range(n):
                model.row([(1, sent[d, j]), *((-self.n_groups, w) for w in via[:, d, j])], high=0)
                for s in range(n):
                    model.row([(1, via[s, d, j]), (-1, pair[s, j])], high=0)
            through = [(-per_s * (x_s[s, d] + fixed_s[d, j]), via[s, d, j]) for s in range(n) for j in range(n)]
            out = [(-per_s * slope_s[d, j], sent[d, j]) for j in range(n)]
            for roof_fixed_s, roof_slope_s in roofs:
                own = [(-per_s * roof_fixed_s[d], used[d]), (-per_s * roof_slope_s[d], count[d])]
                model.row([(1, stage), *through, *out, *own], low=0)
            behind_x = [(-per_s * (leaves_s[d, j] + fixed_s[d, j]), via[d, d, j]) for j in range(n) if j != d]
            model.row([(1, stage), *behind_x, *out], low=0)

    def _memory(self) -> None:
        """Add the memory of every device, in MiB: a tolerance of 1e-6 is a byte."""
        model, s = self.model, self.sizes
        for d in range(self.n):
            workspace = int(model.add(1)[0])
            some, any_proj = (int(x) for x in model.add(2, upper=1))
            singles = [
                (Kind.EMBED, [self.embed[d]]),
                (Kind.LM_HEAD, [self.lm_head[d]]),
                (Kind.PROJ, self.proj[:, d].tolist()),
                (Kind.FFN, self.ffn[:, d].tolist()),
            ]
            terms = [(s.any_messages / _MIB, some), (s.proj_messages / _MIB, any_proj), (1.0, workspace)]
            for kind, columns in singles:
                for x in columns:
                    terms.append((s.weights[kind] / _MIB, x))
                    model.row([(1, workspace), (-s.workspace[kind] / _MIB, x)], low=0)
                    model.row([(1, some), (-1, x)], low=0)
                    if kind is Kind.PROJ:
                        model.row([(1, any_proj), (-1, x)], low=0)
            for k, u in zip(self.count[:, d].tolist(), self.used[:, d].tolist(), strict=True):
                terms += [(s.group / _MIB, k), (s.norm / _MIB, u)]
                model.row([(1, some), (-1, u)], low=0)
                self._head_workspace(workspace, k, u)
            if s.shared:
                both = int(model.add(1, upper=1)[0])
                model.row([(1, both), (-1, self.embed[d])], high=0)
                model.row([(1, both), (-1, self.lm_head[d])], high=0)
                self.both_ends.append(both)
                terms.append((-s.shared / _MIB, both))
            model.row(terms, high=int(self.view.memory_bytes[d]) / _MIB)

    def _head_workspace(self, workspace: int, count: int, used: int) -> None:
        """Add the heads' workspace: a convex function of integers, the maximum of lines through neighbouring values."""
        table = self.sizes.head_workspace / _MIB  # [n_groups + 1]
        for at_k, slope in enumerate(np.diff(table[1:]), start=1):
            fixed = float(table[at_k] - at_k * slope)
            self.model.row([(1, workspace), (-float(slope), count), (-fixed, used)], low=0)
        if len(table) == 2:
            self.model.row([(1, workspace), (-float(table[1]), used)], low=0)

    def _migration(self, old: PlacementArrays) -> None:
        """Add the migration time: the maximum over links, storages, and processors that chunks keep busy."""
        model, n, costs, per_s = self.model, self.n, MoveCosts(self.view), self.per_s
        migration = int(model.add(1, cost=1.0)[0])
        self.flow = model.add(self.n_layers, n, n, upper=self.n_groups, integer=True)
        before = old.counts(n)  # [n_layers, n]
        for flow, counts, held in zip(self.flow, self.count, before, strict=True):
            for d in range(n):
                model.equal([(1.0, int(x)) for x in flow[d]], int(held[d]))
                model.equal([*((1, x) for x in flow[:, d]), (-1, counts[d])])
        links = costs.prices.links
        rate, delay = ([matrix.row(d) for d in range(n)] for matrix in (links.s_per_bit, links.delay_s))
        singles: list[tuple[Kind, int, Columns]] = [
            (Kind.EMBED, old.embed, self.embed),
            (Kind.LM_HEAD, old.lm_head, self.lm_head),
            *((Kind.PROJ, int(at), row) for at, row in zip(old.proj, self.proj, strict=True)),
            *((Kind.FFN, int(at), row) for at, row in zip(old.ffn, self.ffn, strict=True)),
        ]
        handled: list[list[tuple[float, int]]] = [[] for _ in range(n)]  # bits that each device sends or takes in
        for b in range(n):
            read = [(costs.flash_s[Kind.HEAD], x) for a in range(n) if a != b for x in self.flow[:, a, b].tolist()]
            read += [(costs.flash_s[kind], int(row[b])) for kind, at, row in singles if at != b]
            read += [(-costs.table_flash_s, x) for _, x in self._tables_there(old, b)]
            if self.view.weights_on_flash:
                model.row([(1, migration), *((-per_s * t, x) for t, x in read)], low=0)
            for a in range(n):
                if a == b:
                    continue
                moved = [(costs.link_bits[Kind.HEAD], x) for x in self.flow[:, a, b].tolist() if before[:, a].any()]
                moved += [(costs.link_bits[kind], int(row[b])) for kind, at, row in singles if at == a]
                moved = [(bits, x) for bits, x in moved if bits]
                if not moved:
                    continue
                terms: list[tuple[float, int]] = [(1, migration)]
                less = [(-costs.table_bits, x) for source, x in self._tables_there(old, b) if source == a]
                sent = [(bits, x) for bits, x in [*moved, *less] if bits]
                terms += [(-per_s * bits * float(rate[a][b]), x) for bits, x in sent]
                for ends in (handled[a], handled[b]):
                    ends += sent
                if delay[a][b]:
                    anything = int(model.add(1, upper=1, integer=True)[0])
                    terms.append((-per_s * float(delay[a][b]), anything))
                    for _, x in moved:
                        model.row([(model.upper[x], anything), (-1, x)], low=0)
                model.row(terms, low=0)
        for each, s_per_bit in zip(handled, costs.prices.processor_s_per_bit.tolist(), strict=True):
            if each and s_per_bit:
                model.row([(1, migration), *((-per_s * bits * s_per_bit, x) for bits, x in each)], low=0)

    def _tables_there(self, old: PlacementArrays, target: int) -> list[tuple[int, int]]:
        """Ends that bring no table to a device: where each comes from, and a variable that is 1 if it does."""
        if not self.both_ends:
            return []
        embed, lm_head = int(self.embed[target]), int(self.lm_head[target])
        there = [(old.embed, embed)] if old.lm_head == target != old.embed else []
        if old.lm_head != target:
            there.append((old.lm_head, lm_head if old.embed == target else self.both_ends[target]))
        return there
