"""Later decisions: shares that shift, layers that become divided or whole, as far as that pays. Pure.

The search is that of first placements, from the current placement, from the same on other devices, from simple ones and
from those that the run has left; a placement costs its step and the share of it that its migration takes. What it finds
is then judged with the exact time of its migration, and with what devices would refuse.
"""

import numpy as np

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.change_rule import WORTH, Prospect
from edgeemu.policies.search.going_back import earlier_shares
from edgeemu.policies.search.share_moves import other_devices
from edgeemu.policies.search.share_proposals import promising, simple_seeds
from edgeemu.policies.search.share_search import MISSING, ShareJudge, ShareSearch
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_memory import refusing_devices
from edgeemu.policies.view.migration_time import migration_s
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.shares import ShareArrays

WORK = 2e5  # of the search, some hundredths of a second
WORK_TO_CHOOSE = 6e5  # for which as many devices take part as such a search could have
EXACT = 6  # placements of which the migration is computed exactly


def better_shares(view: ClusterView, prospect: Prospect, current: Placement) -> Placement | None:
    """The current placement, or the one whose gain in the steps to come exceeds its migration by most.

    None: nothing is known of the current placement, because it is on more devices than are searched, or the shards of a
    projection are not with their heads; or it no longer fits, and no other was found among so few devices.
    """
    shape = view.costs.shape
    devices = promising(view, [current], WORK_TO_CHOOSE)
    base = ShareArrays.of(current, shape, devices) if set(devices.tolist()).issuperset(current.owner.values()) else None
    if base is None:
        return None
    judge = ShareJudge(prospect.ahead, devices, prospect.steps)
    migrations = ShareMigrations(view, devices, base)
    search = ShareSearch(judge, WORK, migrations, judge.second / prospect.tokens)
    before = float(search.costs(base)[0])
    fits = before < MISSING or view.holds(current)  # the judge counts the bias of shards on too many devices
    limit = before * (1 - WORTH) if fits else before
    seeds = ShareArrays.joined([other_devices(base), simple_seeds(view, devices), *earlier_shares(view, devices)])
    found = search.better_than(limit, base, seeds)
    best, best_net = current, 0.0 if fits else -np.inf
    held = view.usages(current) if found else []
    for cost, shares in found[:EXACT]:
        new = shares.placement(0, shape, devices, current)
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
