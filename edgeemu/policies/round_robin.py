"""Round-robin, a baseline of the head-level paper (arXiv 2505.02533, section V). Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.first_fit import dealt
from edgeemu.policies.search.keep_current import placed_anew
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Blocks in model order, each to the next device in turn that has room for it.

    Asked again, it deals the blocks out once more by what devices now have room for [D], as `greedy` does.

    Raises:
        InfeasibleError: first call: a block fits nowhere.
        NoBetterPlacement: the same at a later call.
    """
    return placed_anew(lambda seen: dealt(seen, lambda device: device + 1), view, current)
