"""A re-planner that knows the future of a cluster and pays for its moves, for `changes.py`.

Dynamic programming over tokens x candidate placements: the least instant at which token t is there and the blocks are
placed as candidate k, over all candidates before it, with the pause of the migration between the two. Times are the
policies' closed forms on the true cluster at that token and instant; the answer is a plan, a placement for each token,
and what it takes is what the simulator says when it follows the plan as a policy.

It is no proven optimum: it chooses among candidates. These are the first placements of our search and of the policies
that `lookahead` asks, and of the search over shares, for each state of the cluster on the way and for the mean of all
states, the best placements that
`lookahead` reaches from each of them, and every placement that the runs compared with it went through.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.errors import InfeasibleError
from edgeemu.placement.arrays import FloatArray
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.placement import Placement, moves
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies import lookahead
from edgeemu.policies.search.share_proposals import ShareProposer
from edgeemu.policies.search.share_search import ShareJudge
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.oracle import view_at
from edgeemu.policies.view.pair_matrix import PairMatrix
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.run.plan import Plan

STATES = 12  # states of the cluster, at most, for which placements are made
CANDIDATES = 40
DIVIDED = 2  # placements of the search over shares, of each state
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
            DeviceView.of(device, compute.slowed(device.slowdown_at(at_s)), device.memory_at(at_s))
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
                device, compute=nominal.slowed(float(np.mean([nominal.flops_per_s / v.flops_per_s[i] for v in views])))
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


def candidates(plan: Plan, states: Iterable[ClusterView], seen: Sequence[Placement]) -> list[Placement]:
    """Placements to choose among, at most `CANDIDATES`; fewer where layers may be divided: all of that takes long."""
    divides, views = plan.view.divide, list(states)
    most, horizons = (CANDIDATES // 3, HORIZONS[-1:]) if divides else (CANDIDATES, HORIZONS)
    found = list(seen[:most])
    for view in views:
        _add(found, _first(view, plan, seen), most)
    for placement in list(found[: most // 2]):
        for view in views:
            for horizon in horizons:
                asked = replace(view, workload=replace(view.workload, total_tokens=view.past + horizon))
                if len(found) < most:
                    with suppress(NoBetterPlacement):
                        _add(found, [lookahead.place(asked, placement)], most)
    return found


def _add(found: list[Placement], others: Iterable[Placement], most: int) -> None:
    """Add those that are not there yet, as long as there are not too many."""
    for placement in others:
        if len(found) < most and all(placement.owner != other.owner for other in found):
            found.append(placement)


def _first(view: ClusterView, plan: Plan, seen: Sequence[Placement]) -> Iterator[Placement]:
    """First placements of several kinds for one state."""
    bare = replace(view, rehearse=None)
    try:
        yield lookahead.place(bare)
    except InfeasibleError:
        return
    if plan.view.divide:
        yield from islice(ShareProposer(bare, list(seen), HORIZONS[-1]).placements(), DIVIDED)
    for propose in lookahead.PROPOSERS:
        yield from (placement for placement in propose(bare) if view.holds(placement))


class Table:
    """Moves between candidates as arrays, so that all migrations of an instant are reckoned at once."""

    def __init__(self, view: ClusterView, placements: Sequence[Placement]) -> None:
        k, n = len(placements), len(view.devices)
        self._placements = placements
        self._groups = np.zeros((k, k, n, n))  # that move, by old, new, source, target
        self._weights = np.zeros((k, k, n, n))  # bytes of weights
        sizes = cache(lambda alike, ends_meet: weight_bytes(alike, view.costs, ends_meet=ends_meet))
        for i, old in enumerate(placements):
            for j, new in enumerate(placements):
                for block, source, target, ends_meet in moves(old, new):
                    alike = Block(block.kind, 0, min(block.group, 1))  # the first shard has the bias
                    self._weights[i, j, source, target] += sizes(alike, ends_meet)
                    self._groups[i, j, source, target] += block.kind is Kind.HEAD
        self._allowed: dict[bytes, NDArray[np.bool_]] = {}

    def migrations_s(self, view: ClusterView, old: int) -> FloatArray:
        """The pause of a migration from one candidate to each: [k]; infinite where memory does not allow it."""
        n = len(view.devices)
        cache_bytes = view.costs.at_step(1, view.past).kv_bytes(view.workload.cached or view.length)
        sent, weights = self._groups[old] * cache_bytes, self._weights[old]  # [k, n, n] each
        bits = 8.0 * (sent if view.weights_on_flash else sent + weights)
        s_per_bit, delay_s = _matrix(view.links.s_per_bit, n), _matrix(view.links.delay_s, n)
        took_s = np.where(bits > 0, bits * s_per_bit + delay_s, 0.0).max(axis=(1, 2))  # [k]
        if view.weights_on_flash:
            took_s = np.maximum(took_s, weights.sum(axis=1).max(axis=1) / view.flash_bytes_per_s)
        return np.where(self._may(view)[old], took_s, np.inf)

    def _may(self, view: ClusterView) -> NDArray[np.bool_]:
        """Whether there is memory for each move, and for where it leads: [k, k]."""
        key = view.memory_bytes.tobytes()
        if key not in self._allowed:
            may, total = np.eye(len(self._placements), dtype=np.bool_), view.total_tokens
            view = replace(view, workload=replace(view.workload, length=total, cached=total * view.sequences))
            for j, new in enumerate(self._placements):
                if view.holds(new):
                    may[:, j] |= [not refusing_devices(view, old, new) for old in self._placements]
            self._allowed[key] = may
        return self._allowed[key]


class Clairvoyant:
    """Policy that follows the best plan that was found. It begins with the first placement of `seen`.

    Projections that are divided otherwise than with their heads have no closed form: such placements are left out.
    """

    def __init__(self, future: Future, seen: Sequence[Placement], step_s: float) -> None:
        plan = future.plan
        self._future, self._prompt_tokens = future, plan.view.prompt_tokens
        self._everyone = np.arange(len(plan.view.devices))
        self.placements, found = [], []
        for placement in candidates(plan, future.states(step_s), seen):
            shares = ShareArrays.of(placement, plan.model.shape, self._everyone)
            if shares is not None:
                self.placements.append(placement)
                found.append(shares)
        self._shares = ShareArrays.joined(found)
        self._known: dict[tuple[bytes, int], bool] = {}
        self._schedule = self._best_schedule()  # before the run, in which a decision has a limit

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        if current is None:
            return self.placements[0]
        token = view.past - self._prompt_tokens + 1
        chosen = self.placements[self._schedule[min(token, len(self._schedule) - 1)]]
        return current if chosen.owner == current.owner else chosen

    def _best_schedule(self) -> list[int]:
        """The candidate for each token; the first is that of the prompt."""
        k, future = len(self.placements), self._future
        table = Table(future.plan.view, self.placements)
        done_s = np.full(k, np.inf)
        done_s[0] = 0.0
        came_from: list[NDArray[np.int64]] = []
        for token in range(1, future.tokens):
            begin_s = np.full((k, k), np.inf)  # [before, now]
            for old in np.flatnonzero(np.isfinite(done_s)).tolist():
                begin_s[old] = done_s[old] + table.migrations_s(future.view(token, float(done_s[old])), old)
            came_from.append(begin_s.argmin(axis=0))
            done_s = self._ended_s(token, begin_s.min(axis=0))
        best = int(done_s.argmin())
        path = [best]
        for sources in reversed(came_from):
            path.append(int(sources[path[-1]]))
        return path[::-1]

    def _ended_s(self, token: int, start_s: FloatArray) -> FloatArray:
        """When a token is there that begins at an instant under each candidate, [k] -> [k].

        Infinite where that no longer fits.
        """
        ended_s, alike = np.full(len(start_s), np.inf), dict[tuple[object, ...], tuple[ClusterView, list[int]]]()
        for candidate in np.flatnonzero(np.isfinite(start_s)).tolist():
            view = self._future.view(token, float(start_s[candidate]))
            if self._fits(view, candidate):
                alike.setdefault(_key(view), (view, []))[1].append(candidate)
        for view, members in alike.values():
            step_s = ShareJudge(view, self._everyone, 1).promised(self._shares.taken(members))
            ended_s[members] = start_s[members] + step_s
        return ended_s

    def _fits(self, view: ClusterView, candidate: int) -> bool:
        key = (view.memory_bytes.tobytes(), candidate)
        if key not in self._known:
            self._known[key] = view.holds(self.placements[candidate])
        return self._known[key]
