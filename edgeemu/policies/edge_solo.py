"""EdgeShard's baseline Edge-Solo (arXiv 2405.14371): the whole model on the source device. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import kept
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Everything where the prompts are.

    Raises:
        InfeasibleError: first call: it does not fit.
        NoBetterPlacement: the same at a later call.
    """
    return kept(_solo, view, current)


def _solo(view: ClusterView) -> Placement:
    costs = StageCosts(view)
    if costs.room(view.source, embed=True, lm_head=True) < costs.n_layers:
        raise costs.too_small("The source device alone", [view.source])
    return costs.placement([Stage(view.source, 0, costs.n_elements)])
