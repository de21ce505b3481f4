"""The policies by name. One file each, a pure function from what may be known, and what is, to what shall be.

A policy is called at the beginning with no current placement, and then at every decision. It keeps nothing between
calls and looks at no clock. It may raise `InfeasibleError` at the first call, and `NoBetterPlacement` at later ones.
"""

from collections.abc import Callable

from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView

Policy = Callable[[ClusterView, Placement | None], Placement]

POLICIES = {
    "lookahead": "our own: least time for the tokens to come, moves included; whole layers or single heads",
    "resource-aware": "the head-level paper's: blocks by least score, moved where an interval pays for it",
    "exact": "the optimum of each decision by mixed-integer programming; for small clusters",
    "greedy": "every block on the first device, as listed, that has room",
    "round-robin": "blocks in turn, one device after the other, where they fit",
    "static": "what resource-aware places first, and nothing moves after",
    "dynamic-layers": "a chain of whole layers, which move where an interval pays for it",
    "galaxy": "every layer on all devices at once: heads and columns in shares by speed, joined in rings",
    "layers": "whole layers in a chain, each device a run of them by its speed",
    "mdi": "MDI-LLM's ring: the ends of the model on the source device, a run of whole layers on every node",
    "edgeshard-latency": "EdgeShard's partition for one sequence: devices and whole layers with the least latency",
    "edgeshard-throughput": "EdgeShard's partition for many sequences: the pipeline whose slowest stage is fastest",
    "edge-solo": "EdgeShard's baseline: the whole model on the source device",
    "cloud-edge-even": "EdgeShard's baseline: half of the layers on the source device, half on the fastest other",
    "cloud-edge-opt": "EdgeShard's baseline: the best cut between the source device and the fastest other",
    "single": "the whole model on the one device that runs it fastest",
}

# Not asked again while every device keeps its memory: they would answer what is there already.
STEADY = frozenset(
    {
        *("static", "galaxy", "layers", "single", "mdi", "edgeshard-latency", "edgeshard-throughput"),
        *("edge-solo", "cloud-edge-even", "cloud-edge-opt"),
    }
)


def policy(name: str) -> Policy:
    """The policy of that name: built in, `path.py:Name`, or of an installed package (`loading.py`).

    Raises:
        RequestError: there is none, with the nearest name, or it cannot be loaded.
    """
    from edgeemu.policies.loading import load

    return load(name, POLICIES)
