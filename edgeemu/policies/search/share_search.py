"""Local search over shares: from given placements downhill, by the closed form of `view.share_times`. Pure.

Placements that do not fit count by the bytes that are missing, so that the search finds the way into memory too. It is
bounded by the placements that it judges, weighed by their size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.policies.search.share_moves import neighbours
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_times import ShareStep, ShareTimes
from edgeemu.policies.view.shares import Shares
from edgeemu_kernels.shape import ModelShape

BESIDE = 12  # neighbours of the best that a search goes on from
LEAST_GAIN = 1e-6  # relative, of a change
MISSING_S = 1e6  # seconds beyond every latency, for a placement that does not fit; and one for each missing byte


class ShareJudge:
    """Latency per token that placements on chosen devices promise: of the prompt, and of the steps after it."""

    def __init__(self, view: ClusterView, devices: IntArray, horizon: int) -> None:
        """`horizon`: decode steps to come that count."""
        self.view, self.devices = view, devices
        self.memory = ShareMemory(view, devices)
        self.decode = ShareTimes(view, devices, view.past + horizon // 2)
        self.prompt = None if view.length else ShareTimes(view, devices, 0, view.prompt_tokens)
        self.tokens = max(1, view.total_tokens - view.prompt_tokens)
        self.price = 1.0  # of a second that all wait, in what is to be small

    def latency_s(self, shares: Shares) -> FloatArray:
        """Mean seconds per token: [k]. With several sequences, until each has its next."""
        step_s = self.round_s(self.decode.step(shares), self.decode)
        if self.prompt is None:
            return step_s
        first_s = self.round_s(self.prompt.step(shares), self.prompt)
        latency_s: FloatArray = (first_s + (self.tokens - 1) * step_s) / self.tokens
        return latency_s

    def round_s(self, step: ShareStep, times: ShareTimes) -> FloatArray:
        """Time until every sequence in flight has had such a step: [k]."""
        if self.view.sequences == 1:
            return step.step_s
        links_s = (step.bits * times.s_per_bit).max((1, 2))
        busiest_s = np.maximum(step.busy_s.max(1), links_s)
        return np.maximum(self.view.sequences * busiest_s, step.step_s)

    def cost_s(self, shares: Shares) -> FloatArray:
        """Latency of placements that fit; more than any latency for others, by what is missing: [k]."""
        over = np.maximum(self.memory.need_bytes(shares) - self.memory.capacity, 0).sum(1)  # [k]
        cost_s = MISSING_S + over.astype(np.float64)
        fits = np.flatnonzero(over == 0)
        if len(fits):
            cost_s[fits] = self.latency_s(shares.taken(fits))
        return cost_s


def weight(count: int, n_devices: int, shape: ModelShape) -> float:
    """Work of judging so many placements."""
    return count * shape.n_layers * (n_devices * n_devices + 16.0)


@dataclass(slots=True)
class ShareSearch:
    """Descents from several placements. `work` is left for further judgements."""

    judge: ShareJudge
    work: float
    moving: Callable[[Shares], FloatArray] | None = None  # what the way to each placement adds to its cost: [k]

    def costs_s(self, shares: Shares) -> FloatArray:
        """Costs of a batch: [k]."""
        self.work -= weight(len(shares), len(self.judge.devices), self.judge.view.costs.shape)
        cost_s = self.judge.cost_s(shares)
        return cost_s if self.moving is None else cost_s + self.moving(shares)

    def around(self, base: Shares) -> Iterator[Shares]:
        """The neighbours of one placement, in batches."""
        view = self.judge.view
        shape = view.costs.shape
        return neighbours(base, shape.n_groups, n_shards(shape, Kind.FFN), divide=view.divide)

    def descend(self, base: Shares, base_s: float) -> tuple[Shares, float]:
        """Go to the best neighbour until there is none that is better, or no work left."""
        while self.work > 0:
            for near in self.around(base):
                costs_s = self.costs_s(near)
                at = int(costs_s.argmin())
                if costs_s[at] < base_s * (1 - LEAST_GAIN):
                    base, base_s = near.taken([at]), float(costs_s[at])
                    break
            else:
                break
        return base, base_s

    def all_from(self, seeds: Shares) -> list[tuple[float, Shares]]:
        """The ends of descents from all seeds and from beside the best, each once, the best first."""
        ends = _Ends()
        costs_s = self.costs_s(seeds)
        for at in costs_s.argsort(kind="stable").tolist():
            ends.add(*self.descend(seeds.taken([at]), float(costs_s[at])))
        tried: set[bytes] = set()
        while self.work > 0 and (best := ends.best_without(tried)) is not None:
            self._from_beside(best, ends)
        return ends.sorted()

    def better_than(self, limit_s: float, base: Shares, others: Shares) -> list[tuple[float, Shares]]:
        """Placements on the way downhill from `base`, or from the best of others, with costs below a limit: best first.

        Nothing, and little work, where neither a neighbour of `base` nor one of the others is below it.
        """
        near = Shares.joined([next(self.around(base)), others])
        costs_s = self.costs_s(near)
        at = int(costs_s.argmin())
        if costs_s[at] >= limit_s:
            return []
        ends = _Ends()
        least = [*costs_s[: len(near) - len(others)].argsort(kind="stable")[:3].tolist()]
        least.append(len(near) - len(others) + int(costs_s[len(near) - len(others) :].argmin()))
        for at in least:
            first = near.taken([at])
            ends.add(first, float(costs_s[at]))
            ends.add(*self.descend(first, float(costs_s[at])))
        return [pair for pair in ends.sorted() if pair[0] < limit_s]

    def _from_beside(self, base: Shares, ends: "_Ends") -> None:
        """Descend from the best neighbours of a local optimum, although they are worse."""
        near = Shares.joined(list(self.around(base)))
        costs_s, keys, own = self.costs_s(near), near.keys(), base.keys()[0]
        begun = {own}
        for at in costs_s.argsort(kind="stable").tolist():
            if len(begun) > BESIDE or self.work <= 0:
                return
            if keys[at] not in begun:
                begun.add(keys[at])
                ends.add(*self.descend(near.taken([at]), float(costs_s[at])))


class _Ends:
    """Where descents have ended: each placement once, with its cost."""

    def __init__(self) -> None:
        self._found: dict[bytes, tuple[float, Shares]] = {}

    def add(self, end: Shares, cost_s: float) -> None:
        self._found.setdefault(end.keys()[0], (cost_s, end))

    def best_without(self, tried: set[bytes]) -> Shares | None:
        """The best of all, once: None if it was asked for before."""
        key = min(self._found, key=lambda each: self._found[each][0])
        if key in tried:
            return None
        tried.add(key)
        return self._found[key][1]

    def sorted(self) -> list[tuple[float, Shares]]:
        return sorted(self._found.values(), key=lambda pair: pair[0])
