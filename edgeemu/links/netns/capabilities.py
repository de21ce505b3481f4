"""Capabilities of this kernel for links. Each is tried, in namespaces that end with the process that tries.

Nothing is concluded from versions or configuration files. pyroute2 is loaded in the child only.
"""

import os
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Literal

import msgspec

from edgeemu.errors import RunError

Backend = Literal["kernel", "hybrid"]

NAMESPACES, USER_NAMESPACES = "network namespaces", "user namespaces"
HYBRID_NEEDS = (NAMESPACES, "veth", "bridge", "htb", "bpf filter")
KERNEL_NEEDS = (*HYBRID_NEEDS, "netem")
LINK_FAULTS_NEED = ("blackhole",)
SHARED_CHANNEL_NEEDS = ("ifb", "clsact", "redirect")
QDISCS = ("htb", "netem", "clsact")
_OPTIONS = {  # of the kernel's configuration, for those who build or choose a kernel
    "veth": "CONFIG_VETH",
    "bridge": "CONFIG_BRIDGE",
    "ifb": "CONFIG_IFB",
    "htb": "CONFIG_NET_SCH_HTB",
    "netem": "CONFIG_NET_SCH_NETEM",
    "blackhole": "CONFIG_NET_SCHED",
    "clsact": "CONFIG_NET_SCH_INGRESS",
    "bpf filter": "CONFIG_NET_CLS_BPF",
    "redirect": "CONFIG_NET_ACT_MIRRED",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities that are missing, each with the reason. `rootless`: tried as root of a user namespace."""

    missing: dict[str, str]
    rootless: bool

    @property
    def namespaces(self) -> bool:
        return NAMESPACES not in self.missing

    @property
    def user_namespaces(self) -> bool:
        return USER_NAMESPACES not in self.missing

    @property
    def qdiscs(self) -> dict[str, bool]:
        return {name: name not in self.missing for name in QDISCS}

    @property
    def why(self) -> str:
        """All missing capabilities with their reasons, in one line; empty: none."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())

    def why_not(self, backend: Backend, *, shared_channel: bool = False, link_faults: bool = False) -> str:
        """The reason why a backend does not work here, in one line; empty: it works.

        `shared_channel`: the scenario has devices that share a wireless channel. `link_faults`: links of it fail.
        """
        needed: tuple[str, ...] = KERNEL_NEEDS if backend == "kernel" else HYBRID_NEEDS
        needed += SHARED_CHANNEL_NEEDS if shared_channel else ()
        needed += LINK_FAULTS_NEED if link_faults else ()
        if NAMESPACES in self.missing:
            needed = (NAMESPACES,)
        return "; ".join(f"no {name} ({self.missing[name]})" for name in needed if name in self.missing)


def probe_host() -> Capabilities:
    """Tries all capabilities that links may need, in a forked child; takes a fifth of a second."""
    euid = os.geteuid()
    found = _in_child(rootless=False)
    if NAMESPACES in found and euid != 0:
        in_user_namespace = _in_child(rootless=True)
        return Capabilities(in_user_namespace, rootless=True)
    can_user = _in_child(rootless=True, only_namespaces=True)
    return Capabilities(
        found | {name: why for name, why in can_user.items() if name == USER_NAMESPACES}, rootless=False
    )


def _in_child(*, rootless: bool, only_namespaces: bool = False) -> dict[str, str]:
    """The missing capabilities, found by a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.write(writer, msgspec.json.encode(_missing(rootless, only_namespaces)))
            status = 0
        except BaseException:  # noqa: BLE001 - the process ends here: a traceback is all that it can leave
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:  # by a filter of system calls, for example
        return {NAMESPACES: f"a process that asks for one is killed ({signal.Signals(-status).name})"}
    if status:
        raise RunError("trying what the kernel can do for links failed; the traceback is above")
    return msgspec.json.decode(answer, type=dict[str, str])


def _missing(rootless: bool, only_namespaces: bool) -> dict[str, str]:
    from edgeemu.host import namespaces

    if rootless:
        try:
            namespaces.own_user_namespace()
        except OSError as error:
            reason = f"the kernel does not let this user have one: {error.strerror}"
            return {USER_NAMESPACES: reason, NAMESPACES: reason}
    try:
        namespaces.own_network_namespace()
    except OSError as error:
        return {NAMESPACES: f"it takes root, or a user namespace: {error.strerror}"}
    return {} if only_namespaces else _missing_kinds()


def _missing_kinds() -> dict[str, str]:
    """The kinds of interface, queue, filter and action that this kernel refuses in the current namespace."""
    from edgeemu.links.netns import interfaces, netlink, queues, tc
    from edgeemu.links.netns.queues import QueuePlace

    socket = netlink.Netlink()
    missing: dict[str, str] = {}

    def works(name: str, *requests: netlink.NetlinkRequest) -> bool:
        try:
            socket.request(requests)
        except netlink.KernelRefusalError as error:
            option = f"{_OPTIONS[name]}: " if netlink.is_missing(error) else ""
            missing[name] = f"{option}{error}"
        return name not in missing

    near, far, bridge, ifb = 10, 11, 12, 13
    ends = interfaces.VethEnd(near, "a", "02:00:00:00:00:01"), interfaces.VethEnd(far, "b", "02:00:00:00:00:02")
    works("bridge", interfaces.add_bridge(bridge, "bridge", 1500))
    works("ifb", interfaces.add_ifb(ifb, "ifb", 1500, 1000))
    if not works("veth", interfaces.add_veth(*ends, bridge=None, mtu=1500, queue_packets=1000, gso_max_segs=1)):
        return missing | {name: "could not be tried without veth" for name in _OPTIONS if name not in missing}
    root = QueuePlace(near, queues.HTB_ROOT, queues.ROOT_PARENT)
    if works("htb", tc.request(root, queues.HtbRoot(), netlink.CREATE, "an htb queue")):
        by_destination = queues.Filter(queues.BY_DESTINATION)
        at_htb = QueuePlace(near, 1, queues.HTB_ROOT)
        works("bpf filter", tc.request(at_htb, by_destination, netlink.CREATE, "a filter in BPF"))
    else:
        missing["bpf filter"] = "could not be tried without htb"
    leaf = QueuePlace(far, 0x20000, queues.ROOT_PARENT)
    works("netem", tc.request(leaf, queues.Netem(1000, 1_000_000), netlink.CREATE, "a netem queue"))
    hole = QueuePlace(far, 0x30000, queues.ROOT_PARENT)
    works("blackhole", tc.request(hole, queues.Blackhole(), netlink.CREATE_OR_REPLACE, "a blackhole queue"))
    clsact = QueuePlace(near, queues.CLSACT_HANDLE, queues.CLSACT_PARENT)
    if works("clsact", tc.request(clsact, queues.Clsact(), netlink.CREATE, "a place for filters (clsact)")):
        redirect = queues.Filter(queues.EVERYTHING, ifb if "ifb" not in missing else far)
        works(
            "redirect", tc.request(QueuePlace(near, 1, queues.EGRESS), redirect, netlink.CREATE, "to redirect packets")
        )
    else:
        missing["redirect"] = "could not be tried without clsact"
    socket.close()
    return missing
