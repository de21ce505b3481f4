"""Requests to the kernel's network configuration, in batches, and what it answers. Knows no cluster.

pyroute2 encodes and decodes; the socket is our own, because a batch of hundreds of requests is one system call then,
and because a socket belongs for ever to the namespace that it was opened in.
"""

import errno
import os
import socket
from collections.abc import Sequence
from functools import lru_cache
from struct import pack_into, unpack_from
from typing import Any, NamedTuple

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST
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

from edgeemu.errors import RunError

CREATE = NLM_F_CREATE | NLM_F_EXCL
CREATE_OR_REPLACE = NLM_F_CREATE | NLM_F_REPLACE
CHANGE = 0
OUR_GROUP = 77  # of interfaces; in a namespace where nobody else has any, which number does not matter

_BATCH_BYTES = 1 << 15  # of requests in one system call; the socket's default buffer takes 200 KiB
_DUMP_BYTES = 1 << 17
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10  # linux/netlink.h
_ERROR, _DONE = 2, 3
_HEADER_BYTES = 16  # struct nlmsghdr
_ACK_TLVS, _CAPPED = 0x200, 0x100
_IFF_UP = 1
_AF_BRIDGE = 7


class KernelRefusalError(RunError):
    """The kernel refused a request. `number` is its errno."""

    def __init__(self, what: str, number: int, said: str) -> None:
        super().__init__(f"the kernel refused {what}: {os.strerror(number)}{f' ({said})' if said else ''}")
        self.number = number


class Request(NamedTuple):
    """One message, and what it asks for, in words for an error."""

    data: bytes
    what: str


class Netlink:
    """A netlink socket in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, requests: Sequence[Request]) -> None:
        """Has all done, in this order. What comes after one that is refused may be done or not.

        Raises: KernelRefusalError, for the first that is refused.
        """
        batch: list[Request] = []
        size = 0
        for request in requests:
            if batch and size + len(request.data) > _BATCH_BYTES:
                self._do(batch)
                batch, size = [], 0
            batch.append(request)
            size += len(request.data)
        if batch:
            self._do(batch)

    def dump(self, message: bytes, as_type: type[Any]) -> list[Any]:
        """All objects of a kind, decoded by pyroute2's class for them."""
        self._sequence += 1
        request = bytearray(message)
        pack_into("=HI", request, 6, NLM_F_REQUEST | NLM_F_DUMP, self._sequence)
        self._socket.send(request)
        found: list[Any] = []
        while True:
            for kind, data in _messages(self._socket.recv(_DUMP_BYTES)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise KernelRefusalError(f"a list of {as_type.__name__}", *_error(data))
                decoded = as_type(data)
                decoded.decode()
                found.append(decoded)

    def _do(self, batch: list[Request]) -> None:
        """One system call. Only the last is acknowledged; a refusal of any other comes before that."""
        first = self._sequence + 1
        buffer = bytearray()
        for n, request in enumerate(batch):
            at = len(buffer)
            buffer += request.data
            flags = unpack_from("=H", buffer, at + 6)[0] | NLM_F_REQUEST | (NLM_F_ACK if n == len(batch) - 1 else 0)
            pack_into("=HI", buffer, at + 6, flags, first + n)
        self._sequence += len(batch)
        self._socket.send(buffer)
        refusal: KernelRefusalError | None = None
        while True:
            for kind, data in _messages(self._socket.recv(_DUMP_BYTES)):
                if kind != _ERROR:
                    continue  # a note on something that others asked for
                number, said = _error(data)
                n = unpack_from("=I", data, 8)[0] - first
                if number and refusal is None:
                    refusal = KernelRefusalError(batch[n].what, number, said)
                if n == len(batch) - 1:
                    if refusal is not None:
                        raise refusal
                    return


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + _HEADER_BYTES <= len(data):
        length, kind = unpack_from("=IH", data, at)
        found.append((kind, data[at : at + length]))
        at += (length + 3) & ~3
    return found


def _error(data: bytes) -> tuple[int, str]:
    """The errno of an error message, and what the kernel says beside (NLMSGERR_ATTR_MSG)."""
    length, _, flags = unpack_from("=IHH", data)
    number = -unpack_from("=i", data, _HEADER_BYTES)[0]
    if not flags & _ACK_TLVS:
        return number, ""
    inner = unpack_from("=I", data, _HEADER_BYTES + 4)[0]
    at = _HEADER_BYTES + 4 + (_HEADER_BYTES if flags & _CAPPED else inner)
    while at + 4 <= length:
        size, kind = unpack_from("=HH", data, at)
        if kind == 1:
            return number, data[at + 4 : at + size].rstrip(b"\0").decode(errors="replace")
        at += (size + 3) & ~3
    return number, ""


def encoded(message: Any, message_type: int, flags: int) -> bytes:
    """A message of pyroute2's as the kernel takes it; the sequence number is for the socket to fill in."""
    message["header"]["type"] = message_type
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


# -- interfaces, addresses, neighbours, routes ----------------------------------------------------------------------


class End(NamedTuple):
    """One end of a cable: an interface that is to be. `pid`: in whose network namespace; None: in the socket's."""

    ifindex: int
    name: str
    mac: str
    pid: int | None = None


def add_veth(near: End, far: End, *, bridge: int | None, mtu: int, queue_packets: int, gso_max_segs: int) -> Request:
    """A cable, its near end up, and in a bridge if that is given. (The far end cannot be: there is no near one yet.)"""

    def end(of: End, *more: tuple[str, Any]) -> dict[str, Any]:
        attributes = [
            ("IFLA_IFNAME", of.name),
            ("IFLA_ADDRESS", of.mac),
            ("IFLA_MTU", mtu),
            ("IFLA_TXQLEN", queue_packets),
            ("IFLA_GSO_MAX_SEGS", gso_max_segs),
            ("IFLA_GROUP", OUR_GROUP),
            *more,
        ]
        if of.pid is not None:
            attributes.append(("IFLA_NET_NS_PID", of.pid))
        return {"index": of.ifindex, "attrs": attributes}

    message = ifinfmsg()
    data = {"attrs": [("VETH_INFO_PEER", end(far))]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    master = [] if bridge is None else [("IFLA_MASTER", bridge)]
    up = {"flags": _IFF_UP, "change": _IFF_UP}
    _fill(message, end(near, ("IFLA_LINKINFO", info), *master) | up)
    return Request(encoded(message, RTM_NEWLINK, CREATE), f"a veth pair {near.name} - {far.name}")


def add_bridge(index: int, name: str, mtu: int) -> Request:
    """A bridge that learns nothing by multicast and forwards at once."""
    data = {"attrs": [("IFLA_BR_MCAST_SNOOPING", 0), ("IFLA_BR_FORWARD_DELAY", 0)]}
    return _add_device(index, name, "bridge", mtu, [("IFLA_INFO_DATA", data)])


def add_ifb(index: int, name: str, mtu: int, queue_packets: int) -> Request:
    """A device that queues what is redirected to it, from wherever, and sends it on its way."""
    return _add_device(index, name, "ifb", mtu, [], queue_packets)


def set_up(index: int, what: str) -> Request:
    """Switches an interface on."""
    message = ifinfmsg()
    _fill(message, {"index": index, "flags": _IFF_UP, "change": _IFF_UP, "attrs": []})
    return Request(encoded(message, RTM_NEWLINK, 0), f"to switch {what} on")


def delete_group(group: int) -> Request:
    """Removes all interfaces of a group at once: the kernel waits for its readers once, and not for each."""
    message = ifinfmsg()
    _fill(message, {"attrs": [("IFLA_GROUP", group)]})
    return Request(encoded(message, RTM_DELLINK, 0), "to remove all interfaces")


@lru_cache(maxsize=8192)
def add_address(index: int, address: str, prefix: int) -> Request:
    message = ifaddrmsg()
    attributes = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    _fill(message, {"family": socket.AF_INET, "prefixlen": prefix, "index": index, "attrs": attributes})
    return Request(encoded(message, RTM_NEWADDR, CREATE), f"address {address}/{prefix}")


@lru_cache(maxsize=8192)
def add_neighbour(index: int, address: str, mac: str) -> Request:
    """Who has an address, so that nobody asks."""
    message = ndmsg()
    attributes = [("NDA_DST", address), ("NDA_LLADDR", mac)]
    fields = {"family": socket.AF_INET, "ifindex": index, "state": NUD_PERMANENT, "attrs": attributes}
    _fill(message, fields)
    return Request(encoded(message, RTM_NEWNEIGH, CREATE_OR_REPLACE), f"neighbour {address} ({mac})")


def add_bridge_entry(index: int, mac: str) -> Request:
    """Behind which port of the bridge a device is, so that nothing is sent to all."""
    message = ndmsg()
    attributes = [("NDA_LLADDR", mac)]
    fields = {"family": _AF_BRIDGE, "ifindex": index, "state": NUD_NOARP, "flags": NTF_MASTER, "attrs": attributes}
    _fill(message, fields)
    return Request(encoded(message, RTM_NEWNEIGH, CREATE_OR_REPLACE), f"bridge entry {mac}")


def add_route(index: int, network: str, prefix: int, gateway: str) -> Request:
    """A way to a network, over a neighbour that need not have an address of the same network."""
    message = rtmsg()
    attributes = [("RTA_DST", network), ("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    table_main, protocol_static, unicast, onlink = 254, 4, 1, 4  # linux/rtnetlink.h
    fields = {"family": socket.AF_INET, "dst_len": prefix, "table": table_main, "proto": protocol_static}
    _fill(message, fields | {"type": unicast, "flags": onlink, "attrs": attributes})
    return Request(encoded(message, RTM_NEWROUTE, CREATE), f"a route to {network}/{prefix}")


def list_links() -> bytes:
    """Request for all interfaces of a namespace."""
    return encoded(ifinfmsg(), RTM_GETLINK, 0)


def list_addresses() -> bytes:
    message = ifaddrmsg()
    message["family"] = socket.AF_INET
    return encoded(message, RTM_GETADDR, 0)


def facts_of(link: Any | None) -> tuple[Any, ...] | None:
    """Of an interface that was read back: name, address, MTU, queue, GSO packets, bridge, and whether it is up."""
    if link is None:
        return None
    names = ("IFNAME", "ADDRESS", "MTU", "TXQLEN", "GSO_MAX_SEGS", "MASTER")
    return (*(link.get_attr(f"IFLA_{name}") for name in names), bool(link["flags"] & _IFF_UP))


def is_missing(error: KernelRefusalError) -> bool:
    """Whether the kernel does not have what was asked for at all."""
    return error.number in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV)


def _add_device(
    index: int, name: str, kind: str, mtu: int, data: list[tuple[str, Any]], queue_packets: int = 1000
) -> Request:
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
    return Request(encoded(message, RTM_NEWLINK, CREATE), f"a {kind}")


def _fill(message: Any, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        message[key] = value
