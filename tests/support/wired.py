"""Small clusters of every topology, for the kernel network."""

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Line, Mesh, Star, Topology
from support.builders import devices

SLOW = Link(10e6, 0.005, 0.001, 0.01)
COMPUTE = Compute(1e9, 1e9, 0.0)


def cluster(
    n: int, kind: str, link: Link = SLOW, nic_bps: float | None = None, shared_channel: bool = False
) -> Cluster:
    topology: Topology
    if kind == "star":
        topology = Star(n, lambda *_: link, on_channel=frozenset(range(n)) if shared_channel else frozenset())
    else:
        topology = {"mesh": Mesh, "line": Line}[kind](n, lambda *_: link)
    return Cluster("c", 0, devices([COMPUTE] * n, nic_bps=nic_bps), topology)
