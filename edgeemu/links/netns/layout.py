"""The layout of the kernel's network: namespaces, veth pairs, queues, routes. Pure data, made from a cluster.

Every device has a network namespace of its own. Where the topology has a switch in the middle, that is a bridge in a
namespace of its own; else veth pairs lead from device to device, and the devices between source and target forward. A
queue shapes what leaves an interface: its rate, and, where the kernel does that too (`delays`), delay, jitter and loss
by netem. Values are those of emulated time.
"""

from collections import Counter
from ipaddress import IPv4Address, summarize_address_range
from itertools import groupby

import msgspec

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.link_variation import OUTAGE_BPS, LinkVariation
from edgeemu.cluster.links import Link, LinkEnds
from edgeemu.cluster.variation import product, share_at, value, without_faults
from edgeemu.topologies import End

DATA_PORT = 5555  # of every device, in its own namespace
MAX_DEVICES = 250  # [D] a mesh has as many queues as pairs
MIN_BPS = 10e3  # [D] slower, a single packet takes more than a second, and TCP gives up
MTU = 1500

_NETWORK = IPv4Address("10.101.0.0")
PREFIX = 16
BRIDGE, CHANNEL = 2, 3  # interface numbers in the bridge's namespace: of the bridge, of the shared wireless channel
FIRST_PORT = 10  # and of the first device's port
FIRST_INTERFACE = 2  # interface number in a device's namespace; 1 is the loopback


class Queue(msgspec.Struct, frozen=True):
    """The shaping of packets that leave an interface, for one device (`target`) or for all (None)."""

    what: str  # in words, for errors
    target: int | None
    bandwidth_bps: float | None  # None: as fast as the host can
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
        rate_bps = self.bandwidth_bps * share_at(without_faults(self.varies.rate), t_s)
        return max(rate_bps, min(OUTAGE_BPS, self.bandwidth_bps))  # slower, a packet's debt would outlast an outage

    def delay_at(self, t_s: float) -> float:
        """Seconds of delay at an instant."""
        return self.delay_s if self.varies is None else self.varies.delay_at(t_s, self.delay_s)

    def loss_at(self, t_s: float) -> float:
        """The share of packets that are lost at an instant, of those that a fault lets pass."""
        arriving = 1.0 if self.varies is None else value(self.varies.arriving, t_s)
        return 1.0 - (1.0 - self.loss) * arriving if arriving < 1.0 else self.loss

    def is_down_at(self, t_s: float) -> bool:
        """Whether a fault lets nothing pass at an instant."""
        return self.varies is not None and self.varies.is_down_at(t_s)

    def until_s(self, t_s: float) -> float:
        """The first instant after `t_s` at which a value changes."""
        varies = self.varies or LinkVariation()
        parts = (varies.rate, varies.delay_s, varies.added_delay_s, varies.arriving)
        return min((part.piece(t_s)[1] for part in parts if part is not None), default=float("inf"))


class Interface(msgspec.Struct, frozen=True):
    """One end of a veth pair. `device` None: a port of the bridge, in its namespace."""

    device: int | None
    ifindex: int
    name: str
    mac: str
    queues: tuple[Queue, ...] = ()
    nic_bps: float | None = None  # the rate of all its queues together
    on_shared_channel: bool = False  # of a port: its packets, in both directions, pass the shared channel's queue


class VethPair(msgspec.Struct, frozen=True):
    """Two interfaces that are joined: a device and the bridge, or two devices."""

    near: Interface
    far: Interface


class Route(msgspec.Struct, frozen=True):
    """An entry of a device's routing table: the network behind a neighbour."""

    ifindex: int
    network: str
    prefix: int
    gateway: str  # the neighbour's address
    mac: str  # the neighbour's interface


class NetworkLayout(msgspec.Struct, frozen=True):
    """The complete network. `shared_channel` is the queue of devices that share the access point's wireless channel."""

    devices: tuple[str, ...]
    bridged: bool  # or else devices forward, by `routes`
    veths: tuple[VethPair, ...]
    shared_channel: Queue | None
    delays: bool  # whether netem does delay, jitter and loss; else messages are stamped with them
    routes: tuple[tuple[Route, ...], ...] = ()  # by device

    def address(self, device: int) -> str:
        """The device's IPv4 address, one for all its interfaces."""
        return _address(device)

    def interfaces(self) -> list[Interface]:
        return [end for veth in self.veths for end in (veth.near, veth.far)]


def network_layout(cluster: Cluster, *, delays: bool) -> NetworkLayout:
    """The layout of a cluster. `delays`: with netem (backend `kernel`), or the rates only (`hybrid`)."""
    names = tuple(device.name for device in cluster.devices)
    pairs = cluster.topology.veths() or [(None, device.index) for device in cluster.devices]  # one alone has an address
    bridged = any(None in pair for pair in pairs)
    rates, interfaces = _channel_rates(cluster), _Interfaces(cluster)
    veths = tuple(VethPair(interfaces.make(a, b), interfaces.make(b, a)) for a, b in pairs)
    channel = None
    if rates:
        channel = Queue("the shared wireless channel", None, rates[0].bandwidth_bps, varies=rates[0].varies)
    routes = () if bridged else tuple(_routes(cluster, veths, device) for device in range(len(names)))
    return NetworkLayout(names, bridged, veths, channel, delays, routes)


def unsupported(cluster: Cluster) -> list[str]:
    """Properties of a cluster that the kernel's queues cannot have, in words for the author of the scenario."""
    n_devices = len(cluster.devices)
    if n_devices > MAX_DEVICES:
        return [f"{n_devices} devices are more than the {MAX_DEVICES} that kernel links are made for"]
    reasons = []
    slowest_bps = min((link.bandwidth_bps for link in cluster.links()), default=MIN_BPS)
    if slowest_bps < MIN_BPS:
        reasons.append(f"a link of {slowest_bps:g} bit/s is slower than kernel links can be ({MIN_BPS:g} bit/s)")
    if len(_channel_rates(cluster)) > 1:
        reasons.append(
            "devices that share a wireless channel have links of different or separately varying bandwidth, and the "
            "kernel's queues share out bytes, not airtime"
        )
    reasons += [
        f"{device.name} relays between neighbours whose links are together faster than its network interface, and a "
        "queue of the kernel belongs to one veth"
        for device in cluster.devices
        if _is_crowded(cluster, device.index)
    ]
    return reasons


class _Interfaces:
    """Makes the interfaces of a cluster, numbered in each namespace in the order of making."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._shared_pipes = _shared_pipes(cluster)
        self._made: Counter[End] = Counter()

    def make(self, at: End, towards: End) -> Interface:
        """The end of a veth pair at a device, or at the bridge (None)."""
        n = self._made[at]
        self._made[at] += 1
        if at is None:
            assert towards is not None
            ifindex, name, mac = FIRST_PORT + n, f"port{towards}", _mac(towards, 0)
        else:
            ifindex, name, mac = FIRST_INTERFACE + n, f"eth{n}", _mac(at, FIRST_INTERFACE + n)
        links = _leaving(self._cluster, at, towards)
        shared = any(self._cluster.topology.pipe(*ends) in self._shared_pipes for ends in links)
        queues = tuple(self._queue(ends, towards, shared) for ends in links)
        rates = (None if end is None else self._cluster.devices[end].nic_bps for end in (at, towards))
        nic_bps = min((rate for rate in rates if rate is not None), default=None)
        if towards is not None and not queues and nic_bps is not None:  # a port without links: the limit is its queue
            queues, nic_bps = (Queue(f"packets to {self._cluster.devices[towards].name}", None, nic_bps),), None
        return Interface(at, ifindex, name, mac, queues, nic_bps, on_shared_channel=shared and at is None)

    def _queue(self, ends: LinkEnds, towards: End, shared: bool) -> Queue:
        """The queue of a link. On a shared channel it has no rate of its own: the channel's queue limits all."""
        link, (source, target) = self._cluster.link(*ends), ends
        source_name, target_name = (
            "access point" if end is None else self._cluster.devices[end].name for end in (source, target)
        )
        return Queue(
            f"{source_name} -> {target_name}",
            None if target == towards else target,  # behind the bridge: chosen by destination
            None if shared else link.bandwidth_bps,
            link.delay_s,
            link.jitter_s,
            link.loss,
            link.reorder,
            link.duplicate,
            link.varies and link.varies.averaged(),  # a queue has a rate
        )


def _leaving(cluster: Cluster, at: End, towards: End) -> list[LinkEnds]:
    """The links whose packets leave one end of a veth pair towards the other."""
    joined = cluster.topology.joined
    if joined(at, towards):
        return [(at, towards)]
    # The switch of a mesh is the end of no link: a device's links to all others leave towards it, none leaves it
    return [(at, other) for other in range(len(cluster.devices)) if at is not None and joined(at, other)]


def _routes(cluster: Cluster, veths: tuple[VethPair, ...], device: int) -> tuple[Route, ...]:
    """How a device reaches all others over its neighbours, in as few networks as their numbers allow."""
    neighbours = {
        there.device: (here, there)
        for veth in veths
        for here, there in ((veth.near, veth.far), (veth.far, veth.near))
        if here.device == device
    }
    others = [other for other in range(len(cluster.devices)) if other != device]
    found = []
    for (neighbour, _), run in groupby(
        others, key=lambda other: (cluster.topology.route(device, other)[1], other > device)
    ):
        here, there = neighbours[neighbour]
        behind = list(run)
        assert there.device is not None
        for network in summarize_address_range(_NETWORK + behind[0] + 1, _NETWORK + behind[-1] + 1):
            gateway = _address(there.device)
            found.append(Route(here.ifindex, str(network.network_address), network.prefixlen, gateway, there.mac))
    return tuple(found)


def _address(device: int) -> str:
    return str(_NETWORK + device + 1)


def _mac(device: int, ifindex: int) -> str:
    """A locally administered address, equal in every run."""
    return f"02:ed:{ifindex:02x}:00:{device >> 8:02x}:{device & 255:02x}"


def _shared_pipes(cluster: Cluster) -> set[int]:
    """The pipes that several links share: wireless channels."""
    uses = Counter(cluster.topology.pipe(*ends) for ends in cluster.topology.links())
    return {pipe for pipe, n_links in uses.items() if n_links > 1}


def _channel_rates(cluster: Cluster) -> list[Link]:
    """The different rates of links on a shared channel, each as a link that has nothing else."""
    shared = _shared_pipes(cluster)
    found: list[Link] = []
    for ends in cluster.topology.links():
        if cluster.topology.pipe(*ends) in shared:
            link = cluster.link(*ends)
            rate = None if link.varies is None else product(without_faults(link.varies.rate))
            only_rate = Link(link.bandwidth_bps, 0.0, varies=None if rate is None else LinkVariation(rate))
            if only_rate not in found:
                found.append(only_rate)
    return found


def _is_crowded(cluster: Cluster, device: int) -> bool:
    """Whether a device has several veth pairs, and its network interface is slower than their links together."""
    nic_bps = cluster.devices[device].nic_bps
    others = [b if a == device else a for a, b in cluster.topology.veths() if device in (a, b)]
    if nic_bps is None or len(others) < 2:
        return False
    out, back = (
        [cluster.link(*ends).bandwidth_bps for ends in pairs]
        for pairs in ([(device, other) for other in others], [(other, device) for other in others])
    )
    return max(sum(out), sum(back)) > nic_bps
