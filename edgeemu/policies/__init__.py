"""Where blocks should go: policies, pure functions (view, current placement) -> placement. One file each.

This folder knows what a policy may know (`view/`), the search algorithms that policies share (`search/`), closed forms
as machine code (`compiled/`), the built-in policies by name, and how others are loaded. It may import `timeline`,
`placement`, `cluster` and the modules beside the folders; no scenario, no input or output, no clock. Policy authors
import `api`, and `kit` for their tests.

A policy is called at the beginning with no current placement, and then at every decision. It keeps no state between
calls. It can raise `InfeasibleError` at the first call, and `NoBetterPlacement` at later ones.
"""

from collections.abc import Callable

from edgeemu.placement.compile import CollectiveAlgorithm
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView

Policy = Callable[[ClusterView, Placement | None], Placement]

POLICIES = {
    "lookahead": "our own: the least time for the remaining tokens, moves included; layers whole or divided",
    "resource-aware": "the head-level paper's: each block where its score is least; moves that pay within an interval",
    "exact": "the optimum of each decision among placements of whole blocks, proven; for small clusters",
    "greedy": "every block on the first device, in the scenario's order, that has room",
    "round-robin": "blocks on the devices in turn, where they fit",
    "static": "as resource-aware places first; nothing moves afterwards",
    "given": "the placement that the scenario writes (placement:); nothing moves",
    "dynamic-layers": "a chain of complete layers, which move where that pays within an interval",
    "galaxy": "every layer on all devices at once: heads and columns in shares by speed, combined in rings",
    "layers": "complete layers in a chain, on each device a run of them by its speed",
    "mdi": "MDI-LLM's ring: both ends of the model on the source device, a run of complete layers on every node",
    "edgeshard-latency": "EdgeShard's partition for one sequence: devices and complete layers with the least latency",
    "edgeshard-throughput": "EdgeShard's partition for many sequences: the pipeline whose slowest stage is fastest",
    "edge-solo": "EdgeShard's baseline: the complete model on the source device",
    "cloud-edge-even": "EdgeShard's baseline: half of the layers on the source device, half on the fastest other",
    "cloud-edge-opt": "EdgeShard's baseline: the best cut between the source device and the fastest other",
    "single": "the complete model on the one device that runs it fastest",
    "distributed-llama": "distributed-llama 0.7 and later: heads and columns in equal shares on 2^n nodes, in a star",
    "distributed-llama-0.1": "distributed-llama 0.1 to 0.5: rows of all matrices in equal shares; the root attends",
    "llama.cpp-rpc": "llama.cpp over RPC: layers in a chain, in shares by memory; the source device relays",
    "exo-ring": "exo's ring: layers in shares by memory, the largest device first",
    "exo-tensor": "exo's tensor parallelism: heads and columns in equal shares on all devices",
}

# Policies that are published systems, whose devices combine their results in one way.
COLLECTIVES: dict[str, CollectiveAlgorithm] = {
    "distributed-llama": "star",
    "distributed-llama-0.1": "gather",
    "llama.cpp-rpc": "relay",
    "exo-tensor": "ring",
}

# They answer only where the number of devices suits the model: `compare --policies all` goes on without them.
PARTICULAR = frozenset({"distributed-llama", "distributed-llama-0.1", "exo-tensor"})

# Not called again while every device keeps its memory: they would return the current placement.
STEADY = frozenset(
    {
        *("static", "given", "galaxy", "layers", "single", "mdi", "edgeshard-latency", "edgeshard-throughput"),
        *("edge-solo", "cloud-edge-even", "cloud-edge-opt"),
        *("distributed-llama", "distributed-llama-0.1", "llama.cpp-rpc", "exo-ring", "exo-tensor"),
    }
)


def policy(name: str) -> Policy:
    """Load a policy by name: built in, `path.py:Name`, or of an installed package (`loading.py`).

    Raises:
        RequestError: there is no such policy (with the nearest name), or it cannot be loaded.
    """
    from edgeemu.policies.loading import load

    return load(name, POLICIES)


def prepare(name: str, view: ClusterView) -> None:
    """Make what a built-in policy needs for any decision on a cluster, outside of its time (`loading.py`)."""
    from edgeemu.policies.loading import prepare as prepare_built_in

    prepare_built_in(name, POLICIES, view)
