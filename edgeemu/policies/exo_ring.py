"""Ring of exo (github.com/exo-explore/exo, `RingMemoryWeightedPartitioningStrategy`): layers by memory. Pure.

Devices in the order of their memory, the largest first; each has a run of layers in proportion to its memory. The first
has the embedding, the last the output matrix, whose token goes back to the first. [D] Of equal devices the earlier one
of the scenario comes first.
"""

from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.memory_shares import layers_by_memory
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide the layers over all devices by their memory; static, as there."""
    memory = [device.memory_bytes for device in view.devices]
    nodes = sorted(sorted(view.nodes), key=lambda device: -memory[device])
    ends = nodes[0], nodes[-1]
    return layers_by_memory(StageCosts(view), nodes, [memory[node] for node in nodes], ends, "exo's ring")
