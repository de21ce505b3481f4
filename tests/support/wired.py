"""Small clusters of every topology, for the kernel network."""

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import line, mesh, star
from support.builders import devices

SLOW = Link(10e6, 0.005, 0.001, 0.01)
COMPUTE = Compute(1e9, 1e9, 0.0)


def cluster(n: int, kind: str, link: Link = SLOW, nic_bps: float | None = None, air: bool = False) -> Cluster:
    wires = {
        "mesh": lambda: mesh(n, lambda *_: link),
        "line": lambda: line(n, lambda *_: link),
        "star": lambda: star(n, lambda _: link, lambda _: link, frozenset(range(n)) if air else frozenset()),
    }[kind]()
    return Cluster("c", 0, devices([COMPUTE] * n, nic_bps=nic_bps), *wires)
