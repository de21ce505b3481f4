"""Tensor parallelism of exo (github.com/exo-explore/exo): equal shares on all devices, partial sums added by all. Pure.

As many devices as divide the K/V heads. [D] There every device has both ends of the model and computes the output
matrix; here they are on the source device, which sends x of the embedding to the others.
"""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.equal_shares import equal_shares
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide every layer equally over all devices; static, as there."""
    return equal_shares(view, "exo's tensor parallelism")
