"""Greedy first fit, a baseline of the head-level paper (arXiv 2505.02533, section V). Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.first_fit import dealt
from edgeemu.policies.search.keep_current import placed_anew
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Blocks in model order, each to the first device, in the order of the scenario, that has room for it.

    Asked again, it places by the same rule what devices now have room for, whatever that moves [D]: the paper has its
    baselines decide at every interval as its own algorithm does, and does not say how.

    Raises:
        InfeasibleError: first call: a block fits nowhere.
        NoBetterPlacement: the same at a later call.
    """
    return placed_anew(lambda seen: dealt(seen, lambda _: 0), view, current)
