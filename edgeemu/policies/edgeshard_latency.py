"""EdgeShard's partition for latency (arXiv 2405.14371, algorithm 1): for one sequence at a time. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.pipeline_programmes import least_latency
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


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
    found = [least_latency(costs, view.source)]
    if len(view.devices) > 1:  # [D] of two devices all partitions are kept, of many the programme keeps a few
        found.append(least_latency(costs, view.source, sorted((view.source, cloud(costs, view.source)))))
    fitting = [stages for stages in found if stages is not None]
    if not fitting:
        raise costs.too_small("EdgeShard's pipeline", range(len(view.devices)))
    return costs.placement(min(fitting, key=costs.latency_s))
