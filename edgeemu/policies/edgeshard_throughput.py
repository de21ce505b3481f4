"""EdgeShard's partition for throughput (arXiv 2405.14371, algorithm 2): for many sequences at a time. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_programs import least_bottleneck
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Choose the pipeline whose slowest stage is fastest; the embedding is on the source device.

    The partition is kept while it fits: EdgeShard plans before it runs.
    """
    costs = StageCosts(view)
    stages = least_bottleneck(costs, view.nodes[0])
    if stages is None:
        raise costs.too_small("EdgeShard's pipeline", range(view.n_devices))
    return costs.placement(stages)
