"""First placements that differ in kind, to choose from: whole layers in pipelines, shards, one device. Pure.

No closed form sees everything that decides between them (prompts, several sequences, links that share an interface or
the air, jitter), so they are played: `view.rehearse`.
"""

from collections.abc import Iterator
from math import inf

from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.policies import edgeshard_latency, galaxy, layers, mdi
from edgeemu.policies.search.pipeline_programmes import pipelines
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView, Rehearsed
from edgeemu.policies.view.step_energy import UnknownEnergyError, token_energy_j

ALONE = 3  # devices that are tried as the only one; for the least energy, all but on very large clusters
PIPELINES = 4  # that are tried, the best by a closed form
DIVIDED = 10_000  # messages (layers x devices²) up to which dividing every layer over all devices is tried
TIE = 1e-6  # of what is compared: less is no difference


def candidates(view: ClusterView) -> Iterator[Placement]:
    """Placements of every kind that fits, some of them maybe the same."""
    shape, n_devices = view.costs.shape, len(view.devices)
    kinds = [edgeshard_latency.place, mdi.place, layers.place]
    if view.divide and shape.n_layers * n_devices**2 <= DIVIDED:
        kinds.append(galaxy.place)
    for place in kinds:
        try:
            yield place(view)
        except InfeasibleError:
            continue  # there are others
    costs = StageCosts(view)

    def round_s(stages: list[Stage]) -> float:
        return max(view.sequences * costs.bottleneck_s(stages), costs.latency_s(stages))

    for stages in sorted(pipelines(costs, view.source), key=round_s)[:PIPELINES]:
        yield costs.placement(stages)
    blocks = list(all_blocks(shape))
    alone = 100 if view.objective == "energy" else ALONE
    for device in sorted(range(n_devices), key=view.model_time_s)[:alone]:
        yield Placement(dict.fromkeys(blocks, device))


def best_played(view: ClusterView, own: Placement) -> Placement:
    """The best of `own` and the candidates by the scenario's objective; `own` where they cannot be played."""
    if view.rehearse is None or len(view.devices) == 1:
        return own
    played = view.rehearse(own)
    if played is None:
        return own
    best, best_score = own, _score(view, own, played)
    seen = [own.owner]
    for candidate in candidates(view):
        if candidate.owner in seen or not view.holds(candidate):
            continue
        seen.append(candidate.owner)
        played = view.rehearse(candidate)
        score = (inf, inf) if played is None else _score(view, candidate, played)
        if _less(score, best_score):
            best, best_score = candidate, score
    return best


Score = tuple[float, float]
"""Joules a token beyond the budget, and the objective: both are to be small, the first first."""


def _score(view: ClusterView, placement: Placement, played: Rehearsed) -> Score:
    try:
        energy_j = token_energy_j(view, placement)
    except (UnknownEnergyError, PlacementError):  # no figures; or shards, whose energy is known only afterwards
        energy_j = inf
    over_j = 0.0 if view.energy_budget_j is None else max(0.0, energy_j - view.energy_budget_j)
    match view.objective:
        case "latency":
            return over_j, played.latency_s
        case "throughput":
            return over_j, -played.throughput_tok_s
        case "energy":
            return over_j, energy_j


def _less(score: Score, best: Score) -> bool:
    """Beyond rounding."""
    for mine, other in zip(score, best, strict=True):
        if mine == other or abs(mine - other) <= TIE * abs(other):
            continue
        return mine < other
    return False
