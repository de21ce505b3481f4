"""EdgeShard's baseline Cloud-Edge-Opt (arXiv 2405.14371): its programme for latency on two devices. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.pipeline_programmes import least_latency
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """The best way to share the layers between the source device and the fastest other one.

    Raises:
        InfeasibleError: first call: it does not fit.
        NoBetterPlacement: the same at a later call.
    """
    return kept(_best_share, view, current)


def _best_share(view: ClusterView) -> Placement:
    costs = StageCosts(view)
    two = sorted((view.source, cloud(costs, view.source)))
    stages = least_latency(costs, view.source, two)
    if stages is None:
        raise costs.too_small("Source and cloud", two)
    return costs.placement(stages)
