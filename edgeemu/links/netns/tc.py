"""Queueing disciplines, classes and filters as netlink requests, and as the kernel lists them.

pyroute2 leaves out a part of what the kernel takes: delays in nanoseconds, classic BPF programs. `Tc` adds those.
"""

import socket
from collections.abc import Iterable
from functools import lru_cache
from struct import pack_into
from typing import Any

from pyroute2.netlink.rtnl import (
    RTM_DELQDISC,
    RTM_GETQDISC,
    RTM_GETTCLASS,
    RTM_GETTFILTER,
    RTM_NEWQDISC,
    RTM_NEWTCLASS,
    RTM_NEWTFILTER,
)
from pyroute2.netlink.rtnl.tcmsg import sched_bpf, sched_netem, tcmsg

from edgeemu.links.netns.netlink import NetlinkRequest, encoded
from edgeemu.links.netns.queues import (
    EGRESS,
    HTB_ROOT,
    INGRESS,
    Blackhole,
    Clsact,
    Filter,
    HtbClass,
    HtbRoot,
    Netem,
    QueuePlace,
    Settings,
)

_ALL_PROTOCOLS = socket.htons(0x0003)  # ETH_P_ALL


class Tc(tcmsg):  # type: ignore[misc]  # pyroute2 has no types
    """A message about queues, with the options that pyroute2 has and those that it lacks."""

    __slots__ = ()

    @staticmethod
    def get_options(self: Any, *_: Any, **__: Any) -> Any:  # as pyroute2 calls it
        kind = self.get_attr("TCA_KIND")
        return {"netem": _NetemOptions, "bpf": _BpfOptions}.get(kind) or tcmsg.get_options(self)


class _NetemOptions(sched_netem.options):  # type: ignore[misc]
    nla_map = (
        *sched_netem.options.nla_map,
        ("TCA_NETEM_ECN", "uint32"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "hex"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
    )


class _BpfOptions(sched_bpf.options):  # type: ignore[misc]
    nla_map = tuple(
        (name, {"TCA_BPF_OPS": "cdata", "TCA_BPF_OPS_LEN": "uint16"}.get(name, kind))
        for name, kind in sched_bpf.options.nla_map
    )


_QDISCS: dict[str, type[HtbRoot] | type[Netem] | type[Blackhole] | type[Clsact]] = {
    "htb": HtbRoot,
    "netem": Netem,
    "blackhole": Blackhole,
    "clsact": Clsact,
}
_REQUESTS: dict[type[Settings], tuple[int, str]] = {
    **{settings: (RTM_NEWQDISC, kind) for kind, settings in _QDISCS.items()},
    HtbClass: (RTM_NEWTCLASS, "htb"),
    Filter: (RTM_NEWTFILTER, "bpf"),
}
FILTERED_AT: dict[type[Settings], tuple[int, ...]] = {HtbRoot: (HTB_ROOT,), Clsact: (INGRESS, EGRESS)}  # parents


def request(place: QueuePlace, settings: Settings, flags: int, what: str) -> NetlinkRequest:
    """A request to make a queue, class or filter (`flags` CREATE), or to give it other settings (CHANGE)."""
    data = bytearray(_encoded(flags, settings))
    pack_into("=iII", data, 20, *place)  # struct tcmsg: tcm_ifindex, tcm_handle, tcm_parent
    return NetlinkRequest(bytes(data), what)


def removal(place: QueuePlace, what: str) -> NetlinkRequest:
    """A request to remove a qdisc, so that the one is there again that the kernel puts there by itself."""
    message = Tc()
    message["index"], message["handle"], message["parent"] = place
    return NetlinkRequest(encoded(message, RTM_DELQDISC, 0), f"to remove {what}")


@lru_cache(maxsize=4096, typed=True)  # tuples of two kinds can be equal
def _encoded(flags: int, settings: Settings) -> bytes:
    """A message without its place, in which most queues of a cluster differ only."""
    message_type, kind = _REQUESTS[type(settings)]
    message = Tc()
    options = settings.options()
    message["attrs"] = [("TCA_KIND", kind), *([("TCA_OPTIONS", options)] if options is not None else [])]
    if isinstance(settings, Filter):
        message["info"] = (1 << 16) | _ALL_PROTOCOLS  # priority 1
    return encoded(message, message_type, flags)


# -- reading back ---------------------------------------------------------------------------------------------------


def list_qdiscs() -> bytes:
    """Request for all qdiscs of a namespace."""
    return encoded(Tc(), RTM_GETQDISC, 0)


def list_classes(index: int) -> bytes:
    message = Tc()
    message["index"] = index
    return encoded(message, RTM_GETTCLASS, 0)


def list_filters(index: int, parent: int) -> bytes:
    message = Tc()
    message["index"], message["parent"] = index, parent
    return encoded(message, RTM_GETTFILTER, 0)


def found_qdiscs(messages: Iterable[Any]) -> dict[QueuePlace, Settings]:
    """The qdiscs of a listing that are of the kinds used here."""
    found: dict[QueuePlace, Settings] = {}
    for message in messages:
        kind = _QDISCS.get(message.get_attr("TCA_KIND"))
        if kind is not None:
            place = QueuePlace(message["index"], message["handle"], message["parent"])
            found[place] = kind.read(message.get_attr("TCA_OPTIONS"))
    return found


def found_classes(messages: Iterable[Any]) -> dict[QueuePlace, Settings]:
    return {
        QueuePlace(message["index"], message["handle"], message["parent"]): HtbClass.read(
            message.get_attr("TCA_OPTIONS")
        )
        for message in messages
        if message.get_attr("TCA_KIND") == "htb"
    }


def found_filters(messages: Iterable[Any]) -> dict[QueuePlace, Settings]:
    """The BPF filters of a listing. The kernel lists chains of filters too; a chain has no options."""
    return {
        QueuePlace(message["index"], message["handle"], message["parent"]): Filter.read(options)
        for message in messages
        if message.get_attr("TCA_KIND") == "bpf" and (options := message.get_attr("TCA_OPTIONS")) is not None
    }
