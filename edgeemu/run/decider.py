"""When the policy is asked, and what it wanted."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.timeline.steps import Step

REASKED = 32  # turns after which a policy is asked even if nothing has changed beyond the threshold: caches grow
PATIENCE = 3  # decisions in a row for which a policy may be late; then it is not asked again

View = Callable[[Sequence[Step], float], Awaitable[ClusterView]]


class Wanted(NamedTuple):
    """A placement that was decided on, and when that was known."""

    placement: Placement
    at_s: float
