"""EdgeShard's baseline Cloud-Edge-Opt (arXiv 2405.14371): its program for latency on two devices. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_programs import least_latency
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Choose the best cut between the source device and the fastest other device, and keep it while it fits."""
    costs = StageCosts(view)
    two = sorted((view.nodes[0], cloud(costs, view.nodes[0])))
    stages = least_latency(costs, view.nodes[0], two)
    if stages is None:
        raise costs.too_small("Source and cloud", two)
    return costs.placement(stages)
