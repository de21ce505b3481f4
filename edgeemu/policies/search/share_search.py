"""Local search over shares: from given placements downhill, by the closed form of `view.share_times`. Pure.

Placements that do not fit count by the bytes that are missing, so that the search finds the way into memory too. It is
bounded by the placements that it judges, weighed by their size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.policies.compiled.near_code import DescentCode, NearCode
from edgeemu.policies.compiled.share_code import NeedsCode, StepCode
from edgeemu.policies.search.change_rule import WORTH
from edgeemu.policies.search.share_moves import all_around, neighbours
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.share_energy import ShareEnergy
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_needs import FindsNeeds, Requirements, ShareNeeds
from edgeemu.policies.view.share_passage import ShareStep
from edgeemu.policies.view.share_prompts import prompt_of
from edgeemu.policies.view.share_runs import Around, Folded
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape

if TYPE_CHECKING:
    from edgeemu.policies.search.vicinity import Vicinity

NO_ROOM = 0.2  # share of the work of judging a placement that is memory
LEAST_GAIN = 1e-6  # relative, of a change
MOST_BEGUN = 2  # neighbours from which a search goes on
MISSING = (
    1e6  # more seconds or joules than any token takes: a placement that does not fit, and one for each missing byte
)


def middle(view: ClusterView, horizon: int) -> int:
    """Positions that are cached in the middle of so many decode steps to come."""
    return view.past + horizon // 2


class ShareJudge:
    """Judge of placements on chosen devices: seconds per token, or joules for the objective of energy."""

    def __init__(self, view: ClusterView, devices: IntArray, horizon: int) -> None:
        """`horizon`: decode steps to come that count."""
        self.view, self.devices, self.past = view, devices, middle(view, horizon)
        self._energy = ShareEnergy(view, devices) if view.objective == "energy" else None
        by_latency = self._energy is None and not view.length
        self._prompt = ShareTimes(view, devices, 0, view.prompt_tokens) if by_latency else None

    @cached_property
    def _steps(self) -> StepCode:
        """Machine code for decode steps."""
        return StepCode(self.view, self.devices, self.past)

    @cached_property
    def decode(self) -> ShareTimes:
        """Times of the parts of a decode step in the middle of those to come."""
        return ShareTimes(self.view, self.devices, self.past)

    @cached_property
    def memory(self) -> ShareMemory:
        return ShareMemory(self.view, self.devices)

    @property
    def by_decode_steps(self) -> bool:
        """Whether nothing costs less than its decode step takes."""
        return self._energy is None and self._prompt is None

    @property
    def code(self) -> StepCode | None:
        """Machine code for costs; None where they have more than a decode step."""
        return self._steps if self.by_decode_steps else None

    @property
    def second(self) -> float:
        """Cost of a second in which all wait: itself, or the idle energy."""
        return 1.0 if self._energy is None else self._energy.idle_w

    def promised(self, shares: ShareArrays, below: float | FloatArray = np.inf) -> FloatArray:
        """Mean seconds, or joules, per token: [k]. With several sequences the seconds until each has its next.

        For placements that are not below a limit, or each its own [k], it can be less, but not less than the limit.
        """
        if self._energy is not None:
            return self._energy.token_j(step_of(self.decode, shares), self.view.sequences)
        step_s = self.round_s(shares)
        if self._prompt is None:
            return step_s
        tokens = max(1, self.view.total_tokens - self.view.prompt_tokens)
        promised_s: FloatArray = (tokens - 1) * step_s / tokens
        rest = np.flatnonzero(promised_s < below)
        if len(rest):
            first_s = self._round_s(prompt_of(self._prompt, shares.taken(rest)), self._prompt)
            promised_s[rest] += first_s / tokens
        return promised_s

    def round_s(self, shares: ShareArrays) -> FloatArray:
        """Time until every sequence in flight has its next token: [k]."""
        return self._steps.steps(Folded.of(shares))

    def _round_s(self, step: ShareStep, times: ShareTimes) -> FloatArray:
        """Time until every sequence in flight has had such a step: [k]."""
        if self.view.sequences == 1:
            return step.step_s
        links_s = (step.bits * times.s_per_bit).max((1, 2))
        round_s: FloatArray = np.maximum(self.view.sequences * np.maximum(step.busy_s.max(1), links_s), step.step_s)
        return round_s

    def costs(self, shares: ShareArrays, below: float = np.inf) -> FloatArray:
        """Costs of placements: what they promise; for those that do not fit more than that, by missing bytes: [k]."""
        near = Folded.of(shares)
        return self.costs_of(near, ShareNeeds(self.memory).of(near), 0.0, below)

    def costs_of(self, near: Folded, needs: Requirements, price: float, below: float = np.inf) -> FloatArray:
        """Costs of placements, with the seconds of the migration to each times a price: [k].

        Each is computed only if it can be below the limit; else it is any above that.
        """
        if self.code is not None:
            return self.code.costs(near, needs, price, below, MISSING)
        moves, fits = needs.moves_s * price, np.flatnonzero(needs.missing_bytes == 0)
        costs: FloatArray = MISSING + needs.missing_bytes.astype(np.float64)
        if len(fits):
            costs[fits] = self.promised(near.unfolded(fits), below)
        return costs + moves


def changes_of(view: ClusterView) -> NearCode:
    """Maker of small changes of placements for a view."""
    shape = view.costs.shape
    return NearCode(shape.n_groups, n_shards(shape, Kind.FFN), divide=view.divide)


def weight(count: float, n_devices: int, shape: ModelShape) -> float:
    """Work of judging so many placements."""
    return count * shape.n_layers * (n_devices * n_devices + 16.0)


@dataclass
class ShareSearch:
    """Descents from several placements. `work` is left for further judgements."""

    judge: ShareJudge
    work: float
    needs: FindsNeeds  # with the way to each placement, which adds to its cost …
    price: float = 0.0  # … so much for each second; 0: there is none

    @cached_property
    def _code(self) -> DescentCode | None:
        """Machine code for costs; None where there is none for all that they have."""
        changes, steps = changes_of(self.judge.view), self.judge.code
        if steps is None or not isinstance(self.needs, NeedsCode):
            return None
        return DescentCode(steps, self.needs, changes, self.price, MISSING)

    def costs(self, near: Folded, below: float = np.inf) -> FloatArray:
        """Costs of a batch, [k]; those that are not below a limit can be any above."""
        needs = self.needs.of(near)
        self._count(len(near), int(np.count_nonzero(needs.missing_bytes == 0)))
        return self.judge.costs_of(near, needs, self.price, below)

    def _count(self, judged: int, fitting: int) -> None:
        """Count the work of judging so many placements, of which so many fit; of later decisions, as if all did.

        There many are left out because a bound of their cost is enough.
        """
        fitting = judged if self.price else fitting
        self.work -= weight(fitting + NO_ROOM * judged, len(self.judge.devices), self.judge.view.costs.shape)

    def _best(self, around: Around, below: float) -> tuple[Folded, int, float]:
        """Small changes of a placement, the first that costs least, and its cost, which is right if below a limit."""
        if self._code is not None:
            found = self._code.best_change(around, below)
            self._count(found.changes, found.fitting)
            return found.near, found.at, found.cost
        near = Folded(changes_of(self.judge.view).near(around), around.runs)
        costs = self.costs(near, below)
        at = int(costs.argmin())
        return near, at, float(costs[at])

    def around(self, base: ShareArrays) -> Iterator[Folded]:
        """The neighbours of one placement, in batches."""
        return neighbours(changes_of(self.judge.view), base)

    def descend(self, base: ShareArrays, base_cost: float, enough: float = 0.0) -> tuple[ShareArrays, float]:
        """Go to the best neighbour until there is none that is better, no work left, or a cost below `enough`."""
        while self.work > 0 and base_cost >= enough:
            for around in all_around(base):
                near, at, cost = self._best(around, base_cost)
                if cost < base_cost * (1 - LEAST_GAIN):
                    base, base_cost = near.unfolded([at]), cost
                    break
                if self.price and self.work <= 0:
                    return base, base_cost
            else:
                break
        return base, base_cost

    def all_from(self, seeds: ShareArrays) -> list[tuple[float, ShareArrays]]:
        """The ends of descents from all seeds, each once, the best first."""
        ends = _Ends()
        costs = self.costs(Folded.of(seeds))
        for at in costs.argsort(kind="stable").tolist():
            ends.add(*self.descend(seeds.taken([at]), float(costs[at])))
        return ends.sorted()

    def first_that_fits(self, seeds: ShareArrays) -> ShareArrays | None:
        """A placement that fits, on the way downhill from one of the seeds."""
        costs = self.costs(Folded.of(seeds))
        for at in costs.argsort(kind="stable").tolist():
            end, cost = self.descend(seeds.taken([at]), float(costs[at]), MISSING)
            if cost < MISSING:
                return end
        return None

    def ends_near(self, base: ShareArrays, near: "Vicinity", *, fits: bool) -> tuple[float, list["End"]]:
        """Cost of a placement, and placements downhill from the best near it that gain enough, the best first.

        `fits`: whether devices have memory for it; else anything that costs less is enough.
        """
        itself = Requirements(np.array([near.missing_bytes]), np.zeros(1))
        before = float(self.judge.costs_of(Folded.of(base), itself, 0.0)[0])
        limit = before * (1 - WORTH) if fits else before
        return before, [End(cost, shares) for cost, shares in self.better_than(limit, near)]

    def better_than(self, limit: float, near: "Vicinity") -> list[tuple[float, ShareArrays]]:
        """Placements downhill from the best that are near, with costs below a limit: the best first.

        Nothing, and little work, where bounds show that none of those near is below it.
        """
        ends = _Ends()
        for at, cost in self._best_near(limit, near):
            first = near.placements.unfolded([at])
            ends.add(first, cost)
            ends.add(*self.descend(first, cost))
        return [pair for pair in ends.sorted() if pair[0] < limit]

    def _best_near(self, limit: float, near: "Vicinity") -> list[tuple[int, float]]:
        """Placements from which a search goes on, and their costs: the best neighbours, then the best of the others."""
        if self._code is not None:
            return self._code.best_near(near.placements, near.beside, limit)
        which, costs = self._below(limit, near)
        order = costs.argsort(kind="stable")
        beside = which[order] < near.beside
        begun = [*order[beside][:MOST_BEGUN].tolist(), *order[~beside][:1].tolist()]
        return [(int(which[at]), float(costs[at])) for at in begun]

    def all_below(self, limit: float, near: "Vicinity") -> Iterator[tuple[float, ShareArrays]]:
        """All placements that are near and have costs below a limit, each once: the best first."""
        which, costs = self._below(limit, near)
        seen = set[bytes]()
        for at in costs.argsort(kind="stable").tolist():
            shares = near.placements.unfolded([int(which[at])])
            key = shares.keys()[0]
            if key not in seen:
                seen.add(key)
                yield float(costs[at]), shares

    def _below(self, limit: float, near: "Vicinity") -> tuple[IntArray, FloatArray]:
        """Which of those near cost less than a limit, and what: [m] each. What bounds reject is not computed."""
        if self._code is not None:
            costs = self._code.costs(near.placements, limit)
        else:
            costs = self.judge.costs_of(near.placements, near.needs, self.price, limit)
        below = np.flatnonzero(costs < limit)
        return below, costs[below]


class End:
    """Placement that a search has found, and its cost; what it promises, and its migration, if they are known."""

    def __init__(
        self,
        cost: float,
        shares: ShareArrays | Callable[[], ShareArrays],
        promised: float | None = None,
        moving_s: float | None = None,
        which: int | None = None,
    ) -> None:
        """`promised`: without the migration. `which`: of the placements that machine code has found last."""
        self.cost, self._shares, self.promised, self.moving_s, self.which = cost, shares, promised, moving_s, which

    @cached_property
    def shares(self) -> ShareArrays:
        """The placement, which is read from memory when somebody asks for it."""
        return self._shares if isinstance(self._shares, ShareArrays) else self._shares()


class _Ends:
    """Where descents have ended: each placement once, with its cost."""

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[float, ShareArrays]] = {}

    def add(self, end: ShareArrays, cost: float) -> None:
        self._found.setdefault(end.keys()[0], (cost, end))

    def sorted(self) -> list[tuple[float, ShareArrays]]:
        return sorted(self._found.values(), key=lambda pair: pair[0])
