"""Whether enough has changed since a decision that another one is worth its time. Pure.

Times of steps are sums and maxima of times of operations and messages. So where none of these has changed by more than
a share e, no placement's step has, and a change that did not pay gains about 2 e of a step at most.
"""

import numpy as np

from edgeemu.placement.blocks import Kind
from edgeemu.policies.view.cluster_view import ClusterView, changed_by_more

STILL = 0.01  # as much as a change must gain at least (`search.change_rule.WORTH`)


def is_still(considered: ClusterView, view: ClusterView) -> bool:
    """Whether nothing that is measured has changed by more than `STILL` since a view for which the placement stayed.

    Devices have all the memory that they had, nothing is expected to change, and caches have grown so little that a
    layer's work is nearly the same.
    """
    if considered.outlook or view.outlook:
        return False
    if (view.memory_bytes < considered.memory_bytes).any() or changed_by_more(considered, view, STILL):
        return False
    before, after = (np.array(_layer_work(each)) for each in (considered, view))  # [2] each
    return bool((np.abs(after - before) <= STILL * before).all())


def _layer_work(view: ClusterView) -> tuple[float, float]:
    """Operations and bytes of a layer in the next decode step."""
    costs, n_groups = view.costs.at_step(1, view.past), view.costs.shape.n_groups
    works = [costs.work(kind, n, 1, view.past) for kind, n in ((Kind.HEAD, n_groups), (Kind.PROJ, 1), (Kind.FFN, 1))]
    return sum(work.flops for work in works), sum(work.bytes_read for work in works)
