"""Network and user namespaces of the calling thread: system calls that Python 3.11 lacks. Knows no netlink.

A namespace without a name lives as long as a process in it (or an open file of it), so nothing is left behind.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeemu.host.prctl import SET_DUMPABLE, check, libc, prctl

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


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


@contextmanager
def network_namespace_of(pid: int | None) -> Iterator[None]:
    """Context in which the calling thread is in another process's network namespace; None: it stays in its own."""
    if pid is None:
        yield
        return
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            check(libc.setns(there, CLONE_NEWNET), "setns")
        finally:
            os.close(there)
        try:
            yield
        finally:
            check(libc.setns(here, CLONE_NEWNET), "setns")
    finally:
        os.close(here)


def settle_namespace(*, forwarding: bool) -> None:
    """Disable IPv6, whose neighbor discovery would be unasked traffic; enable forwarding where it is a router."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    if forwarding:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
