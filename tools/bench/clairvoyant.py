"""A re-planner that knows the future of a cluster and pays for its moves, for `changes.py`.

Dynamic programming over tokens x candidate placements: the least instant at which token t is there and the blocks are
placed as candidate k, over all candidates before it, with the pause of the migration between the two. Times are the
policies' closed forms (`StepTimes`, `MoveCosts`) on the true cluster at that token and instant; the answer is a plan, a
placement for each token, and what it takes is what the simulator says when it follows the plan as a policy.

It is no proven optimum: it chooses among candidates. These are the first placements of our search and of the policies
that `lookahead` asks, for each state of the cluster on the way and for the mean of all states, the best placements that
`lookahead` reaches from each of them, and every placement that the runs compared with it went through.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import PlacementArrays, moved_blocks
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import Placement
from edgeemu.policies import lookahead
from edgeemu.policies.search.pipeline_moves import round_s
from edgeemu.policies.view.cluster_view import ClusterView, DeviceView, NoBetterPlacement
from edgeemu.policies.view.link_matrix import FloatArray, LinkMatrix, PairMatrix
from edgeemu.policies.view.memory_arrays import union_fits
from edgeemu.policies.view.migration_time import MoveCosts
from edgeemu.policies.view.oracle import slowed, view_at
from edgeemu.policies.view.step_time import StepTimes
from edgeemu.run.plan import Plan

STATES = 12  # states of the cluster, at most, for which placements are made
CANDIDATES = 40
HORIZONS = (4, 64)  # remaining tokens with which lookahead is asked for what it would move to


class Future:
    """The true cluster of a plan at every token and instant."""

    def __init__(self, plan: Plan, tokens: int) -> None:
        self.plan = plan
        self.tokens = tokens
        clusters, cluster = [], plan.cluster
        for token in range(tokens):
            for change in plan.cluster.events_at(token):
                cluster = cluster.changed(change, 0.0)
            clusters.append(cluster)
        self._clusters: list[Cluster] = clusters

    def view(self, token: int, at_s: float) -> ClusterView:
        """The cluster before a decode step, at an instant."""
        plan, cluster = self.plan, self._clusters[token]
        base, past = plan.view, plan.view.prompt_tokens + token - 1
        workload = replace(base.workload, length=past, cached=past * base.sequences)
        devices = tuple(
            DeviceView.of(device, slowed(compute, device.slowdown_at(at_s)), device.memory_at(at_s))
            for device, compute in zip(cluster.devices, plan.computes, strict=True)
        )
        view = replace(base, devices=devices, workload=workload, costs=base.costs.at_step(1, past))
        return view_at(view, cluster, plan.links, at_s)

    def states(self, step_s: float) -> list[ClusterView]:
        """Some of the states on the way, evenly spaced, and their mean; `step_s` is about what a token takes."""
        distinct: dict[tuple[object, ...], ClusterView] = {}
        for token in range(1, self.tokens):
            view = self.view(token, token * step_s)
            distinct.setdefault(_key(view), view)
        views = list(distinct.values())
        chosen = [views[i] for i in sorted({round(i) for i in np.linspace(0, len(views) - 1, STATES)})]
        return [*chosen, self._mean([self.view(token, token * step_s) for token in range(1, self.tokens)])]

    def _mean(self, views: Sequence[ClusterView]) -> ClusterView:
        """A view with mean times of devices and links."""
        first = views[0]
        devices = tuple(
            replace(
                device, compute=slowed(nominal, float(np.mean([nominal.flops_per_s / v.flops_per_s[i] for v in views])))
            )
            for i, (device, nominal) in enumerate(zip(first.devices, self.plan.computes, strict=True))
        )
        n = len(devices)
        rates = np.mean([_matrix(view.links.s_per_bit, n) for view in views], axis=0)
        delays = np.mean([_matrix(view.links.delay_s, n) for view in views], axis=0)
        links = LinkMatrix.of_pairs(n, lambda a, b: 1 / float(rates[a, b]), lambda a, b: float(delays[a, b]))
        return replace(first, devices=devices, links=links)


def _matrix(matrix: PairMatrix, n: int) -> FloatArray:
    return np.stack([matrix.row(i) for i in range(n)])  # [n, n]


def _key(view: ClusterView) -> tuple[object, ...]:
    n = len(view.devices)
    return (
        view.flops_per_s.tobytes(),
        view.memory_bytes.tobytes(),
        _matrix(view.links.s_per_bit, n).tobytes(),
        _matrix(view.links.delay_s, n).tobytes(),
    )


def candidates(states: Iterable[ClusterView], seen: Sequence[Placement]) -> list[Placement]:
    """Placements to choose among; `seen` come first."""
    views = list(states)
    found = list(seen)
    for view in views:
        for placement in _first(view):
            if all(placement.owner != other.owner for other in found):
                found.append(placement)
    for placement in list(found[: CANDIDATES // 2]):
        for view in views:
            for horizon in HORIZONS:
                asked = replace(view, workload=replace(view.workload, total_tokens=view.past + horizon))
                try:
                    moved = lookahead.place(asked, placement)
                except NoBetterPlacement:
                    continue
                if len(found) < CANDIDATES and all(moved.owner != other.owner for other in found):
                    found.append(moved)
    return found


def _first(view: ClusterView) -> Iterator[Placement]:
    """First placements of several kinds for one state."""
    bare = replace(view, rehearse=None)
    try:
        yield lookahead.place(bare)
    except InfeasibleError:
        return
    for propose in lookahead.PROPOSERS:
        yield from (placement for placement in propose(bare) if view.holds(placement))


class Table:
    """Moves between candidates as arrays, so that all migrations of an instant are reckoned at once."""

    def __init__(self, view: ClusterView, layouts: Sequence[PlacementArrays]) -> None:
        k, n = len(layouts), len(view.devices)
        self._layouts = layouts
        self._moved = {kind: np.zeros((k, k, n, n)) for kind in Kind}  # blocks by old, new, source, target
        for i, old in enumerate(layouts):
            for j, new in enumerate(layouts):
                for kind, source, target in moved_blocks(old, new):
                    self._moved[kind][i, j, source, target] += 1
        self._allowed: dict[bytes, NDArray[np.bool_]] = {}

    def migrations_s(self, view: ClusterView, old: int) -> FloatArray:
        """The pause of a migration from one candidate to each: [k]; infinite where memory does not allow it."""
        costs, n = MoveCosts(view), len(view.devices)
        bits = sum(costs.link_bits[kind] * self._moved[kind][old] for kind in Kind)  # [k, n, n]
        flash_s = sum(costs.flash_s[kind] * self._moved[kind][old].sum(axis=1) for kind in Kind)  # [k, n]
        s_per_bit, delay_s = _matrix(view.links.s_per_bit, n), _matrix(view.links.delay_s, n)
        sent_s = np.where(bits > 0, bits * s_per_bit + delay_s, 0.0)  # [k, n, n]
        took_s = np.maximum(sent_s.max(axis=(1, 2)), flash_s.max(axis=1))
        return np.where(self._may(view)[old], took_s, np.inf)

    def _may(self, view: ClusterView) -> NDArray[np.bool_]:
        """Whether there is memory for each move, and for where it leads: [k, k]."""
        key = view.memory_bytes.tobytes()
        if key not in self._allowed:
            shape = view.costs.shape
            holds = [view.holds(layout.placement(shape)) for layout in self._layouts]
            self._allowed[key] = np.array(
                [
                    [i == j or (holds[j] and union_fits(view, old, new)) for j, new in enumerate(self._layouts)]
                    for i, old in enumerate(self._layouts)
                ]
            )
        return self._allowed[key]


class Clairvoyant:
    """Policy that follows the best plan that was found. It begins with the first placement of `seen`."""

    def __init__(self, future: Future, seen: Sequence[Placement], step_s: float) -> None:
        plan = future.plan
        shape = plan.model.shape
        self.placements = candidates(future.states(step_s), seen)
        self._future = future
        self._layouts = [PlacementArrays.of(placement, shape) for placement in self.placements]
        self._prompt_tokens = plan.view.prompt_tokens

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        if current is None:
            return self.placements[0]
        token = view.past - self._prompt_tokens + 1
        chosen = self.placements[self.schedule[min(token, len(self.schedule) - 1)]]
        return current if chosen.owner == current.owner else chosen

    @cached_property
    def schedule(self) -> list[int]:
        """The candidate for each token; the first is that of the prompt."""
        k, future = len(self._layouts), self._future
        table = Table(future.plan.view, self._layouts)
        done_s = np.full(k, np.inf)
        done_s[0] = 0.0
        came_from: list[NDArray[np.int64]] = []
        for token in range(1, future.tokens):
            begin_s = np.full((k, k), np.inf)  # [before, now]
            for old in np.flatnonzero(np.isfinite(done_s)).tolist():
                begin_s[old] = done_s[old] + table.migrations_s(future.view(token, float(done_s[old])), old)
            came_from.append(begin_s.argmin(axis=0))
            start_s = begin_s.min(axis=0)
            done_s = np.array([self._ended_s(token, new, float(start_s[new])) for new in range(k)])
        best = int(done_s.argmin())
        path = [best]
        for sources in reversed(came_from):
            path.append(int(sources[path[-1]]))
        return path[::-1]

    def _ended_s(self, token: int, candidate: int, start_s: float) -> float:
        """When a token is there that begins at an instant under a candidate; infinite where that no longer fits."""
        if not np.isfinite(start_s):
            return np.inf
        view = self._future.view(token, start_s)
        if not self._fits(view, candidate):
            return np.inf
        times, sequences = StepTimes(view), view.sequences
        layout = self._layouts[candidate]
        return start_s + (round_s(times, layout, sequences) if sequences > 1 else times.step_s(layout))

    def _fits(self, view: ClusterView, candidate: int) -> bool:
        key = (view.memory_bytes.tobytes(), candidate)
        if key not in self._known:
            self._known[key] = view.holds(self.placements[candidate])
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[bytes, int], bool]:
        return {}
