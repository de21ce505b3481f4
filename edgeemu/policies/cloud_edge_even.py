"""EdgeShard's baseline Cloud-Edge-Even (arXiv 2405.14371): half of the layers on each of two devices. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Place embedding and first half of the layers on the source device, the rest on the fastest other device.

    The placement is kept while it fits.
    """
    costs = StageCosts(view)
    other = cloud(costs, view.nodes[0])
    cut = 1 + costs.n_layers // 2
    stages = [Stage(view.nodes[0], 0, cut), Stage(other, cut, costs.n_elements)]
    too_many = costs.room(view.nodes[0], embed=True) < cut - 1
    if too_many or costs.room(other, lm_head=True) < costs.n_layers - (cut - 1):
        raise costs.too_small("Source and cloud with half each", [view.nodes[0], other])
    return costs.placement(stages)
