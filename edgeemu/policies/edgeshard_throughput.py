"""EdgeShard's partition for throughput (arXiv 2405.14371, algorithm 2): for many sequences at a time. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.pipeline_programmes import least_bottleneck
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """The pipeline whose slowest stage is fastest; the embedding stays on the source device.

    It is kept for as long as it fits: EdgeShard plans before it runs.

    Raises:
        InfeasibleError: first call: no partition fits.
        NoBetterPlacement: the same at a later call.
    """
    return kept(_partition, view, current)


def _partition(view: ClusterView) -> Placement:
    costs = StageCosts(view)
    stages = least_bottleneck(costs, view.source)
    if stages is None:
        raise costs.too_small("EdgeShard's pipeline", range(len(view.devices)))
    return costs.placement(stages)
