"""Division of llama.cpp over RPC (github.com/ggml-org/llama.cpp): layers in a chain, by memory, client first. Pure.

The client, here the source device, holds both ends of the model, and layers in proportion to the memory that these
leave; the servers follow in the order of the scenario. Servers know only the client, which relays: x goes from one
server to it and from it to the next (`collectives: relay`).
"""

from edgeemu.placement.blocks import EMBED, LM_HEAD
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.keep_current import planned_once
from edgeemu.policies.search.memory_shares import layers_by_memory
from edgeemu.policies.search.pipeline_stages import StageCosts
from edgeemu.policies.view.cluster_view import ClusterView


@planned_once
def place(view: ClusterView) -> Placement:
    """Divide the layers over all devices by their free memory; static, as there."""
    client = view.nodes[0]
    nodes = [client, *sorted(view.nodes[1:])]
    usage = view.empty_usage()
    usage.add(EMBED)
    usage.add(LM_HEAD)
    ends_bytes = usage.page().total_bytes
    memory = [max(0, view.devices[node].memory_bytes - (node == client) * ends_bytes) for node in nodes]
    return layers_by_memory(StageCosts(view), nodes, memory, (client, client), "llama.cpp over RPC", round_up=True)
