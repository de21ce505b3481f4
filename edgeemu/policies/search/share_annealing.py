"""Simulated annealing of many placements with divided layers at once (Kirkpatrick et al., Science 1983). Pure.

Where memory is short, the way to a better placement leads through placements that are worse or do not fit. The random
numbers have a fixed seed, so that two searches of the same cluster are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.policies.search.share_moves import FEW_LAYERS
from edgeemu.policies.search.share_search import ShareJudge, weight
from edgeemu.policies.view.shares import WITH_HEADS, BoolArray, ShareArrays
from edgeemu_kernels.shape import ModelShape

CHAINS = 64  # placements that are changed at once
STEPS, LEAST_STEPS = 600, 150  # changes of each: no more, and no fewer
WORK = 9.5e6  # of all steps, about a second
OVERHEAD = 100  # placements whose judgement takes as long as what a step takes for any number of chains
HOT, COLD = 0.05, 0.0005  # relative loss that is accepted as a rule, at first and at last
PENALTY, LAST_PENALTY = 1.0, 10.0  # relative cost of missing bytes, as a share of all that are held, likewise
ALL_ALIKE = 0.3  # share of changes that all layers make
RENEWED_AFTER = 100  # steps, after which the worst quarter of the chains goes on from the best of the best


def annealed(judge: ShareJudge, seeds: ShareArrays, number: int = 0) -> ShareArrays:
    """Anneal from seeds; returns placements that fit, of each chain the best, each once, the best first.

    None for models with so many layers that there would be work for too few steps. `number` is the seed of random
    numbers.
    """
    view, n = judge.view, len(judge.devices)
    shape = view.costs.shape
    steps = int(min(STEPS, WORK / weight(CHAINS + OVERHEAD, n, shape)))
    if steps < LEAST_STEPS or n == 1:
        return seeds.taken(np.arange(0))
    chance = np.random.default_rng(number)
    state = _Chains(judge, seeds.taken(np.arange(CHAINS) % len(seeds)))
    for step in range(steps):
        heat, penalty = (
            first * (last / first) ** (step / steps) for first, last in ((HOT, COLD), (PENALTY, LAST_PENALTY))
        )
        made = changed(state.now, shape, chance, divide=view.divide)
        state.go_to(made, heat * chance.exponential(size=CHAINS), penalty)
        if step % RENEWED_AFTER == RENEWED_AFTER - 1:
            state.renew()
    order = [at for at in state.best_costs.argsort(kind="stable").tolist() if np.isfinite(state.best_costs[at])]
    keys = state.best.keys()
    once = {keys[at]: at for at in reversed(order)}
    return state.best.taken(np.array(list(reversed(once.values())), np.int64))


class _Chains:
    """Chains of placements: where each is, and its best placement that fits."""

    def __init__(self, judge: ShareJudge, begin: ShareArrays) -> None:
        self._judge, self.now = judge, begin
        self._missing = self._share_missing(begin)  # [k]
        self._costs = judge.promised(begin)  # [k]
        self.best, self.best_costs = begin, np.where(self._missing == 0, self._costs, np.inf)

    def go_to(self, made: ShareArrays, losses: FloatArray, penalty: float) -> None:
        """Go to changed placements that lose no more than a relative loss, [k]; missing bytes count by `penalty`."""
        missing = self._share_missing(made)
        limits = self._costs * np.exp(losses + penalty * (self._missing - missing))
        costs = self._judge.promised(made, limits)
        go = costs < limits
        better = go & (missing == 0) & (costs < self.best_costs)
        self.best, self.best_costs = made.where(better, self.best), np.where(better, costs, self.best_costs)
        self.now, self._costs = made.where(go, self.now), np.where(go, costs, self._costs)
        self._missing = np.where(go, missing, self._missing)

    def renew(self) -> None:
        """Let the worst quarter of the chains go on from the best placements of the best quarter."""
        order = self.best_costs.argsort(kind="stable")
        best = order[: len(order) // 4]
        best = best[np.isfinite(self.best_costs[best])]
        chosen = np.arange(len(order))
        chosen[order[len(order) - len(best) :]] = len(order) + best
        self.now = ShareArrays.joined([self.now, self.best]).taken(chosen)
        self._costs = np.concatenate([self._costs, self.best_costs])[chosen]
        self._missing = np.concatenate([self._missing, np.zeros(len(order))])[chosen]

    def _share_missing(self, shares: ShareArrays) -> FloatArray:
        """Bytes for which there is no room, as a share of all that are held: [k]."""
        need = self._judge.memory.need_bytes(shares)  # [k, n]
        missing: FloatArray = np.maximum(need - self._judge.memory.capacity, 0).sum(1) / need.sum(1)
        return missing


@dataclass(slots=True)
class _Changes:
    """A random change of each of k placements, in place."""

    made: ShareArrays
    holder: tuple[IntArray, IntArray]  # [k] device that has groups, and one that has units, in `one`
    step: IntArray  # [k] from a device to another one
    one: BoolArray  # [k, n_layers] a layer, or of many a run of layers
    other: BoolArray  # [k, n_layers] another one, if there is one
    here: BoolArray  # [k, n_layers] `one`, or all layers
    groups: IntArray  # [k] that shift
    units: IntArray  # [k] that shift
    at_proj: IntArray  # [k] device of a projection, or WITH_HEADS
    total: tuple[int, int]  # of groups and units in a layer

    @classmethod
    def drawn(cls, base: ShareArrays, shape: ModelShape, chance: np.random.Generator, *, divide: bool) -> "_Changes":
        """Draw what can be part of a change; numbers that shift are powers of two, or without `divide` all units."""
        k, (n_layers, n) = len(base), base.heads.shape[1:]
        total = shape.n_groups, n_shards(shape, Kind.FFN)
        runs = np.array_split(np.eye(n_layers, dtype=np.bool_), min(n_layers, FEW_LAYERS))
        masks = np.array([run.any(0) for run in runs])  # [runs, n_layers]
        one = chance.integers(0, len(runs), k)
        other = (one + chance.integers(1, max(len(runs), 2), k)) % len(runs)
        layer = masks.argmax(1)[one]  # [k]
        held = (counts[np.arange(k), layer] > 0 for counts in (base.heads, base.units))
        groups, units = (2 ** chance.integers(0, most.bit_length(), k) for most in total)
        by_group, by_unit = ((chance.random((k, n)) * each).argmax(1) for each in held)
        return cls(
            made=base.taken(np.arange(k)),
            holder=(by_group, by_unit),
            step=chance.integers(1, n, k),
            one=masks[one],
            other=masks[other],
            here=masks[one] | (chance.random(k) < ALL_ALIKE)[:, None],
            groups=groups,
            units=units if divide else np.full(k, total[1]),
            at_proj=chance.integers(WITH_HEADS if divide else 0, n, k),
            total=total,
        )

    def shift_groups(self, k: IntArray) -> None:
        self._shift(self.made.heads, k, self.here, self.holder[0], self.groups)

    def shift_units(self, k: IntArray) -> None:
        self._shift(self.made.units, k, self.here, self.holder[1], self.units)

    def shift_both(self, k: IntArray) -> None:
        self.shift_groups(k)
        units = np.maximum(self.units, self.groups * (self.total[1] // self.total[0]))
        self._shift(self.made.units, k, self.here, self.holder[0], units)

    def trade_groups(self, k: IntArray) -> None:
        self._trade(self.made.heads, k, self.holder[0], self.groups)

    def trade_units(self, k: IntArray) -> None:
        self._trade(self.made.units, k, self.holder[1], self.units)

    def project(self, k: IntArray) -> None:
        self.made.proj[k] = np.where(self.here[k], self.at_proj[k, None], self.made.proj[k])

    def embed(self, k: IntArray) -> None:
        self.made.embed[k] = self._beside(self.made.embed, k)

    def lm_head(self, k: IntArray) -> None:
        self.made.lm_head[k] = self._beside(self.made.lm_head, k)

    def gather_groups(self, k: IntArray) -> None:
        self._gather(self.made.heads, k, self.holder[0], self.total[0])

    def gather_units(self, k: IntArray) -> None:
        self._gather(self.made.units, k, self.holder[1], self.total[1])

    def repeat_layer(self, k: IntArray) -> None:
        made, where, other = self.made, self.one[k], self.other[k].argmax(1)
        made.proj[k] = np.where(where, made.proj[k, other][:, None], made.proj[k])
        for counts in (made.heads, made.units):
            counts[k] = np.where(where[:, :, None], counts[k, other][:, None, :], counts[k])

    def swap_devices(self, k: IntArray) -> None:
        made, row, one, other = self.made, np.arange(len(k)), self.holder[1][k], self._beside(self.holder[1], k)
        order = np.tile(np.arange(made.heads.shape[-1]), (len(k), 1))  # [len(k), n]
        order[row, one], order[row, other] = other, one
        made.embed[k], made.lm_head[k] = order[row, made.embed[k]], order[row, made.lm_head[k]]
        for counts in (made.heads, made.units):
            counts[k] = np.take_along_axis(counts[k], order[:, None, :], 2)
        there = np.take_along_axis(order, np.maximum(made.proj[k], 0), 1)
        made.proj[k] = np.where(made.proj[k] < 0, WITH_HEADS, there)

    def _trade(self, counts: IntArray, k: IntArray, source: IntArray, number: IntArray) -> None:
        """Shift in one layer, and back in another: what each device holds stays alike."""
        self._shift(counts, k, self.one, source, number)
        if counts.shape[1] > 1:
            self._shift(counts, k, self.other, source, -number)

    def _gather(self, counts: IntArray, k: IntArray, source: IntArray, total: int) -> None:
        alone = self._beside(source, k)[:, None, None] == np.arange(counts.shape[-1])
        counts[k] = np.where(self.here[k][:, :, None], alone * total, counts[k])

    def _beside(self, devices: IntArray, k: IntArray) -> IntArray:
        """Another device than each of some [k]."""
        beside: IntArray = (devices[k] + self.step[k]) % self.made.heads.shape[-1]
        return beside

    def _shift(self, counts: IntArray, k: IntArray, where: BoolArray, source: IntArray, number: IntArray) -> None:
        """Shift shares in the layers of `where` [k, n_layers], as many as there are; negative numbers shift back."""
        source, target, number = source[k], self._beside(source, k), number[k][:, None]
        there, back = counts[k, :, source], counts[k, :, target]
        shifted = np.where(where[k], np.clip(number, -back, there), 0)
        counts[k, :, source] -= shifted
        counts[k, :, target] += shifted


CHANGES: tuple[tuple[Callable[[_Changes, IntArray], None], float], ...] = (  # with their odds
    (_Changes.shift_units, 0.25),
    (_Changes.shift_groups, 0.13),
    (_Changes.shift_both, 0.08),
    (_Changes.trade_units, 0.12),
    (_Changes.trade_groups, 0.05),
    (_Changes.project, 0.07),
    (_Changes.embed, 0.08),
    (_Changes.lm_head, 0.08),
    (_Changes.gather_groups, 0.025),
    (_Changes.gather_units, 0.025),
    (_Changes.repeat_layer, 0.04),
    (_Changes.swap_devices, 0.05),
)
ODDS = np.array([odds for _, odds in CHANGES]).cumsum() / sum(odds for _, odds in CHANGES)


def changed(base: ShareArrays, shape: ModelShape, chance: np.random.Generator, *, divide: bool) -> ShareArrays:
    """Make a random change of each placement."""
    changes = _Changes.drawn(base, shape, chance, divide=divide)
    kinds = np.searchsorted(ODDS, chance.random(len(base)), side="right")
    for number, (change, _) in enumerate(CHANGES):
        change(changes, np.flatnonzero(kinds == number))
    return changes.made.normal()
