"""Rows of changes of placement, with what has changed before them and what they are expected to gain. Pure."""

from typing import NamedTuple

from edgeemu.placement.placement import Placement, moves
from edgeemu.policies.search.expected_gain import expected_gain
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import DecisionRow
from edgeemu.run.measured_changes import Views, changes_in_words
from edgeemu.run.plan import Plan


class ChangeDecision(NamedTuple):
    """Decision to change the placement: the number of its row, and the views for which it and the last were made."""

    number: int
    view: ClusterView
    before: ClusterView
    old: Placement
    new: Placement


def explained(plan: Plan, row: DecisionRow, change: ChangeDecision) -> DecisionRow:
    """Return the row of a change with what it is expected to gain, and what has changed since the one before it."""
    _, view, before, old, new = change
    known = "measured " if plan.scenario.knowledge == "measured" else ""
    why = changes_in_words(Views(plan.computes, before, view, known), old)
    expected = expected_gain(view, old, new)
    return row._replace(moves=len(moves(old, new)), why=" and ".join(why), **expected._asdict())
