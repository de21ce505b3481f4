"""What the kernel is asked for to be a cluster's network: interfaces, cables, queues. Pure data; knows no netlink.

Every device has a network namespace of its own. In a mesh and in a star they are joined by a bridge, in a line by
cables from neighbour to neighbour, and whoever is between forwards. A queue shapes what leaves an interface: its rate,
and, where the kernel is to do that too (`delays`), what netem does below it. Values are those of emulated time.
"""

from ipaddress import IPv4Address, summarize_address_range
from typing import Literal

import msgspec

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.cluster.links import Link
from edgeemu.cluster.variation import LinkVariation, share_at

DATA_PORT = 5555  # of every device, in its own namespace
MAX_DEVICES = 250  # [D] a mesh has as many queues as pairs
MIN_BPS = 10e3  # [D] slower, a single packet takes more than a second, and TCP gives up
MTU = 1500

_NETWORK = IPv4Address("10.101.0.0")
PREFIX = 16
FIRST_PORT = 10  # interface numbers in the bridge's namespace; below are the bridge and the air
BRIDGE, AIR = 2, 3
LEFT, RIGHT = 2, 3  # interface numbers in a device's namespace: of its only port, or of those in a line


class Queue(msgspec.Struct, frozen=True):
    """What leaves an interface, for one device (`target`) or for all (None). No bandwidth: as fast as it goes."""

    what: str  # in words, for errors
    target: int | None
    bandwidth_bps: float | None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    varies: LinkVariation | None = None

    def rate_at(self, t_s: float) -> float | None:
        """Bits per second at an instant."""
        if self.bandwidth_bps is None or self.varies is None:
            return self.bandwidth_bps
        return max(self.bandwidth_bps * share_at(self.varies.rate, t_s), 8.0)

    def delay_at(self, t_s: float) -> float:
        return self.delay_s if self.varies is None else self.varies.delay_at(t_s, self.delay_s)

    def until_s(self, t_s: float) -> float:
        """Until when it stays as it is at an instant."""
        varies = self.varies or LinkVariation()
        parts = (varies.rate, varies.delay_s, varies.added_delay_s)
        return min((part.piece(t_s)[1] for part in parts if part is not None), default=float("inf"))


class Interface(msgspec.Struct, frozen=True):
    """One end of a cable. `device` None: in the bridge's namespace."""

    device: int | None
    ifindex: int
    name: str
    mac: str
    queues: tuple[Queue, ...] = ()
    nic_bps: float | None = None  # what all its queues may send together
    on_the_air: bool = False  # what passes it, either way, takes the shared air's time


class Cable(msgspec.Struct, frozen=True):
    near: Interface
    far: Interface


class NetworkLayout(msgspec.Struct, frozen=True):
    """All of it. `air` is the queue of those that share the access point's airtime."""

    devices: tuple[str, ...]
    topology: Literal["bridge", "line"]
    cables: tuple[Cable, ...]
    air: Queue | None
    delays: bool  # whether netem does delay, jitter and loss; else they are stamped

    def address(self, device: int) -> str:
        """The device's IPv4 address, the same on all its interfaces."""
        return str(_NETWORK + device + 1)

    def interfaces(self) -> list[Interface]:
        return [end for cable in self.cables for end in (cable.near, cable.far)]

    def routes(self, device: int) -> list[tuple[int, str, int, int]]:
        """In a line, for a device: interface, network, prefix, and the neighbour to send it to."""
        last = len(self.devices) - 1
        sides = [(LEFT, 0, device - 1, device - 1), (RIGHT, device + 1, last, device + 1)]
        return [
            (ifindex, str(network.network_address), network.prefixlen, neighbour)
            for ifindex, first, end, neighbour in sides
            if first <= end
            for network in summarize_address_range(_NETWORK + first + 1, _NETWORK + end + 1)
        ]


def mac(device: int, ifindex: int) -> str:
    """Locally administered, and the same in every run."""
    return f"02:ed:{ifindex:02x}:00:{device >> 8:02x}:{device & 255:02x}"


def network_layout(cluster: Cluster, *, delays: bool) -> NetworkLayout:
    """What the kernel is asked for. `delays`: all of it (`kernel`), or the rates only (`hybrid`)."""
    names = tuple(device.name for device in cluster.devices)
    kind = _topology(cluster)
    if kind == "line":
        return NetworkLayout(names, "line", _line_cables(cluster), None, delays)
    ports = _mesh_ports if kind == "mesh" else _star_ports
    return NetworkLayout(
        names, "bridge", tuple(ports(cluster, device) for device in cluster.devices), _air(cluster), delays
    )


def unsupported(cluster: Cluster) -> list[str]:
    """What the kernel's queues cannot be of a cluster, each in words for whoever wrote the scenario."""
    n_devices = len(cluster.devices)
    if n_devices > MAX_DEVICES:
        return [f"{n_devices} devices are more than the {MAX_DEVICES} that kernel links are made for"]
    kind = _topology(cluster)
    reasons = []
    slowest_bps = min((link.bandwidth_bps for link in _links(cluster)), default=MIN_BPS)
    if slowest_bps < MIN_BPS:
        reasons.append(f"a link of {slowest_bps:g} bit/s is slower than kernel links can be ({MIN_BPS:g} bit/s)")
    if kind == "star" and len(_airs(cluster)) > 1:
        reasons.append(
            "devices that share the air have links of different or separately varying bandwidth, and the kernel's "
            "queues share out bytes, not airtime"
        )
    if kind == "line":
        reasons += [
            f"{device.name} relays between two neighbours whose links are together faster than its network interface, "
            "and a queue of the kernel is of one cable"
            for device in cluster.devices
            if _is_crowded(cluster, device)
        ]
    return reasons


def _topology(cluster: Cluster) -> Literal["mesh", "star", "line"]:
    last = len(cluster.devices) - 1
    if not last:
        return "mesh"
    legs = cluster.legs(0, last)
    if legs[0].target is None:
        return "star"
    return "line" if len(legs) > 1 else "mesh"


def _queue(what: str, target: int | None, link: Link) -> Queue:
    rate_and_delay = link.bandwidth_bps, link.delay_s, link.jitter_s
    return Queue(what, target, *rate_and_delay, link.loss, link.reorder, link.duplicate, varies=link.varies)


def _mesh_ports(cluster: Cluster, device: Device) -> Cable:
    """The device's port has a queue for each other device; the bridge's port has one for what the NIC may take in."""
    i = device.index
    others = [other for other in cluster.devices if other.index != i]
    queues = tuple(
        _queue(f"{device.name} -> {other.name}", other.index, cluster.legs(i, other.index)[0].link) for other in others
    )
    taken_in = () if device.nic_bps is None else (Queue(f"what comes to {device.name}", None, device.nic_bps),)
    return Cable(
        Interface(None, FIRST_PORT + i, f"port{i}", mac(i, 0), taken_in),
        Interface(i, LEFT, "eth0", mac(i, LEFT), queues, device.nic_bps),
    )


def _star_ports(cluster: Cluster, device: Device) -> Cable:
    """One queue up and one down. On the air they have no rate of their own: they meet in that of the air."""
    i = device.index
    up, down = _up_down(cluster, i)
    air = _on_the_air(cluster, i)
    queue_up = _queue(f"{device.name} -> access point", None, up)
    queue_down = _queue(f"access point -> {device.name}", None, down)
    if air:
        queue_up, queue_down = (msgspec.structs.replace(queue, bandwidth_bps=None) for queue in (queue_up, queue_down))
    return Cable(
        Interface(None, FIRST_PORT + i, f"port{i}", mac(i, 0), (queue_down,), device.nic_bps, air),
        Interface(i, LEFT, "eth0", mac(i, LEFT), (queue_up,), device.nic_bps),
    )


def _line_cables(cluster: Cluster) -> tuple[Cable, ...]:
    def end(i: int, j: int) -> Interface:
        ifindex = RIGHT if j > i else LEFT
        nics = [nic for nic in (cluster.devices[i].nic_bps, cluster.devices[j].nic_bps) if nic is not None]
        queue = _queue(f"{cluster.devices[i].name} -> {cluster.devices[j].name}", None, cluster.legs(i, j)[0].link)
        name = "right" if j > i else "left"
        return Interface(i, ifindex, name, mac(i, ifindex), (queue,), min(nics, default=None))

    return tuple(Cable(end(i, i + 1), end(i + 1, i)) for i in range(len(cluster.devices) - 1))


def _air(cluster: Cluster) -> Queue | None:
    airs = _airs(cluster)
    return Queue("the shared air", None, airs[0].bandwidth_bps, varies=airs[0].varies) if airs else None


def _airs(cluster: Cluster) -> list[Link]:
    """The different rates that there are on the air, each as a link that has nothing else."""
    if _topology(cluster) != "star":
        return []
    links = [
        link
        for device in cluster.devices
        if _on_the_air(cluster, device.index)
        for link in _up_down(cluster, device.index)
    ]
    found: list[Link] = []
    for link in links:
        rate = None if link.varies is None else link.varies.rate
        only_rate = Link(link.bandwidth_bps, 0.0, varies=None if rate is None else LinkVariation(rate))
        if only_rate not in found:
            found.append(only_rate)
    return found


def _up_down(cluster: Cluster, device: int) -> tuple[Link, Link]:
    other = 0 if device else 1
    return cluster.legs(device, other)[0].link, cluster.legs(other, device)[1].link


def _on_the_air(cluster: Cluster, device: int) -> bool:
    """Whether a device of a star sends and receives through one pipe."""
    other = 0 if device else 1
    return cluster.legs(device, other)[0].pipe == cluster.legs(other, device)[1].pipe


def _links(cluster: Cluster) -> list[Link]:
    """Every direct link once, or more often."""
    everyone = range(len(cluster.devices))
    if _topology(cluster) == "mesh":
        return [cluster.legs(i, j)[0].link for i in everyone for j in everyone if i != j]
    ways = [(i, i + 1) for i in everyone[:-1]] + [(i + 1, i) for i in everyone[:-1]]
    return [leg.link for way in ways for leg in cluster.legs(*way)]


def _is_crowded(cluster: Cluster, device: Device) -> bool:
    """Whether its network interface is less than its two links in a line, either way."""
    if device.nic_bps is None:
        return False
    neighbours = [j for j in (device.index - 1, device.index + 1) if 0 <= j < len(cluster.devices)]
    out = [cluster.legs(device.index, j)[0].link.bandwidth_bps for j in neighbours]
    back = [cluster.legs(j, device.index)[0].link.bandwidth_bps for j in neighbours]
    return len(neighbours) > 1 and max(sum(out), sum(back)) > device.nic_bps
