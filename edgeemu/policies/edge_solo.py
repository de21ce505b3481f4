"""EdgeShard's baseline Edge-Solo (arXiv 2405.14371): the complete model on the source device. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Place everything on the device where prompts come from, and keep it there while it fits."""
    costs = StageCosts(view)
    if costs.room(view.nodes[0], embed=True, lm_head=True) < costs.n_layers:
        raise costs.too_small("The source device alone", [view.nodes[0]])
    return costs.placement([Stage(view.nodes[0], 0, costs.n_elements)])
