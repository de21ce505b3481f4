"""Promise of a change of placement by a policy's closed forms: steps before and after, and the pause. Pure."""

from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.search.pipeline_moves import round_s
from edgeemu.policies.search.share_search import ShareJudge
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts, migration_s
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.policies.view.step_time import StepTimes

MAX_DEVICES = 64  # with divided layers, between all of which there can be messages


class ExpectedGain(NamedTuple):
    """Time until every sequence in flight has its next token, and the time for which a change makes them wait."""

    before_s: float | None  # None: no closed form knows the placement
    after_s: float | None
    migration_s: float


def expected_gain(view: ClusterView, old: Placement, new: Placement) -> ExpectedGain:
    """Compute what a change of placement is expected to gain at the next step, and to take."""
    devices = np.array(sorted({*old.owner.values(), *new.owner.values()}))
    return ExpectedGain(_round_s(view, old, devices), _round_s(view, new, devices), _migration_s(view, old, new))


def _migration_s(view: ClusterView, old: Placement, new: Placement) -> float:
    """Seconds that the sequence waits for the moves; of many blocks at once, where none is divided."""
    shape = view.costs.shape
    if view.lost or is_divided(old, shape.n_layers) or is_divided(new, shape.n_layers):
        return migration_s(view, old, new)
    return MoveCosts(view).migration_s(PlacementArrays.of(old, shape), PlacementArrays.of(new, shape))


def _round_s(view: ClusterView, placement: Placement, devices: IntArray) -> float | None:
    """Time until every sequence in flight has its next token; None: no closed form knows the placement."""
    shape = view.costs.shape
    if not is_divided(placement, shape.n_layers):
        return round_s(StepTimes(view), PlacementArrays.of(placement, shape), view.sequences)
    shares = ShareArrays.of(placement, shape, devices) if len(devices) <= MAX_DEVICES else None
    return None if shares is None else float(ShareJudge(view, devices, 1).round_s(shares)[0])
