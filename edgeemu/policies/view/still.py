"""Whether enough has changed since a decision that another one is worth its time. Pure.

Times of steps are sums and maxima of times of operations and messages. So where none of these has changed by more than
a share e, no placement's step has, and a change that did not pay gains about 2 e of a step at most.
"""

from math import expm1

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import largest_log_change

STILL = 0.01  # as much as a change must gain at least (`search.change_rule.WORTH`)


def is_still(considered: ClusterView, view: ClusterView) -> bool:
    """Whether nothing that is measured has changed by more than `STILL` since a view for which the placement stayed.

    Devices have all the memory that they had, nothing is expected to change, and caches have grown so little that a
    layer's work is nearly the same.
    """
    if considered.outlook or view.outlook:
        return False
    before, now = considered.memory_bytes, view.memory_bytes
    if (now is not before and (now < before).any()) or changed_by_more(considered, view, STILL):
        return False
    works = zip(_layer_work(considered), _layer_work(view), strict=True)
    return all(abs(after - before) <= STILL * before for before, after in works)


def _layer_work(view: ClusterView) -> tuple[float, float]:
    """Operations and bytes of a layer in the next decode step."""
    costs, n_groups = view.costs.at_step(1, view.past), view.costs.shape.n_groups
    works = [costs.work(kind, n, 1, view.past) for kind, n in ((Kind.HEAD, n_groups), (Kind.PROJ, 1), (Kind.FFN, 1))]
    return sum(work.flops for work in works), sum(work.bytes_read for work in works)


def changed_by_more(before: ClusterView, after: ClusterView, share: float) -> bool:
    """Whether any device's speed or memory, or an observed link's delay or rate, has changed by more than a share."""
    if _differ(before.flops_per_s, after.flops_per_s, share):
        return True
    if _differ(before.mem_bytes_per_s, after.mem_bytes_per_s, share):
        return True
    old, new = before.memory_bytes, after.memory_bytes
    if new is not old and _differ(np.maximum(old, 1), np.maximum(new, 1), share):
        return True
    return expm1(largest_log_change(before.observed, after.observed)) > share


def _differ(before: FloatArray | IntArray, after: FloatArray | IntArray, share: float) -> bool:
    """Whether any number has changed by more than a share."""
    return expm1(float(np.abs(np.log(after / before)).max())) > share
