"""EdgeShard's partition for latency (arXiv 2405.14371, algorithm 1): for one sequence at a time. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_programs import least_latency
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Choose the devices and complete layers with the least latency of a token; the embedding is on the source device.

    The partition is kept while it fits: EdgeShard plans before it runs.
    """
    costs = StageCosts(view)
    found = [least_latency(costs, view.nodes[0])]
    if view.n_devices > 1:  # [D] of two devices all partitions are kept; of many, the program keeps a few
        found.append(least_latency(costs, view.nodes[0], sorted((view.nodes[0], cloud(costs, view.nodes[0])))))
    fitting = [stages for stages in found if stages is not None]
    if not fitting:
        raise costs.too_small("EdgeShard's pipeline", range(view.n_devices))
    return costs.placement(min(fitting, key=costs.latency_s))
