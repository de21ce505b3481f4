"""EdgeShard's baseline Cloud-Edge-Even (arXiv 2405.14371): half of the layers each. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.cloud_edge import cloud
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """The embedding and the first half of the layers on the source device, the rest on the fastest other one.

    Raises:
        InfeasibleError: first call: it does not fit.
        NoBetterPlacement: the same at a later call.
    """
    return kept(_even, view, current)


def _even(view: ClusterView) -> Placement:
    costs = StageCosts(view)
    other = cloud(costs, view.source)
    cut = 1 + costs.n_layers // 2
    stages = [Stage(view.source, 0, cut), Stage(other, cut, costs.n_elements)]
    beyond = costs.room(view.source, embed=True) < cut - 1
    if beyond or costs.room(other, lm_head=True) < costs.n_layers - (cut - 1):
        raise costs.too_small("Source and cloud with half each", [view.source, other])
    return costs.placement(stages)
