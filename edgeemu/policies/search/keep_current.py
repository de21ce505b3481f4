"""What policies without a search of their own do with the placement that is there. Pure."""

from collections.abc import Callable

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement


def placed_anew(anew: Callable[[ClusterView], Placement], view: ClusterView, current: Placement | None) -> Placement:
    """A policy's rule applied to the view as it is now.

    Raises:
        InfeasibleError: first call, and the rule finds no placement.
        NoBetterPlacement: a later call, and the rule finds none.
    """
    try:
        found = anew(view)
    except InfeasibleError as error:
        if current is None:
            raise
        raise NoBetterPlacement(str(error)) from error
    return current if current is not None and current.owner == found.owner else found


def kept(anew: Callable[[ClusterView], Placement], view: ClusterView, current: Placement | None) -> Placement:
    """The current placement for as long as it fits; then the rule's for the view as it is now."""
    if current is not None and view.holds(current):
        return current
    return placed_anew(anew, view, current)
