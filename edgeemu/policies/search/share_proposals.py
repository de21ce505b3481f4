"""First placements with partly divided layers: a local search over shares, from other proposals and simple ones. Pure.

On a cluster with many devices it has only the most promising ones. Its work is counted, so that it ends alike on every
host.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.devices_code import promising_beside
from edgeemu.policies.compiled.share_code import FEW_DEVICES, searches_many
from edgeemu.policies.search.apportion import largest_remainders
from edgeemu.policies.search.share_annealing import annealed
from edgeemu.policies.search.share_moves import n_neighbours
from edgeemu.policies.search.share_search import MISSING, ShareJudge, ShareSearch, weight
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import LinkFactors
from edgeemu.policies.view.share_needs import ShareNeeds
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import WITH_HEADS, ShareArrays
from edgeemu.policies.view.step_time import StepTimes
from edgeemu_kernels.packed_tuples import Packed
from edgeemu_kernels.shape import ModelShape

# By machine code, in later decisions:
MOST_USED = 32  # devices with blocks, of which shares shift
SLOW_LINK = 4.0  # times as slow as nominal: then as many devices take part, if there are no more, to find ways round it
TOGETHER = 4  # devices take part in multiples of it: what a search on so many writes into is then kept
ROUNDS = 4  # of a search that its work must suffice for: on fewer devices it does
WORK = 6e6  # less than a second
MOST_ANNEALED = 24  # from which a search goes on


class ShareProposer:
    """A local search over shares on the most promising devices of a cluster."""

    def __init__(self, view: ClusterView, others: Sequence[Placement], horizon: int, work: float = WORK) -> None:
        """`others`: placements to start from, the best first, which say what devices are promising too."""
        self.view = view
        self.devices = promising(view, others, work / ROUNDS)
        judge = ShareJudge(view, self.devices, horizon)
        self.search = ShareSearch(judge, work, ShareNeeds(judge.memory))
        known = set(self.devices.tolist())
        self._seeds = self._some([each for each in others if known.issuperset(each.owner.values())])
        self.short = not self.search.judge.memory.fits(self._seeds).all()  # whether memory is, for some of the seeds

    def placements(self) -> Iterator[Placement]:
        """The ends of the search that fit, the best first.

        Where memory is short, single changes do not lead everywhere: it then begins with annealed placements.
        """
        begin = self._seeds
        if self.short and len(found := annealed(self.search.judge, begin)):
            begin = found.taken(np.arange(min(len(found), MOST_ANNEALED)))
        for cost, end in self.search.all_from(begin):
            if cost < MISSING:
                yield end.placement(0, self.view.costs.shape, self.devices)

    def beside(self, placement: Placement, slack: float) -> Iterator[Placement]:
        """Neighbours of a placement that do not promise to be slower than it by more than `slack`, the best first."""
        shape = self.view.costs.shape
        if not set(self.devices.tolist()).issuperset(placement.owner.values()):
            return
        base = ShareArrays.of(placement, shape, self.devices)
        if base is None:
            return
        near = ShareArrays.joined([each.runs.unfolded(each.shares) for each in self.search.around(base)])
        costs, base_cost = (self.search.costs(Folded.of(each)) for each in (near, base))
        keys, known = near.keys(), {base.keys()[0]}
        for at in costs.argsort(kind="stable").tolist():
            if costs[at] > float(base_cost[0]) * (1 + slack):
                return
            if keys[at] not in known:
                known.add(keys[at])
                yield near.placement(at, shape, self.devices)

    def _some(self, others: Sequence[Placement]) -> ShareArrays:
        """Where a search begins: other placements, and simple ones."""
        shape = self.view.costs.shape
        found = [shares for each in others if (shares := ShareArrays.of(each, shape, self.devices)) is not None]
        return ShareArrays.joined([*found, simple_seeds(self.view, self.devices)]).normal()


def any_that_fits(view: ClusterView) -> Placement | None:
    """A placement with divided layers that fits, where undivided blocks do not; None: none was found."""
    if not view.divide:
        return None
    devices = promising(view, [], WORK / ROUNDS)
    judge = ShareJudge(view, devices, view.remaining_tokens)
    search = ShareSearch(judge, WORK, ShareNeeds(judge.memory))
    found = search.first_that_fits(simple_seeds(view, devices))
    return None if found is None else found.placement(0, view.costs.shape, devices)


def simple_seeds(view: ClusterView, devices: IntArray) -> ShareArrays:
    """Everything on one device, and, where layers are divided, shares by speed and by memory."""
    shape, n = view.costs.shape, len(devices)
    if not view.divide:
        return _on_one(shape, n)
    speeds, room = 1.0 / view.layer_times_s[devices], view.memory_bytes[devices] + 1.0  # [n] each
    shared = (_in_proportion(shape, tuple(weights.tolist())) for weights in (speeds, room))
    return ShareArrays.joined([_on_one(shape, n), *shared])


@lru_cache(maxsize=4)
def _on_one(shape: ModelShape, n: int) -> ShareArrays:
    """Everything on each of n devices."""
    alone, everyone = np.eye(n, dtype=np.int64), np.arange(n)
    numbers = shape.n_groups, n_shards(shape, Kind.FFN)
    heads, parts = (np.repeat(alone[:, None] * number, shape.n_layers, 1) for number in numbers)
    return ShareArrays(everyone, everyone, heads, np.repeat(everyone[:, None], shape.n_layers, 1), parts)


@lru_cache(maxsize=16)
def _in_proportion(shape: ModelShape, weights: tuple[float, ...]) -> ShareArrays:
    """A placement of which all layers are divided alike, by weights of devices."""
    n, ends, units = len(weights), np.array([weights.index(max(weights))]), n_shards(shape, Kind.FFN)
    heads, parts = (
        np.array([[largest_remainders(list(weights), number, [number] * n)] * shape.n_layers])
        for number in (shape.n_groups, units)
    )
    return ShareArrays(ends, ends, heads, np.full((1, shape.n_layers), WITH_HEADS), parts).normal()


@lru_cache(maxsize=16)
def _most(shape: ModelShape, devices: int, most_work: float) -> int:
    """How many devices are not too many to search."""
    units, size = n_shards(shape, Kind.FFN), devices
    while size > 2 and weight(n_neighbours(shape.n_layers, size, shape.n_groups, units), size, shape) > most_work:
        size -= 1
    return size


def promising(
    view: ClusterView, others: Sequence[Placement], most_work: float, most_devices: int = FEW_DEVICES
) -> IntArray:
    """The devices to search on, ascending: those that proposals use, and the fastest; not too many to search."""
    n = view.n_devices
    size = _most(view.costs.shape, min(n, most_devices), most_work)
    if n == size:
        return np.arange(n)
    chosen: dict[int, None] = {}
    for placement in others:
        used = placement.devices()
        if len(chosen.keys() | set(used)) <= size:
            chosen |= dict.fromkeys(used)
    if len(chosen) < size:
        # those on which a complete layer takes least
        chosen |= dict.fromkeys(StepTimes(view).whole_layer_s.argsort(kind="stable")[:size].tolist())
    return np.array(sorted(list(chosen)[:size]))


def finds_ways_round(view: ClusterView) -> bool:
    """Whether all devices take part in later decisions while a link is slow."""
    few = view.costs.shape.n_layers == 1 and view.n_devices <= MOST_USED
    return few and view.sequences == 1 and searches_many(view)


def promising_now(
    view: ClusterView, current: Placement, owners: BlockOwners, most_work: float, everyone: Packed
) -> IntArray:
    """The devices to search on from the current placement, ascending: those that it uses, and the fastest beside them.

    Not more than a first placement has, but where `searches_many`. `owners`: of its blocks. `everyone`: all devices.
    """
    n = view.n_devices
    size = _most(view.costs.shape, min(n, FEW_DEVICES), most_work)
    if n == size:
        return promising(view, [current], most_work)
    used = int(np.count_nonzero(np.bincount(owners.numbers[owners.numbers >= 0])))
    if used <= MOST_USED and searches_many(view):
        size = _beside(used, size, n)
        size = n if finds_ways_round(view) and LinkFactors.of(view.observed).slowest() >= SLOW_LINK else size
    return np.arange(n) if size == n else promising_beside(view, everyone, owners.numbers, size)


def prepared_devices(view: ClusterView, *placements: Placement) -> IntArray:
    """Devices among which steps of placements are computed, ascending: [n].

    All of a small cluster, for whose number everything is ready before the run; of others those of the placements.
    """
    if view.n_devices <= MOST_USED:
        return np.arange(view.n_devices)
    return np.array(sorted({device for each in placements for device in each.owner.values()}))


def numbers_chosen(view: ClusterView, most_work: float) -> list[int]:
    """How many devices `promising_now` can choose, ascending."""
    n = view.n_devices
    size = _most(view.costs.shape, min(n, FEW_DEVICES), most_work)
    if not searches_many(view):
        return [size]
    ways_round = {n} if finds_ways_round(view) else set[int]()
    return sorted({_beside(used, size, n) for used in range(1, MOST_USED + 1)} | ways_round)


def _beside(used: int, size: int, n: int) -> int:
    """How many of n devices take part beside those with blocks: at least `size`, and in multiples of `TOGETHER`."""
    return min(n, max(size, (used // TOGETHER + 1) * TOGETHER))
