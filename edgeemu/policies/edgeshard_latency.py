"""EdgeShard's partition for latency (arXiv 2405.14371, algorithm 1): for one sequence at a time. Pure."""

from edgeemu.placement import Placement
from edgeemu.policies.edgeshard import least_latency
from edgeemu.policies.keeping import kept
from edgeemu.policies.stages import StageCosts
from edgeemu.view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """The devices and whole layers with which a token comes soonest; the embedding stays on the source device.

    It is kept for as long as it fits: EdgeShard plans before it runs.

    Raises:
        InfeasibleError: first call: no partition fits.
        NoBetterPlacement: the same at a later call.
    """
    return kept(_partition, view, current)


def _partition(view: ClusterView) -> Placement:
    costs = StageCosts(view)
    stages = least_latency(costs, view.source)
    if stages is None:
        raise costs.too_small("EdgeShard's pipeline", range(len(view.devices)))
    return costs.placement(stages)
