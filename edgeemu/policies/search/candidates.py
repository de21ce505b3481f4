"""First placements of different kinds, and the score by which they are compared. Pure.

No closed form models everything that decides between them (prompts, several sequences, links that share an interface or
a wireless channel, jitter), so the start of the run is simulated with each: `view.rehearse`.
"""

from collections.abc import Callable, Iterator
from math import inf

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.policies.search.pipeline_programs import pipelines
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.step_energy import UnknownEnergyError, token_energy_j

ALONE = 3  # devices that are tried as the only one
ALONE_FOR_ENERGY = 100  # with the objective of least energy: all devices but on very large clusters, and there
SEEN_FOR_ENERGY = 300_000  # fewer, because each is compared with all: devices that are tried x devices
PIPELINES = 4  # pipelines that are tried, the best by a closed form
DIVIDED = 10_000  # messages (layers x devices²) up to which dividing every layer over all devices is tried
TIE = 1e-6  # relative difference of scores that is no difference

Proposer = Callable[[ClusterView], Iterator[Placement]]
Score = tuple[float, float]
"""Joules a token beyond the budget, and the objective: both are to be small, the first before the second."""


def placed_by(place: Callable[[ClusterView], Placement]) -> Proposer:
    """A proposer of what a policy places first, if that fits."""

    def propose(view: ClusterView) -> Iterator[Placement]:
        try:
            yield place(view)
        except InfeasibleError:
            return  # other kinds can fit

    return propose


def divided_by(place: Callable[[ClusterView], Placement]) -> Proposer:
    """A proposer of what a policy with shards places first, if shards are wanted and the cluster is not too large."""
    plain = placed_by(place)

    def propose(view: ClusterView) -> Iterator[Placement]:
        if view.divide and view.costs.shape.n_layers * view.n_devices**2 <= DIVIDED:
            yield from plain(view)

    return propose


def best_pipelines(view: ClusterView) -> Iterator[Placement]:
    """The pipelines of the throughput program that promise the shortest time per token of all sequences."""
    costs = StageCosts(view)

    def round_s(stages: list[Stage]) -> float:
        return max(view.sequences * costs.bottleneck_s(stages), costs.latency_s(stages))

    for stages in sorted(pipelines(costs, view.nodes[0]), key=round_s)[:PIPELINES]:
        yield costs.placement(stages)


def single_devices(view: ClusterView) -> Iterator[Placement]:
    """The complete model on one device, the fastest devices first."""
    blocks = list(all_blocks(view.costs.shape))
    count = ALONE
    if view.objective == "energy":
        count = max(ALONE, min(ALONE_FOR_ENERGY, SEEN_FOR_ENERGY // view.n_devices))
    for device in sorted(range(view.n_devices), key=view.model_time_s)[:count]:
        yield Placement(dict.fromkeys(blocks, device))


def score(view: ClusterView, placement: Placement) -> Score | None:
    """Simulate the start of the run and score it by the scenario's objective; None: it is too large to simulate."""
    simulated = None if view.rehearse is None else view.rehearse(placement)
    if simulated is None:
        return None
    try:
        energy_j = token_energy_j(view, placement)
    except (UnknownEnergyError, PlacementError):  # no figures; or columns of projections apart from heads
        energy_j = inf
    over_j = 0.0 if view.energy_budget_j is None else max(0.0, energy_j - view.energy_budget_j)
    match view.objective:
        case "latency":
            return over_j, simulated.latency_s
        case "throughput":
            return over_j, -simulated.throughput_tok_s
        case "energy":
            return over_j, energy_j


def less(one: Score, other: Score) -> bool:
    """Whether a score is less than another by more than rounding."""
    for mine, theirs in zip(one, other, strict=True):
        if mine == theirs or abs(mine - theirs) <= TIE * abs(theirs):
            continue
        return mine < theirs
    return False


class Contest:
    """Placements that were proposed, each judged once, and the best of them.

    On a cluster that is too large to simulate the first one that fits is the best.
    """

    def __init__(self, view: ClusterView) -> None:
        self.best: Placement | None = None
        self.simulates = view.n_devices > 1
        self.judged = 0
        self._view = view
        self._score: Score | None = None
        self._seen: list[tuple[Score, Placement]] = []

    def add(self, placement: Placement) -> bool:
        """Judge a placement that was not proposed before and fits. Whether it is the best now."""
        if any(placement.owner == each.owner for _, each in self._seen) or not self._view.holds(placement):
            return False
        found = score(self._view, placement) if self.simulates else None
        self.judged += 1
        if found is None:
            self.simulates = self.simulates and self.best is not None
            if self.best is None:
                self.best = placement
                self._view.offer(placement)
            return self.best is placement
        self._seen.append((found, placement))
        if self._score is None or less(found, self._score):
            self.best, self._score = placement, found
            self._view.offer(placement)
        return self.best is placement

    def by_score(self) -> list[Placement]:
        """All that were judged, the best first."""
        return [placement for _, placement in sorted(self._seen, key=lambda pair: pair[0])]
