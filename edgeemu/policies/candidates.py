"""First placements that differ in kind, to choose from: whole layers in pipelines, shards, one device. Pure.

No closed form sees everything that decides between them (prompts, several sequences, links that share an interface or
the air, jitter), so they are played: `view.rehearse`.
"""

from collections.abc import Callable, Iterator

from edgeemu.errors import InfeasibleError
from edgeemu.placement import Placement
from edgeemu.policies import edgeshard_latency, layers, mdi, single
from edgeemu.policies.edgeshard import pipelines
from edgeemu.policies.stages import StageCosts
from edgeemu.view import ClusterView, Rehearsed

KINDS: tuple[Callable[[ClusterView], Placement], ...] = (
    single.place,
    edgeshard_latency.place,
    mdi.place,
    layers.place,
)


def candidates(view: ClusterView) -> Iterator[Placement]:
    """Placements of every kind that fits, some of them maybe the same."""
    for place in KINDS:
        try:
            yield place(view)
        except InfeasibleError:
            continue  # there are others
    costs = StageCosts(view)
    for stages in pipelines(costs, view.source):
        yield costs.placement(stages)


def best_played(view: ClusterView, own: Placement) -> Placement:
    """The best of `own` and the candidates when they are played; `own` where it cannot be, or is as good."""
    if view.rehearse is None or len(view.devices) == 1:
        return own
    best, best_played = own, view.rehearse(own)
    if best_played is None:
        return own
    seen = [own.owner]
    for candidate in candidates(view):
        if candidate.owner in seen or not view.holds(candidate):
            continue
        seen.append(candidate.owner)
        played = view.rehearse(candidate)
        if played is not None and _better(played, best_played):
            best, best_played = candidate, played
    return best


def _better(played: Rehearsed, best: Rehearsed) -> bool:
    return played.latency_s < best.latency_s * (1 - TIE)


TIE = 1e-6  # of what is compared: less is no difference
