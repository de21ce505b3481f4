"""Network and user namespaces of the calling thread: system calls that Python 3.11 lacks. Knows no netlink.

A namespace without a name lives as long as a process in it (or an open file of it), so nothing is left behind.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeemu.host.prctl import SET_DUMPABLE, check, libc, prctl

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_HERE = "/proc/thread-self/ns/net"


def own_user_namespace() -> None:
    """Make the process root of its own user namespace, and of nothing else. It must have one thread.

    Raises: OSError, where the kernel does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(CLONE_NEWUSER), "unshare")
    # New capabilities make a process unreadable to others of its user, and so its namespaces (prctl(2)).
    prctl(SET_DUMPABLE, 1)
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/setgroups").write_text("deny")  # else the kernel refuses the next line (user_namespaces(7))
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def own_network_namespace() -> None:
    """Put the calling thread into an empty network namespace.

    Raises: OSError, where the kernel does not allow it.
    """
    check(libc.unshare(CLONE_NEWNET), "unshare")


def join_network_namespace(path: str) -> None:
    """Put the calling thread into the network namespace that is found there.

    Raises: OSError, where the kernel does not allow it.
    """
    there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.setns(there, CLONE_NEWNET), "setns")
    finally:
        os.close(there)


def open_network_namespace(pid: int | None) -> int:
    """Return a descriptor of a process's network namespace, or of an empty one (None). It lives as long as that.

    Raises: OSError, where the kernel does not allow it.
    """
    if pid is not None:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with _back_afterwards():
        own_network_namespace()
        return os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def in_network_namespace(descriptor: int) -> Iterator[None]:
    """Context in which the calling thread is in another network namespace."""
    with _back_afterwards():
        check(libc.setns(descriptor, CLONE_NEWNET), "setns")
        yield


@contextmanager
def _back_afterwards() -> Iterator[None]:
    """Context after which the calling thread is in the network namespace that it was in."""
    here = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        check(libc.setns(here, CLONE_NEWNET), "setns")
        os.close(here)


def settle_namespace(*, forwarding: bool) -> None:
    """Disable IPv6, whose neighbor discovery would be unasked traffic; enable forwarding where it is a router."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    if forwarding:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
