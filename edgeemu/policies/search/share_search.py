"""Local search over shares: from given placements downhill, by the closed form of `view.share_times`. Pure.

Placements that do not fit count by the bytes that are missing, so that the search finds the way into memory too. It is
bounded by the placements that it judges, weighed by their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.policies.search.share_bounds import Runs, StepBounds
from edgeemu.policies.search.share_moves import FEW_LAYERS, near_alike, neighbours
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_energy import ShareEnergy
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_passage import ShareStep
from edgeemu.policies.view.share_prompts import prompt_of
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

NO_ROOM = 0.2  # share of the work of judging a placement that is memory
LEAST_GAIN = 1e-6  # relative, of a change
MOST_BEGUN = 2  # neighbours from which a search goes on
ROUNDING = 1e-9  # relative, of times: more than it can be
MISSING = (
    1e6  # more seconds or joules than any token takes: a placement that does not fit, and one for each missing byte
)
Missing = tuple[FloatArray, IntArray]  # costs of those that do not fit [k], and the indexes of those that do [m]


def missing_from(memory: ShareMemory, shares: ShareArrays, lengths: IntArray | None = None) -> Missing:
    """Find out which placements fit. `lengths`: of runs of layers, of which `shares` have one layer each."""
    over = np.maximum(memory.need_bytes(shares, lengths) - memory.capacity, 0).sum(1)  # [k]
    return MISSING + over.astype(np.float64), np.flatnonzero(over == 0)


class ShareJudge:
    """Judge of placements on chosen devices: seconds per token, or joules for the objective of energy."""

    def __init__(self, view: ClusterView, devices: IntArray, horizon: int) -> None:
        """`horizon`: decode steps to come that count."""
        self.view, self.devices = view, devices
        self.memory = ShareMemory(view, devices)
        self.decode = ShareTimes(view, devices, view.past + horizon // 2)
        self._energy = ShareEnergy(view, devices) if view.objective == "energy" else None
        by_latency = self._energy is None and not view.length
        self._prompt = ShareTimes(view, devices, 0, view.prompt_tokens) if by_latency else None
        self._tokens = max(1, view.total_tokens - view.prompt_tokens)
        self.bounds = StepBounds(self.decode)

    @property
    def by_decode_steps(self) -> bool:
        """Whether nothing costs less than its decode step takes."""
        return self._energy is None and self._prompt is None

    @property
    def second(self) -> float:
        """Cost of a second in which all wait: itself, or the idle energy."""
        return 1.0 if self._energy is None else self._energy.idle_w

    def promised(self, shares: ShareArrays, below: float | FloatArray = np.inf) -> FloatArray:
        """Mean seconds, or joules, per token: [k]. With several sequences the seconds until each has its next.

        For placements that are not below a limit, or each its own [k], it can be less, but not less than the limit.
        """
        step = step_of(self.decode, shares)
        if self._energy is not None:
            return self._energy.token_j(step, self.view.sequences)
        step_s = self._round_s(step, self.decode)
        if self._prompt is None:
            return step_s
        promised_s: FloatArray = (self._tokens - 1) * step_s / self._tokens
        rest = np.flatnonzero(promised_s < below)
        if len(rest):
            first_s = self._round_s(prompt_of(self._prompt, shares.taken(rest)), self._prompt)
            promised_s[rest] += first_s / self._tokens
        return promised_s

    def round_s(self, shares: ShareArrays) -> FloatArray:
        """Time until every sequence in flight has its next token: [k]."""
        return self._round_s(step_of(self.decode, shares), self.decode)

    def _round_s(self, step: ShareStep, times: ShareTimes) -> FloatArray:
        """Time until every sequence in flight has had such a step: [k]."""
        if self.view.sequences == 1:
            return step.step_s
        links_s = (step.bits * times.s_per_bit).max((1, 2))
        round_s: FloatArray = np.maximum(self.view.sequences * np.maximum(step.busy_s.max(1), links_s), step.step_s)
        return round_s

    def costs(self, shares: ShareArrays, below: float = np.inf) -> FloatArray:
        """Costs of placements: what they promise; for those that do not fit more than that, by missing bytes: [k]."""
        costs, fits = missing_from(self.memory, shares)
        if len(fits):
            costs[fits] = self.promised(shares.taken(fits), below)
        return costs

    def costs_below(
        self, folded: ShareArrays, runs: Runs, below: FloatArray, missing: Missing | None = None
    ) -> FloatArray:
        """Costs of placements, each computed only if it can be below its limit, else not less than that: [k], [k].

        `folded`: one layer of each of the runs. `missing`: what `missing_from` says of them, if it is known.
        """
        costs, fits = (
            missing_from(self.memory, folded, runs.lengths) if missing is None else (missing[0].copy(), missing[1])
        )
        costs[fits] = self.bounds.least_s(folded.taken(fits), runs.lengths)
        left = fits[costs[fits] < below[fits] * (1 + ROUNDING)]
        if len(left):
            costs[left] = self.promised(runs.unfolded(folded.taken(left)))
        return costs


def weight(count: float, n_devices: int, shape: ModelShape) -> float:
    """Work of judging so many placements."""
    return count * shape.n_layers * (n_devices * n_devices + 16.0)


@dataclass(slots=True)
class ShareSearch:
    """Descents from several placements. `work` is left for further judgements."""

    judge: ShareJudge
    work: float
    moving: ShareMigrations | None = None  # the way to each placement adds to its cost …
    price: float = 0.0  # … so much for each second

    def costs(self, shares: ShareArrays, below: float = np.inf) -> FloatArray:
        """Costs of a batch, [k]; those that are not below a limit can be any above."""
        if self.moving is None:
            costs = self.judge.costs(shares, below)
        else:
            runs = Runs.of(shares)
            folded = runs.folded(shares)
            moves = self.moving.seconds(folded, *runs) * self.price  # [k]
            bounded = below < np.inf and self.judge.by_decode_steps
            costs = self.judge.costs_below(folded, runs, below - moves) if bounded else self.judge.costs(shares, below)
        count = float(np.count_nonzero(costs < MISSING)) + NO_ROOM * len(shares)
        self.work -= weight(count, len(self.judge.devices), self.judge.view.costs.shape)
        return costs if self.moving is None else costs + moves

    def around(self, base: ShareArrays) -> Iterator[ShareArrays]:
        """The neighbours of one placement, in batches."""
        view = self.judge.view
        shape = view.costs.shape
        return neighbours(base, shape.n_groups, n_shards(shape, Kind.FFN), divide=view.divide)

    def descend(self, base: ShareArrays, base_cost: float, enough: float = 0.0) -> tuple[ShareArrays, float]:
        """Go to the best neighbour until there is none that is better, no work left, or a cost below `enough`."""
        while self.work > 0 and base_cost >= enough:
            for near in self.around(base):
                costs = self.costs(near, base_cost)
                at = int(costs.argmin())
                if costs[at] < base_cost * (1 - LEAST_GAIN):
                    base, base_cost = near.taken([at]), float(costs[at])
                    break
                if self.moving is not None and self.work <= 0:
                    return base, base_cost
            else:
                break
        return base, base_cost

    def all_from(self, seeds: ShareArrays) -> list[tuple[float, ShareArrays]]:
        """The ends of descents from all seeds, each once, the best first."""
        ends = _Ends()
        costs = self.costs(seeds)
        for at in costs.argsort(kind="stable").tolist():
            ends.add(*self.descend(seeds.taken([at]), float(costs[at])))
        return ends.sorted()

    def first_that_fits(self, seeds: ShareArrays) -> ShareArrays | None:
        """A placement that fits, on the way downhill from one of the seeds."""
        costs = self.costs(seeds)
        for at in costs.argsort(kind="stable").tolist():
            end, cost = self.descend(seeds.taken([at]), float(costs[at]), MISSING)
            if cost < MISSING:
                return end
        return None

    def better_than(self, limit: float, near: "Vicinity") -> list[tuple[float, ShareArrays]]:
        """Placements downhill from the best that are near, with costs below a limit: the best first.

        Nothing, and little work, where bounds show that none of those near is below it.
        """
        which, costs = self._below(limit, near)
        if not len(which):
            return []
        ends, order = _Ends(), which[costs.argsort(kind="stable")]
        beside = order < near.beside
        least = [*order[beside][:MOST_BEGUN].tolist(), *order[~beside][:1].tolist()]
        by_place = dict(zip(which.tolist(), costs.tolist(), strict=True))
        for at in least:
            first = near.runs.unfolded(near.shares.taken([at]))
            ends.add(first, by_place[at])
            ends.add(*self.descend(first, by_place[at]))
        return [pair for pair in ends.sorted() if pair[0] < limit]

    def _below(self, limit: float, near: "Vicinity") -> tuple[IntArray, FloatArray]:
        """Which of those near cost less than a limit, and what: [m] each. What bounds reject is not computed."""
        judge, moves = self.judge, near.moves_s * self.price  # [k]
        if judge.by_decode_steps:
            costs = judge.costs_below(near.shares, near.runs, limit - moves, near.missing) + moves
        else:
            costs = judge.costs(near.runs.unfolded(near.shares)) + moves
        below = np.flatnonzero(costs < limit)
        return below, costs[below]


class Vicinity(NamedTuple):
    """Placements near another one, with one layer for each of the runs of layers that are alike in all of them."""

    shares: ShareArrays  # [k]
    beside: int  # the first so many are neighbours
    runs: Runs
    moves_s: FloatArray  # [k] seconds that the migration to each takes
    missing: Missing

    @classmethod
    def of(
        cls, view: ClusterView, base: ShareArrays, others: ShareArrays, memory: ShareMemory, moving: ShareMigrations
    ) -> Self:
        """The neighbours of one placement that change its ends or all layers alike, of few layers also single ones."""
        shape = view.costs.shape
        units = n_shards(shape, Kind.FFN)
        if shape.n_layers > FEW_LAYERS:
            runs = Runs.of(ShareArrays.joined([base, others]))
            near = near_alike(runs.folded(base), shape.n_groups, units, divide=view.divide)
        else:
            runs = Runs(np.arange(shape.n_layers), np.ones(shape.n_layers, np.int64))
            near = next(neighbours(base, shape.n_groups, units, divide=view.divide))
        shares = ShareArrays.joined([near, runs.folded(others)])
        return cls(shares, len(near), runs, moving.seconds(shares, *runs), missing_from(memory, shares, runs.lengths))


class _Ends:
    """Where descents have ended: each placement once, with its cost."""

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[float, ShareArrays]] = {}

    def add(self, end: ShareArrays, cost: float) -> None:
        self._found.setdefault(end.keys()[0], (cost, end))

    def sorted(self) -> list[tuple[float, ShareArrays]]:
        return sorted(self._found.values(), key=lambda pair: pair[0])
