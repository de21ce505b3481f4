"""Settings of the kernel's queues, classes and filters (tc), as values that equal those read back. Knows no cluster.

Units are the kernel's own: bytes per second, nanoseconds, ticks of 64 ns, probabilities as 32-bit fractions. `options`
and `read` are in the form of pyroute2's messages.
"""

from struct import iter_unpack, pack
from typing import Any, NamedTuple

ROOT_PARENT = 0xFFFFFFFF  # TC_H_ROOT
HTB_ROOT = 0x10000  # 1:0
CLSACT_HANDLE, CLSACT_PARENT = 0xFFFF0000, 0xFFFFFFF1
INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # parents of the filters of clsact
TICK_NS = 64  # PSCHED_SHIFT 6
_LINKLAYER_ETHERNET = 1
_REDIRECT, _STOLEN = 1, 4  # TCA_EGRESS_REDIR, TC_ACT_STOLEN
_RATE_LIMIT = 1 << 32

# Classic BPF, linux/filter.h: (code, jump if true, jump if false, k)
_LOAD_HALF, _OR, _RETURN_A, _RETURN = 0x28, 0x44, 0x16, 0x06
# The class of a packet is 1: and the low half of its IPv4 destination, which is at byte 14 + 16 + 2 of the frame.
BY_DESTINATION = ((_LOAD_HALF, 0, 0, 32), (_OR, 0, 0, HTB_ROOT), (_RETURN_A, 0, 0, 0))
EVERYTHING = ((_RETURN, 0, 0, 0xFFFFFFFF),)


class QueuePlace(NamedTuple):
    """The position of a queue, class or filter in the tree of an interface."""

    ifindex: int
    handle: int
    parent: int


class HtbClass(NamedTuple):
    """A class of htb: its guaranteed rate, its highest rate, and how much may be sent at once at each."""

    rate_bytes_per_s: int
    ceil_bytes_per_s: int
    burst_ticks: int
    cburst_ticks: int
    quantum_bytes: int

    def options(self) -> dict[str, Any]:
        """Options of a message. Rates that do not fit 32 bits are in attributes of their own."""
        rate, ceil = self.rate_bytes_per_s, self.ceil_bytes_per_s
        parms = {
            "rate": min(rate, _RATE_LIMIT - 1),
            "ceil": min(ceil, _RATE_LIMIT - 1),
            "rate___reserved": _LINKLAYER_ETHERNET,
            "ceil___reserved": _LINKLAYER_ETHERNET,
            "buffer": self.burst_ticks,
            "cbuffer": self.cburst_ticks,
            "quantum": self.quantum_bytes,
        }
        attributes: list[tuple[str, Any]] = [("TCA_HTB_PARMS", parms)]
        if rate >= _RATE_LIMIT:
            attributes.append(("TCA_HTB_RATE64", rate))
        if ceil >= _RATE_LIMIT:
            attributes.append(("TCA_HTB_CEIL64", ceil))
        return {"attrs": attributes}

    @classmethod
    def read(cls, options: Any) -> "HtbClass":
        parms = options.get_attr("TCA_HTB_PARMS")
        rate = options.get_attr("TCA_HTB_RATE64") or parms["rate"]
        ceil = options.get_attr("TCA_HTB_CEIL64") or parms["ceil"]
        return cls(rate, ceil, parms["buffer"], parms["cbuffer"], parms["quantum"])


class Netem(NamedTuple):
    """Delay, jitter and loss by netem. `reorder` is the share of packets that is not delayed while the others are."""

    limit_packets: int
    delay_ns: int = 0
    jitter_ns: int = 0
    loss: int = 0  # of 2^32 - 1, as the two below
    duplicate: int = 0
    reorder: int = 0

    def options(self) -> dict[str, Any]:
        attributes: list[tuple[str, Any]] = [
            ("TCA_NETEM_LATENCY64", self.delay_ns),
            ("TCA_NETEM_JITTER64", self.jitter_ns),
        ]
        if self.reorder:
            attributes.append(("TCA_NETEM_REORDER", {"prob_reorder": self.reorder, "corr_reorder": 0}))
        return {
            "delay": min(self.delay_ns // TICK_NS, 0xFFFFFFFF),
            "jitter": min(self.jitter_ns // TICK_NS, 0xFFFFFFFF),
            "limit": self.limit_packets,
            "loss": self.loss,
            "gap": int(bool(self.reorder)),
            "duplicate": self.duplicate,
            "attrs": attributes,
        }

    @classmethod
    def read(cls, options: Any) -> "Netem":
        reorder = options.get_attr("TCA_NETEM_REORDER")
        return cls(
            options["limit"],
            options.get_attr("TCA_NETEM_LATENCY64"),
            options.get_attr("TCA_NETEM_JITTER64"),
            options["loss"],
            options["duplicate"],
            reorder["prob_reorder"] if options["gap"] and reorder else 0,
        )


class Blackhole(NamedTuple):
    """The qdisc that drops all packets, and does not tell the sender. What was in the queue before it is lost, too."""

    def options(self) -> None:
        return None

    @classmethod
    def read(cls, options: Any) -> "Blackhole":  # noqa: ARG003  # it has no options
        return cls()


class HtbRoot(NamedTuple):
    """The root of an interface's classes. Packets that match no filter go to class `default`; 0: unshaped."""

    default: int = 0

    def options(self) -> dict[str, Any]:
        init = {"version": 3, "rate2quantum": 10, "defcls": self.default}
        return {"attrs": [("TCA_HTB_INIT", init)]}

    @classmethod
    def read(cls, options: Any) -> "HtbRoot":
        return cls(options.get_attr("TCA_HTB_INIT")["defcls"])


class Clsact(NamedTuple):
    """The qdisc at which filters for incoming and outgoing packets are attached."""

    def options(self) -> None:
        return None

    @classmethod
    def read(cls, options: Any) -> "Clsact":  # noqa: ARG003  # it has no options
        return cls()


class Filter(NamedTuple):
    """A classic BPF program that gives packets their class, or redirects them to the interface `redirect_to`."""

    program: tuple[tuple[int, int, int, int], ...]
    redirect_to: int | None = None

    def options(self) -> dict[str, Any]:
        attributes: list[tuple[str, Any]] = [
            ("TCA_BPF_OPS_LEN", len(self.program)),
            ("TCA_BPF_OPS", b"".join(pack("=HBBI", *instruction) for instruction in self.program)),
        ]
        if self.redirect_to is not None:
            mirred = {"action": _STOLEN, "eaction": _REDIRECT, "ifindex": self.redirect_to}
            action = [("TCA_ACT_KIND", "mirred"), ("TCA_ACT_OPTIONS", {"attrs": [("TCA_MIRRED_PARMS", mirred)]})]
            attributes.append(("TCA_BPF_ACT", {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}))
        return {"attrs": attributes}

    @classmethod
    def read(cls, options: Any) -> "Filter":
        text = bytes(options.get_attr("TCA_BPF_OPS") or b"")
        action = options.get_attr("TCA_BPF_ACT")
        redirect_to = None
        if action is not None:
            mirred = action.get_nested("TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS")
            redirect_to = mirred["ifindex"]
        return cls(tuple(iter_unpack("=HBBI", text[: len(text) // 8 * 8])), redirect_to)


Settings = HtbClass | Netem | Blackhole | HtbRoot | Clsact | Filter
