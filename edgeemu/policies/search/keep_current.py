"""Later decisions of policies that only have a rule for first placements: keep the current one, or place again."""

from collections.abc import Callable
from typing import Protocol

from edgeemu.errors import InfeasibleError
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, NoBetterPlacement

Rule = Callable[[ClusterView], Placement]


class Place(Protocol):
    """A policy whose current placement can be left out.

    Raises:
        InfeasibleError: first call, and its rule finds no placement.
        NoBetterPlacement: a later call, the current placement no longer fits, and its rule finds none.
    """

    def __call__(self, view: ClusterView, current: Placement | None = None) -> Placement: ...


def planned_once(rule: Rule) -> Place:
    """Make a policy of a rule: its placement is kept for as long as it fits."""

    def place(view: ClusterView, current: Placement | None = None) -> Placement:
        return kept(rule, view, current)

    place.__doc__ = rule.__doc__
    return place


def placed_again(rule: Rule) -> Place:
    """Make a policy of a rule that places at every decision."""

    def place(view: ClusterView, current: Placement | None = None) -> Placement:
        return _by_rule(rule, view, current)

    place.__doc__ = rule.__doc__
    return place


def kept(rule: Rule, view: ClusterView, current: Placement | None) -> Placement:
    """The current placement for as long as it fits; then the rule's for the view as it is now."""
    if current is not None and view.holds(current):
        return current
    return _by_rule(rule, view, current)


def _by_rule(rule: Rule, view: ClusterView, current: Placement | None) -> Placement:
    """The rule's placement; `current` itself where that is equal."""
    try:
        found = rule(view)
    except InfeasibleError as error:
        if current is None:
            raise
        raise NoBetterPlacement(str(error)) from error
    return current if current is not None and current.owner == found.owner else found
