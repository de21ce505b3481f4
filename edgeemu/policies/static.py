"""The first placement, never changed: the baseline that moving blocks has to beat, of the head-level paper. Pure."""

from edgeemu.placement.placement import Placement
from edgeemu.policies import resource_aware
from edgeemu.policies.view.cluster_view import ClusterView


def place(view: ClusterView, current: Placement | None = None) -> Placement:
    """Place as `resource-aware` does first, and keep that, also where devices slow down or lose memory [D].

    Raises:
        InfeasibleError: no placement was found.
    """
    return resource_aware.place(view) if current is None else current
