"""Later decisions: shares that shift, layers that become divided or whole, as far as that pays. Pure.

The search is that of first placements, from the current placement, from the same on other devices, from simple ones and
from those that the run has left; a placement costs its step and the share of it that its migration takes. What it finds
is then judged with the exact time of its migration, and with what devices would refuse.
"""

from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.placement import Placement
from edgeemu.policies.compiled.share_code import NeedsCode, pays
from edgeemu.policies.search.change_rule import WORTH, Prospect
from edgeemu.policies.search.going_back import earlier_shares
from edgeemu.policies.search.share_moves import other_devices
from edgeemu.policies.search.share_proposals import promising, simple_seeds
from edgeemu.policies.search.share_search import MISSING, ShareJudge, ShareSearch, Vicinity
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import FindsNeeds, ShareNeeds
from edgeemu.policies.view.shares import ShareArrays

WORK = 1.2e5  # of the search, some milliseconds
WORK_TO_CHOOSE = 6e5  # for which as many devices take part as such a search could have
EXACT = 6  # placements of which the migration is computed exactly


class Known(NamedTuple):
    """The current placement as a decision knows it, whatever is expected of the steps to come."""

    devices: IntArray  # [n] that take part
    base: ShareArrays  # the current placement
    needs: FindsNeeds
    near: Vicinity

    @classmethod
    def of(cls, view: ClusterView, current: Placement) -> Self | None:
        """None: it is on more devices than are searched, or the shards of a projection are not with their heads."""
        shape = view.costs.shape
        devices = promising(view, [current], WORK_TO_CHOOSE)
        if not set(devices.tolist()).issuperset(current.owner.values()):
            return None
        base = ShareArrays.of(current, shape, devices)
        if base is None:
            return None
        others = ShareArrays.joined([other_devices(base), simple_seeds(view, devices), *earlier_shares(view, devices)])
        needs = (NeedsCode if pays(view) else ShareNeeds)(
            ShareMemory(view, devices), ShareMigrations(view, devices, base)
        )
        return cls(devices, base, needs, Vicinity.of(view, base, others, needs))


def better_shares(view: ClusterView, prospect: Prospect, current: Placement, known: Known) -> Placement | None:
    """The current placement, or the one whose gain in the steps to come exceeds its migration by most.

    None: it no longer fits, and no other was found among so few devices.
    """
    shape = view.costs.shape
    judge = ShareJudge(prospect.ahead, known.devices, prospect.steps)
    search = ShareSearch(judge, WORK, known.needs, judge.second / prospect.tokens)
    before = float(judge.costs(known.base)[0])
    fits = before < MISSING or view.holds(current)  # the judge counts the bias of shards on too many devices
    found = search.better_than(before * (1 - WORTH) if fits else before, known.near)
    best, best_net = current, 0.0 if fits else -np.inf
    held = view.usages(current) if found else []
    for cost, shares in found[:EXACT]:
        new = shares.placement(0, shape, known.devices, current)
        if cost >= MISSING or (view.refused is not None and view.refused.placement.owner == new.owner):
            continue
        gain = before - float(judge.costs(shares)[0])
        net = prospect.tokens * gain - migration_s(view, current, new) * judge.second
        pays = net > best_net and (not fits or gain > WORTH * before)
        if pays and not refusing_devices(view, current, new, held):
            best, best_net = new, net
    if best is current and not fits:
        return None
    return best


def is_slower(view: ClusterView, new: Placement, old: Placement) -> bool:
    """Whether the next step of a placement takes longer than that of another, as far as the closed form knows both."""
    devices = np.array(sorted({*new.owner.values(), *old.owner.values()}))
    judge = ShareJudge(view, devices, 1)
    costs = [
        float(judge.costs(shares)[0])
        for placement in (new, old)
        if (shares := ShareArrays.of(placement, view.costs.shape, devices)) is not None
    ]
    return len(costs) == 2 and costs[0] > costs[1] * (1 + 1e-9)
