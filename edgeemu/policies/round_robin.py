"""Round-robin, a baseline of the head-level paper (arXiv 2505.02533, section V). Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.first_fit import first_fit
from edgeemu.policies.search.keep_current import placed_again
from edgeemu.policies.view.cluster_view import ClusterView


@placed_again
def place(view: ClusterView) -> Placement:
    """Place blocks in model order, each on the next device in turn that has room for it.

    [D] Every decision places all blocks by this rule, on the memory that devices now have, as with `greedy`.
    """
    return first_fit(view, lambda device: device + 1)
