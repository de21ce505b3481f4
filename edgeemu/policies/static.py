"""The first placement, frozen: what moving blocks has to beat. A baseline of the head-level paper. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies import resource_aware
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """What `resource-aware` places first, and the same ever after, also where devices slow down or lose memory [D].

    Raises:
        InfeasibleError: no placement was found.
    """
    return resource_aware.place(view) if current is None else current
