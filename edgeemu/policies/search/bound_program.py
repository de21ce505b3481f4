"""A lower bound of a decode step with hops and the memory of all devices together: a mixed-integer program. Pure.

The device that is the last to end a part of the model (an end, heads with projection, a feed-forward block) is the
*first* of the next part: it can begin at once. For every other device that takes part a hop comes before. So the times
of parts, each the least makespan from there, add up to no more than the step. Shares are real numbers.
"""

from collections.abc import Sequence

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind
from edgeemu.policies.search.bound_hops import hops_s, shortest
from edgeemu.policies.search.bound_memory import SOLVED, add_memory
from edgeemu.policies.search.mip import MixedIntegerProgram, UnprovenError
from edgeemu.policies.search.part_times import PartTimes
from edgeemu.policies.view.link_matrix import FloatArray

TIME_LIMIT_S = 60.0  # some ten times of what the largest that is asked for takes
RESOLUTION = 1e3  # the objective of a layer, so that the solver's absolute tolerances do not matter


class StepProgram:
    """The program. Variables of kinds are [n_layers, n] or [n]; times are in units of the objective."""

    def __init__(self, parts: PartTimes) -> None:
        self.parts, self.model, self.costs = parts, MixedIntegerProgram(), parts.costs
        self.n, self.n_layers = len(parts.view.devices), parts.costs.shape.n_layers
        kinds = (Kind.HEAD, Kind.PROJ, Kind.FFN)
        seconds = {kind: parts.seconds(self.costs.work(kind, parts.totals[kind], 1, parts.past)) for kind in kinds}
        self.per_s = RESOLUTION / float(sum(times.min() for times in seconds.values()))
        self.whole = {kind: self.per_s * times for kind, times in seconds.items()}  # [n] of complete parts
        self.fixed = self.per_s * parts.view.overhead_s  # [n]
        self.sum = self.per_s * float(parts.sum_s.min())
        self.share = {kind: self.model.add(self.n_layers, self.n, upper=1.0) for kind in kinds}
        self.used = {kind: self.model.add(self.n_layers, self.n, upper=1.0, integer=True) for kind in kinds}
        self.ends = {end: self._one_of_all() for end in (EMBED, LM_HEAD)}
        self._shares()
        self._step()
        self._memory()

    def least_s(self) -> float:
        """Seconds of a step at least; infinite if nothing fits, 0 if nothing was proven in time."""
        try:
            values = self.model.solve(TIME_LIMIT_S)
        except UnprovenError:
            return 0.0
        return np.inf if values is None else SOLVED * float(np.dot(self.model.cost, values)) / self.per_s

    def _one_of_all(self) -> IntArray:
        chosen = self.model.add(self.n, upper=1.0, integer=True)
        self._equal(chosen, 1.0)
        return chosen

    def _equal(self, columns: IntArray, value: float, *more: tuple[float, int]) -> None:
        self.model.equal([*((1.0, int(x)) for x in columns), *more], value)

    def _hops(self, size_bytes: int) -> FloatArray:
        return self.per_s * hops_s(self.parts.view, size_bytes)  # [n, n]

    def _shares(self) -> None:
        for kind, share in self.share.items():
            for layer in range(self.n_layers):
                self._equal(share[layer], 1.0)
                for s, u in zip(share[layer].tolist(), self.used[kind][layer].tolist(), strict=True):
                    self.model.row([(1.0, u), (-1.0, s)], low=0.0)

    def _step(self) -> None:
        """Add the parts one after the other."""
        costs = self.costs
        x = self._hops(costs.activation_bytes(1))
        any_size = shortest(self._hops(min(costs.activation_bytes(1), costs.attention_bytes(1, 1))))
        for end, chosen in self.ends.items():
            times_s = self.parts.seconds(costs.work(end.kind, 1, 1, self.parts.past))
            for column, time_s in zip(chosen.tolist(), times_s.tolist(), strict=True):
                self.model.cost[column] = self.per_s * time_s
        self._hop_between(self.ends[LM_HEAD], self.ends[EMBED], self._hops(costs.token_bytes()))
        first = self.ends[EMBED]
        for layer in range(self.n_layers):
            self._part(layer, (Kind.HEAD, Kind.PROJ), first, any_size)
            first = self._last_of(Kind.PROJ, layer)
            self._part(layer, (Kind.FFN,), first, shortest(x))
            first = self._last_of(Kind.FFN, layer)
        self._hop_between(first, self.ends[LM_HEAD], shortest(x))

    def _hop_between(self, source: IntArray, target: IntArray, hop: FloatArray) -> None:
        """Charge the hop between two devices that are chosen."""
        both = self.model.add(self.n, self.n, upper=1.0)
        for d in range(self.n):
            self._equal(both[d], 0.0, (-1.0, int(source[d])))
            self._equal(both[:, d], 0.0, (-1.0, int(target[d])))
        for column, price in zip(both.ravel().tolist(), hop.ravel().tolist(), strict=True):
            self.model.cost[column] += price

    def _last_of(self, kind: Kind, layer: int) -> IntArray:
        """One of the devices that have a share of a part."""
        last = self._one_of_all()
        for u, x in zip(self.used[kind][layer].tolist(), last.tolist(), strict=True):
            self.model.row([(1.0, u), (-1.0, x)], low=0.0)
        return last

    def _part(self, layer: int, kinds: Sequence[Kind], first: IntArray, hop: FloatArray) -> None:
        """Add the makespan of a part, and its sum if it is divided."""
        model, n = self.model, self.n
        makespan = int(model.add(1, cost=1.0)[0])
        for kind in kinds:
            for d in range(n):
                terms = self._release(first, int(self.used[kind][layer, d]), hop[:, d])
                terms += [term for each in kinds for term in self._compute(each, layer, d)]
                model.row([(1.0, makespan), *terms], low=0.0)
        if n > 1:
            divided = int(model.add(1, cost=self.sum, upper=1.0, integer=True)[0])
            used = [(-1.0, int(u)) for u in self.used[kinds[-1]][layer]]
            model.row([(float(n - 1), divided), *used], low=-1.0)

    def _release(self, first: IntArray, used: int, hop: FloatArray) -> list[tuple[float, int]]:
        """Terms of the hop from the first device of a part to one that takes part if `used`; `hop`: [n] to it."""
        via = self.model.add(self.n, upper=1.0)  # 1 for the first device, if it is used
        self._equal(via, 0.0, (-1.0, used))
        for f in range(self.n):
            self.model.row([(1.0, int(first[f])), (-1.0, int(via[f]))], low=0.0)
        return [(-float(hop[f]), int(via[f])) for f in range(self.n)]

    def _compute(self, kind: Kind, layer: int, d: int) -> list[tuple[float, int]]:
        """Terms of the time of a device's share: the fixed time of an operation, and the rest by share."""
        fixed = float(self.fixed[d])
        share, used = int(self.share[kind][layer, d]), int(self.used[kind][layer, d])
        return [(fixed - float(self.whole[kind][d]), share), (-fixed, used)]

    def _memory(self) -> None:
        average = {kind: self.model.add(self.n, upper=1.0) for kind in self.share}
        for kind, columns in average.items():
            for d in range(self.n):
                self._equal(self.share[kind][:, d], 0.0, (-float(self.n_layers), int(columns[d])))
        add_memory(self.model, self.parts.view, average, self.ends)
