"""Network interfaces, addresses and routes as netlink requests."""

import socket
from functools import lru_cache
from typing import Any, NamedTuple

from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import NTF_MASTER, NUD_NOARP, NUD_PERMANENT, ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from edgeemu.links.netns.netlink import CREATE, CREATE_OR_REPLACE, NetlinkRequest, encoded

OUR_GROUP = 77  # of interfaces; any number does, in a namespace where nobody else has a group
_IFF_UP = 1
_AF_BRIDGE = 7


# -- interfaces, addresses, neighbours, routes ----------------------------------------------------------------------


class VethEnd(NamedTuple):
    """One interface of a veth pair to be made, in the network namespace of a descriptor; None: in the socket's."""

    ifindex: int
    name: str
    mac: str
    namespace: int | None = None


def add_veth(
    near: VethEnd, far: VethEnd, *, bridge: int | None, mtu: int, queue_packets: int, gso_max_segs: int
) -> NetlinkRequest:
    """A veth pair, its near end up, and a port of `bridge` if that is given. The far end is to be set up later."""

    def end(of: VethEnd, *more: tuple[str, Any]) -> dict[str, Any]:
        attributes = [
            ("IFLA_IFNAME", of.name),
            ("IFLA_ADDRESS", of.mac),
            ("IFLA_MTU", mtu),
            ("IFLA_TXQLEN", queue_packets),
            ("IFLA_GSO_MAX_SEGS", gso_max_segs),
            ("IFLA_GROUP", OUR_GROUP),
            *more,
        ]
        if of.namespace is not None:
            attributes.append(("IFLA_NET_NS_FD", of.namespace))
        return {"index": of.ifindex, "attrs": attributes}

    message = ifinfmsg()
    data = {"attrs": [("VETH_INFO_PEER", end(far))]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    master = [] if bridge is None else [("IFLA_MASTER", bridge)]
    up = {"flags": _IFF_UP, "change": _IFF_UP}
    _fill(message, end(near, ("IFLA_LINKINFO", info), *master) | up)
    return NetlinkRequest(encoded(message, RTM_NEWLINK, CREATE), f"a veth pair {near.name} - {far.name}")


def add_bridge(index: int, name: str, mtu: int) -> NetlinkRequest:
    """A bridge that learns nothing by multicast and forwards at once."""
    data = {"attrs": [("IFLA_BR_MCAST_SNOOPING", 0), ("IFLA_BR_FORWARD_DELAY", 0)]}
    return _add_device(index, name, "bridge", mtu, [("IFLA_INFO_DATA", data)])


def add_ifb(index: int, name: str, mtu: int, queue_packets: int) -> NetlinkRequest:
    """An interface that queues the packets that filters redirect to it, and then lets them continue."""
    return _add_device(index, name, "ifb", mtu, [], queue_packets)


def set_up(index: int, what: str) -> NetlinkRequest:
    """Sets an interface up."""
    message = ifinfmsg()
    _fill(message, {"index": index, "flags": _IFF_UP, "change": _IFF_UP, "attrs": []})
    return NetlinkRequest(encoded(message, RTM_NEWLINK, 0), f"to switch {what} on")


def delete_group(group: int) -> NetlinkRequest:
    """Removes all interfaces of a group at once: the kernel then waits for an RCU grace period once, not for each."""
    message = ifinfmsg()
    _fill(message, {"attrs": [("IFLA_GROUP", group)]})
    return NetlinkRequest(encoded(message, RTM_DELLINK, 0), "to remove all interfaces")


@lru_cache(maxsize=8192)
def add_address(index: int, address: str, prefix: int) -> NetlinkRequest:
    message = ifaddrmsg()
    attributes = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    _fill(message, {"family": socket.AF_INET, "prefixlen": prefix, "index": index, "attrs": attributes})
    return NetlinkRequest(encoded(message, RTM_NEWADDR, CREATE), f"address {address}/{prefix}")


@lru_cache(maxsize=8192)
def add_neighbour(index: int, address: str, mac: str) -> NetlinkRequest:
    """A static ARP entry."""
    message = ndmsg()
    attributes = [("NDA_DST", address), ("NDA_LLADDR", mac)]
    fields = {"family": socket.AF_INET, "ifindex": index, "state": NUD_PERMANENT, "attrs": attributes}
    _fill(message, fields)
    return NetlinkRequest(encoded(message, RTM_NEWNEIGH, CREATE_OR_REPLACE), f"neighbour {address} ({mac})")


def add_bridge_entry(index: int, mac: str) -> NetlinkRequest:
    """A static entry of the bridge: the port of a device, so that no packet is sent to all ports."""
    message = ndmsg()
    attributes = [("NDA_LLADDR", mac)]
    fields = {"family": _AF_BRIDGE, "ifindex": index, "state": NUD_NOARP, "flags": NTF_MASTER, "attrs": attributes}
    _fill(message, fields)
    return NetlinkRequest(encoded(message, RTM_NEWNEIGH, CREATE_OR_REPLACE), f"bridge entry {mac}")


def add_route(index: int, network: str, prefix: int, gateway: str) -> NetlinkRequest:
    """A route to a network, over a neighbour that need not have an address of the same network."""
    message = rtmsg()
    attributes = [("RTA_DST", network), ("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    table_main, protocol_static, unicast, onlink = 254, 4, 1, 4  # linux/rtnetlink.h
    fields = {"family": socket.AF_INET, "dst_len": prefix, "table": table_main, "proto": protocol_static}
    _fill(message, fields | {"type": unicast, "flags": onlink, "attrs": attributes})
    return NetlinkRequest(encoded(message, RTM_NEWROUTE, CREATE), f"a route to {network}/{prefix}")


def list_links() -> bytes:
    """Request for all interfaces of a namespace."""
    return encoded(ifinfmsg(), RTM_GETLINK, 0)


def list_addresses() -> bytes:
    message = ifaddrmsg()
    message["family"] = socket.AF_INET
    return encoded(message, RTM_GETADDR, 0)


def facts_of(link: Any | None) -> tuple[Any, ...] | None:
    """Name, MAC, MTU, queue length, GSO packets, bridge of an interface that was read back, and whether it is up."""
    if link is None:
        return None
    names = ("IFNAME", "ADDRESS", "MTU", "TXQLEN", "GSO_MAX_SEGS", "MASTER")
    return (*(link.get_attr(f"IFLA_{name}") for name in names), bool(link["flags"] & _IFF_UP))


def _add_device(
    index: int, name: str, kind: str, mtu: int, data: list[tuple[str, Any]], queue_packets: int = 1000
) -> NetlinkRequest:
    message = ifinfmsg()
    info = {"attrs": [("IFLA_INFO_KIND", kind), *data]}
    attributes = [
        ("IFLA_IFNAME", name),
        ("IFLA_MTU", mtu),
        ("IFLA_TXQLEN", queue_packets),
        ("IFLA_GROUP", OUR_GROUP),
        ("IFLA_LINKINFO", info),
    ]
    _fill(message, {"index": index, "flags": _IFF_UP, "change": _IFF_UP, "attrs": attributes})
    return NetlinkRequest(encoded(message, RTM_NEWLINK, CREATE), f"a {kind}")


def _fill(message: Any, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        message[key] = value
