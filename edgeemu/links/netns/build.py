"""The requests that build the network of a layout, and the check that the kernel has it. Opens no socket."""

from collections.abc import Iterator, Sequence
from math import inf

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from edgeemu.errors import RunError
from edgeemu.links.netns import buffer_sizes, interfaces, queue_trees
from edgeemu.links.netns.interfaces import VethEnd
from edgeemu.links.netns.layout import BRIDGE, CHANNEL, MTU, PREFIX, NetworkLayout, VethPair
from edgeemu.links.netns.netlink import Netlink, NetlinkRequest

_LOOPBACK = 1


def central_requests(layout: NetworkLayout, namespaces: Sequence[int], dilation: float) -> Iterator[NetlinkRequest]:
    """Requests in the central namespace: bridge, shared channel, all veth pairs. `namespaces`: of devices, opened."""
    yield interfaces.set_up(_LOOPBACK, "lo")
    if layout.bridged:
        yield interfaces.add_bridge(BRIDGE, "bridge", MTU)
    if layout.shared_channel is not None:
        rate_bps = layout.shared_channel.bandwidth_bps
        yield interfaces.add_ifb(CHANNEL, "channel", MTU, 10 * buffer_sizes.queue_packets(rate_bps, 0.0))
    for veth in layout.veths:
        ends = [
            VethEnd(end.ifindex, end.name, end.mac, None if end.device is None else namespaces[end.device])
            for end in (veth.near, veth.far)
        ]
        yield interfaces.add_veth(
            *ends,
            bridge=BRIDGE if veth.near.device is None else None,
            mtu=MTU,
            queue_packets=_queue_packets(veth),
            gso_max_segs=_gso_max_segs(layout, dilation),
        )
        if veth.near.device is None:
            yield interfaces.add_bridge_entry(veth.near.ifindex, veth.far.mac)


def device_requests(layout: NetworkLayout, device: int) -> Iterator[NetlinkRequest]:
    """Requests in a device's namespace: addresses, routes, and static ARP entries, so that no ARP packets are sent."""
    ends = [end for end in layout.interfaces() if end.device == device]
    yield interfaces.set_up(_LOOPBACK, "lo")
    for end in ends:
        yield interfaces.set_up(end.ifindex, end.name)
    for address in _addresses(layout, device):
        yield interfaces.add_address(*address)
    if layout.bridged:
        for other in layout.interfaces():
            if other.device is not None and other.device != device:
                yield interfaces.add_neighbour(ends[0].ifindex, layout.address(other.device), other.mac)
        return
    for route in layout.routes[device]:
        yield interfaces.add_neighbour(route.ifindex, route.gateway, route.mac)
        yield interfaces.add_route(route.ifindex, route.network, route.prefix, route.gateway)


def check_interfaces(socket: Netlink, layout: NetworkLayout, device: int | None, dilation: float) -> None:
    """Raises: RunError, where interfaces or addresses of a namespace are not those of the layout."""
    links = {link["index"]: link for link in socket.dump(interfaces.list_links(), ifinfmsg)}
    gso_max_segs, master = _gso_max_segs(layout, dilation), BRIDGE if device is None else None
    for veth in layout.veths:
        for end in (end for end in (veth.near, veth.far) if end.device == device):
            asked = (end.name, end.mac, MTU, _queue_packets(veth), gso_max_segs, master, True)
            if (has := interfaces.facts_of(links.get(end.ifindex))) != asked:
                raise RunError(f"the kernel has interface {end.name} otherwise than asked: {has}, not {asked}")
    if device is not None:
        addresses = {
            (message["index"], message.get_attr("IFA_LOCAL"), message["prefixlen"])
            for message in socket.dump(interfaces.list_addresses(), ifaddrmsg)
            if message["index"] != _LOOPBACK
        }
        asked_addresses = set(_addresses(layout, device))
        if addresses != asked_addresses:
            name = layout.devices[device]
            raise RunError(f"{name} has addresses {addresses} in the kernel, not {asked_addresses}")


def _addresses(layout: NetworkLayout, device: int) -> list[tuple[int, str, int]]:
    """Interface, address and prefix. Where devices forward, each has one address on all sides, and routes to others."""
    prefix = PREFIX if layout.bridged else 32
    return [(end.ifindex, layout.address(device), prefix) for end in layout.interfaces() if end.device == device]


def _queue_packets(veth: VethPair) -> int:
    return max(queue_trees.queue_packets(end) for end in (veth.near, veth.far))


def _gso_max_segs(layout: NetworkLayout, dilation: float) -> int:
    """One value for all interfaces: a packet keeps its size on all hops of its path."""
    rates = [rate for end in layout.interfaces() if (rate := queue_trees.slowest_bps(end)) is not None]
    channel = layout.shared_channel
    rates += [channel.bandwidth_bps] if channel and channel.bandwidth_bps else []
    return buffer_sizes.gso_max_segs(min(rates, default=inf) / dilation)
