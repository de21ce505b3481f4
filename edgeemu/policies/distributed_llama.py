"""Division of distributed-llama 0.7 and later (github.com/b4rtaz/distributed-llama): equal shares in a star. Pure.

Heads and columns are divided as in Megatron, over 2^n nodes, at most as many as K/V heads. The root, here the source
device, computes a share too and holds both ends of the model; workers are joined to it only. Twice a layer every worker
sends its partial sum to the root, and the root sends the sum to every worker (`collectives: star`). With
`precision.messages: q8_0` and `sharding.partials: messages` a token's messages have the bytes that it prints.
"""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.equal_shares import check_power_of_two, equal_shares
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.view.cluster_view import ClusterView

SYSTEM = "distributed-llama"


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide every layer equally over all devices; static, as there."""
    check_power_of_two(view, SYSTEM)
    return equal_shares(view, SYSTEM)
