"""Division of distributed-llama 0.1 to 0.5 (github.com/b4rtaz/distributed-llama): rows of all matrices. Pure.

Over 2^n nodes, at most as many as K/V heads, in equal shares. The root, here the source device, holds both ends of the
model and all caches; it alone attends, and it gathers what the nodes compute (`collectives: gather`, in
`placement.compile_gather`). Nothing moves. With `precision.messages: q8_0` a token's messages have the bytes that it
prints.
"""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.equal_shares import check_power_of_two, equal_shares
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.view.cluster_view import ClusterView

SYSTEM = "distributed-llama 0.1"


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide every layer equally over all devices; static, as there."""
    check_power_of_two(view, SYSTEM)
    return equal_shares(view, SYSTEM)
