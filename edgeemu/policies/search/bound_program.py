"""A lower bound of a decode step with hops and the memory of all devices together: a mixed-integer program. Pure.

Shares are real numbers, and each part of the model (heads with projection, a feed-forward block) is on the devices that
*use* it, by integers. Two chains of inequalities bound the step, both at once:

*Makespans.* The device that is the last to end a part is the *first* of the next: it can begin at once. For every other
device that takes part a hop comes before. So the times of parts, each the least makespan from there, add up.

*Instants.* x can be on a device no sooner than the shares of all devices that use the part before have ended and
come there, over any number of hops. With it every device waits for every other, as in a ring or a star.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind
from edgeemu.policies.search.bound_hops import StepWithHops, hops_s, shortest
from edgeemu.policies.search.bound_memory import SOLVED, add_memory
from edgeemu.policies.search.mip import MixedIntegerProgram
from edgeemu.policies.search.part_times import PartTimes

NODES = 1_000  # of the search, whose bound is proven also where it ends before its optimum
MOST = 1e7  # of a step, in the same unit: with more, rounding would count
RESOLUTION = 1e3  # the objective of a layer, so that the solver's absolute tolerances do not matter


class StepProgram:
    """The program. Variables of kinds are [n_layers, n] or [n]; times are in units of the objective."""

    def __init__(self, parts: PartTimes) -> None:
        self.parts, self.model, self.costs = parts, MixedIntegerProgram(), parts.costs
        self.n, self.n_layers = parts.view.n_devices, parts.costs.shape.n_layers
        kinds = (Kind.HEAD, Kind.PROJ, Kind.FFN)
        seconds = {kind: parts.seconds(self.costs.work(kind, parts.totals[kind], 1, parts.past)) for kind in kinds}
        self.per_s = RESOLUTION / float(sum(times.min() for times in seconds.values()))
        self.whole = {kind: self.per_s * times for kind, times in seconds.items()}  # [n] of complete parts
        self.fixed = self.per_s * parts.view.overhead_s  # [n]
        self.sum = self.per_s * float(parts.sum_s.min())
        self.end = {
            end: self.per_s * parts.seconds(self.costs.work(end.kind, 1, 1, parts.past)) for end in (EMBED, LM_HEAD)
        }  # [n]
        self.x = shortest(self._hops(self.costs.activation_bytes(1)))  # [n, n] ways of x
        self.share = {kind: self.model.add(self.n_layers, self.n, upper=1.0) for kind in kinds}
        self.used = {kind: self.model.add(self.n_layers, self.n, upper=1.0, integer=True) for kind in kinds}
        self.ends = {end: self._one_of_all() for end in (EMBED, LM_HEAD)}
        self.step = int(self.model.add(1, cost=1.0)[0])
        self._shares()
        self.token = self._pairs(self.ends[LM_HEAD], self.ends[EMBED])  # [n, n]
        self.divided = {kind: self._divided(kind) for kind in (Kind.PROJ, Kind.FFN)}  # [n_layers]
        self._makespans()
        self._instants()
        self._memory()

    def with_prompt(self, prompt: PartTimes, least_s: float, tokens: int) -> Self:
        """Minimise the time of all `tokens`, and not of a step; the first is a prompt's, which takes `least_s` or more.

        Of a prompt a layer waits for all shares of the layer before; products for queries, keys and values can be
        computed meanwhile, and hops are left out.
        """
        costs, rows = prompt.costs, prompt.rows
        first, layers = int(self.model.add(1, cost=1.0)[0]), self.model.add(self.n_layers)
        self.model.cost[self.step] = tokens - 1.0
        works = {kind: costs.work(kind, prompt.totals[kind], rows, 0) for kind in (Kind.PROJ, Kind.FFN)}
        works[Kind.HEAD] = costs.attention_work(prompt.totals[Kind.HEAD], rows, 0)
        whole = {kind: self.per_s * prompt.seconds(work) for kind, work in works.items()}  # [n]
        for layer, makespan in enumerate(layers.tolist()):
            for d in range(self.n):
                shares = [(-float(times[d]), int(self.share[kind][layer, d])) for kind, times in whole.items()]
                self.model.row([(1.0, makespan), *shares], low=0.0)
        total = [(1.0, each) for each in layers.tolist()]
        for end, chosen in self.ends.items():
            total += _terms(self.per_s * prompt.seconds(costs.work(end.kind, 1, rows, 0)), chosen)
        self.model.row([(1.0, first), *((-factor, column) for factor, column in total)], low=0.0)
        self.model.row([(1.0, first)], low=self.per_s * least_s)
        return self

    def least_s(self) -> float:
        """Seconds of a step, or of all tokens, at least; infinite if nothing fits."""
        return SOLVED * self.model.bound(NODES) / self.per_s

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

    def _divided(self, kind: Kind) -> list[int]:
        """Add a variable for each layer that says whether a part is on several devices."""
        found = []
        for used in self.used[kind]:
            found.append(int(self.model.add(1, upper=1.0, integer=True)[0]))
            if self.n > 1:
                self.model.row([(self.n - 1.0, found[-1]), *((-1.0, int(u)) for u in used)], low=-1.0)
        return found

    def _pairs(self, source: IntArray, target: IntArray) -> IntArray:
        """Add the pair that two chosen devices are: [n, n], one of them 1."""
        both = self.model.add(self.n, self.n, upper=1.0)
        for d in range(self.n):
            self._equal(both[d], 0.0, (-1.0, int(source[d])))
            self._equal(both[:, d], 0.0, (-1.0, int(target[d])))
        return both

    def _begin(self) -> list[tuple[float, int]]:
        """Terms of the token on its way to the embedding, and of that."""
        hop = self._hops(self.costs.token_bytes())
        return [*_terms(hop, self.token), *_terms(self.end[EMBED], self.ends[EMBED])]

    def _makespans(self) -> None:
        """Add the parts one after the other."""
        any_size = shortest(self._hops(min(self.costs.activation_bytes(1), self.costs.attention_bytes(1, 1))))
        total = [*self._begin(), *_terms(self.end[LM_HEAD], self.ends[LM_HEAD])]
        first = self.ends[EMBED]
        for layer in range(self.n_layers):
            total += self._part(layer, (Kind.HEAD, Kind.PROJ), first, any_size)
            first = self._last_of(Kind.PROJ, layer)
            total += self._part(layer, (Kind.FFN,), first, self.x)
            first = self._last_of(Kind.FFN, layer)
        total += _terms(self.x, self._pairs(first, self.ends[LM_HEAD]))
        self.model.row([(1.0, self.step), *((-factor, column) for factor, column in total)], low=0.0)

    def _last_of(self, kind: Kind, layer: int) -> IntArray:
        """One of the devices that have a share of a part."""
        last = self._one_of_all()
        for u, x in zip(self.used[kind][layer].tolist(), last.tolist(), strict=True):
            self.model.row([(1.0, u), (-1.0, x)], low=0.0)
        return last

    def _part(self, layer: int, kinds: Sequence[Kind], first: IntArray, hop: FloatArray) -> list[tuple[float, int]]:
        """Terms of the makespan of a part, and of its sum if it is divided."""
        makespan = int(self.model.add(1)[0])
        for kind in kinds:
            for d in range(self.n):
                terms = self._release(first, int(self.used[kind][layer, d]), hop[:, d])
                terms += [term for each in kinds for term in self._compute(each, layer, d)]
                self.model.row([(1.0, makespan), *terms], low=0.0)
        return [(1.0, makespan), (self.sum, self.divided[kinds[-1]][layer])]

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

    def _instants(self) -> None:
        """Add when x can be on each device before each part of each layer."""
        n, hops = self.n, StepWithHops(self.parts)
        ways = _Ways(self.parts, self.per_s)
        latest = self._at_most() + ways.longest
        if latest > MOST:
            return
        before = [(self.per_s * first, self.per_s * second) for first, second in hops.before_s()]  # [n] each
        rest = [(self.per_s * first, self.per_s * second) for first, second in hops.rest_s()]
        x, soon = self._instant(before[0][0]), self.model.add(n)  # of x, and of the first input of its attention
        for d in range(n):
            for column, way in ((int(x[d]), ways.x), (int(soon[d]), ways.early)):
                terms = [*self._begin(), *_terms(way[:, d], self.ends[EMBED])]
                self.model.row([(1.0, column), *((-factor, each) for factor, each in terms)], low=0.0)
        for layer in range(self.n_layers):
            after = self._instant(before[layer][1])
            slack = latest - rest[layer][0] - before[layer][1]  # [n]
            for d in range(n):
                self._attention(layer, d, (x, soon, after), ways, slack)
            least = before[layer + 1][0] if layer + 1 < self.n_layers else np.zeros(n)
            x, soon = self._instant(least), self.model.add(n)
            slack = latest - rest[layer][1] - least
            for d in range(n):
                work, used = self._compute(Kind.FFN, layer, d), int(self.used[Kind.FFN][layer, d])
                tail = (self.sum, self.divided[Kind.FFN][layer])
                self._after(x, int(after[d]), [*work, (-tail[0], tail[1])], used, ways.x[d], slack + tail[0])
                self._after(
                    soon, int(after[d]), [*work, (-tail[0], tail[1])], used, ways.early[d], slack + least + tail[0]
                )
        for d in range(n):
            chosen, hop = int(self.ends[LM_HEAD][d]), self.end[LM_HEAD][d : d + 1]
            self._after(np.array([self.step]), int(x[d]), [], chosen, hop, np.array([latest]))

    def _attention(
        self, layer: int, d: int, instants: tuple[IntArray, IntArray, IntArray], ways: "_Ways", slack: FloatArray
    ) -> None:
        """Let x be anywhere after a device's share of a layer's heads and projection."""
        x, soon, after = instants
        head, column = (self._compute(kind, layer, d) for kind in (Kind.HEAD, Kind.PROJ))
        used_head, used_proj = (int(self.used[kind][layer, d]) for kind in (Kind.HEAD, Kind.PROJ))
        tail = (-self.sum, self.divided[Kind.PROJ][layer])
        slack = slack + self.sum
        for used in (used_head, used_proj):
            self._after(after, int(soon[d]), [*head, *column, tail], used, ways.late[d], slack)
        self._after(after, int(x[d]), [*head, tail], used_head, ways.onward[d], slack)

    def _instant(self, least: FloatArray) -> IntArray:
        """Add an instant on each device, not before the least that it can be."""
        found = self.model.add(self.n)
        for column, time in zip(found.tolist(), least.tolist(), strict=True):
            self.model.row([(1.0, column)], low=time)
        return found

    def _at_most(self) -> float:
        """Bound the step of some placement from above: the model on one device that holds it, or any shares."""
        whole = sum(self.whole.values())  # [n] of a layer
        ends = sum(self.end.values())  # [n]
        alone = np.where(self.parts.holds_all, self.n_layers * whole + ends, np.inf)
        hop, sums = float(self._hops(self.costs.activation_bytes(1)).max()), float(self.parts.sum_s.max())
        parts = sum(float(np.max(times + self.fixed)) for times in self.whole.values())
        shared = 2 * float(np.max(ends)) + 2 * hop + 3 * self.n_layers * (parts + 4 * hop + 2 * self.per_s * sums)
        return min(float(alone.min()), shared)

    def _after(
        self, then: IntArray, before: int, work: list[tuple[float, int]], used: int, hop: FloatArray, slack: FloatArray
    ) -> None:
        """Let instants [m] be after another by some work and hops [m], where a device is `used`.

        `slack`: [m] by how much an instant can be before that by itself.
        """
        for each, hop_s, free in zip(then.tolist(), hop.tolist(), (slack + hop).tolist(), strict=True):
            self.model.row([(1.0, each), (-1.0, before), *work, (-free, used)], low=hop_s - free)

    def _memory(self) -> None:
        average = {kind: self.model.add(self.n, upper=1.0) for kind in self.share}
        for kind, columns in average.items():
            for d in range(self.n):
                self._equal(self.share[kind][:, d], 0.0, (-float(self.n_layers), int(columns[d])))
        add_memory(self.model, self.parts.view, average, self.ends)


class _Ways:
    """Shortest ways of x and of outputs of heads from device to device, [n, n] each, in units of the objective."""

    def __init__(self, parts: PartTimes, per_s: float) -> None:
        view, costs = parts.view, parts.costs
        outputs = per_s * hops_s(view, costs.attention_bytes(1, 1))
        elsewhere = np.where(np.eye(len(outputs), dtype=np.bool_), np.inf, outputs)
        head, column = (per_s * parts.shares_s(kind)[:, 0] for kind in (Kind.HEAD, Kind.PROJ))  # [n] of one group
        self.x = shortest(per_s * hops_s(view, costs.activation_bytes(1)))
        to_outputs = ((self.x + head)[:, :, None] + elsewhere).min(axis=1)
        self.early = np.minimum(self.x, to_outputs)  # from x to an input of the attention: x, or another's outputs
        from_outputs = ((elsewhere + column)[:, :, None] + self.x).min(axis=1)
        self.late = np.minimum(self.x, from_outputs)  # from the end of all of a device's attention to x
        self.onward = ((outputs + column)[:, :, None] + self.x).min(axis=1)  # from the end of its heads to x
        self.longest = float(max(self.x.max(), self.onward.max()))


def _terms(factors: FloatArray, columns: IntArray) -> list[tuple[float, int]]:
    return list(zip(factors.ravel().tolist(), columns.ravel().tolist(), strict=True))
