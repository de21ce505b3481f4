"""Measures kernel links on this kernel: rates with real TCP, and what setting them up and tearing them down takes.

    python tools/bench/links.py [--json]

Status 1 on a miss. Beside it, tools/bench/mininet.py measures the same set-up with Mininet. Delays need netem, and are
tested (make test-netem). Figures of time depend on the host and on what else it does: run it on a quiet machine.
"""

import sys
import time
from statistics import median

from link_hosts import Hosts
from measure import Figure, report

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute, Device
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Mesh, Star, Topology
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.links.netns.layout import NetworkLayout, network_layout
from edgeemu.links.netns.network import KernelNetwork

PAYLOAD_BYTES, HEADER_BYTES = 1448, 66  # of a frame: TCP's payload, and Ethernet, IPv4 and TCP with timestamps
LENGTH_BYTES = 8  # that `Hosts.transfers` puts before each message
DEVICES = 25
SETUPS = 7


def wired(n_devices: int, topology: Topology) -> NetworkLayout:
    compute = Compute(1e9, 1e9, 0.0)
    devices = tuple(Device(i, f"d{i}", None, compute, None, 0.0, 2**30, None) for i in range(n_devices))
    return network_layout(Cluster("bench", 0, devices, topology), delays=False)


def ideal_s(size_bytes: int, bandwidth_bps: float) -> float:
    """One message on the link alone, with its headers."""
    size_bytes += LENGTH_BYTES
    return 8 * (size_bytes + HEADER_BYTES * -(-size_bytes // PAYLOAD_BYTES)) / bandwidth_bps


def rate(what: str, size_bytes: int, messages: int, bandwidth_bps: float, limit: float) -> Figure:
    """How far the median message is off what the link's rate says."""
    link = Link(bandwidth_bps, 0.0)
    with Hosts(wired(2, Mesh(2, lambda *_: link))) as hosts:
        hosts.shape()
        hosts.transfers(0, 1, size_bytes, 1)
        measured_s = median(hosts.transfers(0, 1, size_bytes, messages, gap_s=0.02))
    should_s = ideal_s(size_bytes, bandwidth_bps)
    text = f"{what} at {bandwidth_bps / 1e6:g} Mbit/s: {1e3 * measured_s:.2f} ms off {1e3 * should_s:.2f} ms"
    return Figure(text, 100 * abs(measured_s / should_s - 1), limit, "%")


def setup(topology: Topology) -> list[Figure]:
    """From nothing to shaped links that have been read back, processes and namespaces included; and back to nothing."""
    plan = wired(DEVICES, topology)
    up_s, down_s = [], []
    for _ in range(SETUPS):
        began_s = time.monotonic()
        hosts = Hosts(plan)
        hosts.shape()
        up_s.append(time.monotonic() - began_s)
        began_s = time.monotonic()
        hosts.on_network(KernelNetwork.close)
        hosts.close()
        down_s.append(time.monotonic() - began_s)
    queues = sum(len(end.queues) for end in plan.interfaces())
    return [
        Figure(f"{topology.kind}: {DEVICES} namespaces, {queues} shaped queues: set-up", median(up_s), 1.0, "s"),
        Figure(f"{topology.kind}: {DEVICES} namespaces, {queues} shaped queues: tear-down", median(down_s), 0.6, "s"),
    ]


def figures() -> list[Figure]:
    link = Link(100e6, 0.0)
    return [
        *(rate("bulk", round(0.05 * bps / 8), 9, bps, 8.0) for bps in (10e6, 100e6, 1e9)),
        *(rate("1 s of bulk", round(bps / 8), 3, bps, 8.0) for bps in (10e6, 100e6, 1e9)),
        *(rate("16 KiB", 1 << 14, 31, bps, 20.0) for bps in (10e6, 100e6)),
        *setup(Star(DEVICES, lambda *_: link)),
        *setup(Mesh(DEVICES, lambda *_: link)),
    ]


def main() -> None:
    if why_not := probe_host().why_not("hybrid"):
        print(f"kernel links cannot be measured here: {why_not}", file=sys.stderr)
        found = []
    else:
        found = figures()
    sys.exit(report(found, "--json" in sys.argv[1:]))


if __name__ == "__main__":
    main()
