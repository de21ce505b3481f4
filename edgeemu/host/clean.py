"""Leftovers of ended runs on this machine, and their removal. Identifies them by owner, never by a process's name.

A run that ends leaves nothing, also when its controller is killed. Something is left only where the fork server could
not act either: it was killed as well, or stopped.
"""

import os
import select
import signal
from collections.abc import Iterator
from typing import Literal, NamedTuple

from edgeemu.host import cgroups, scratch
from edgeemu.host.owner import Owner, is_alive, is_own

KILL_TIMEOUT_S = 5.0  # a killed process has to give its memory back

Kind = Literal["process", "cgroup", "directory"]


class Item(NamedTuple):
    """Leftover of a run. `left` is the reason why it stays; "" if it is removed or would be."""

    kind: Kind
    what: str
    owner_pid: int
    left: str = ""


def clean(*, dry_run: bool = False) -> list[Item]:
    """Remove all that this user's ended runs own: their processes, then their cgroups, then their private directories.

    What a living run owns is listed, and not touched. What is another user's is not seen, also not by root: anybody can
    write a file that names any process.
    """
    items: list[Item] = []
    directories = list(scratch.directories_of_all_runs())
    for directory in directories:
        items += _processes(directory, dry_run)
    for path, owner in cgroups.groups_of_all_runs():
        left = _spared(owner) or ("" if dry_run else cgroups.remove(path))
        items.append(Item("cgroup", str(path), owner.pid, left))
    for path, owner, _ in directories:
        left = _spared(owner) or ("" if dry_run else scratch.remove(path, owner))
        items.append(Item("directory", str(path), owner.pid, left))
    return items


def _spared(owner: Owner) -> str:
    match owner.state:
        case "alive":
            return "its run is alive"
        case "elsewhere":
            return "its run is in another PID namespace; clean there"
        case "dead":
            return ""


def _processes(directory: scratch.PrivateDirectory, dry_run: bool) -> Iterator[Item]:
    """Live processes of a run, matched by process id, start time and user, so that no other process is meant."""
    owner = directory.owner
    if owner.state == "elsewhere":
        return
    for process in list(filter(_is_meant, directory.processes)):  # the end of the fork server is that of the others
        left = _spared(owner) or ("" if dry_run else _end(process))
        yield Item("process", f"{process.name} (pid {process.pid})", owner.pid, left)


def _is_meant(process: scratch.Process) -> bool:
    return is_alive(process.pid, process.start_ticks) and is_own(process.pid)


def _end(process: scratch.Process) -> str:
    """Kill a process and wait until it has ended. Returns the reason if it has not."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return ""
    try:
        if not _is_meant(process):  # only now is the number held fast
            return ""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        gone = select.poll()
        gone.register(pidfd, select.POLLIN)
        return "" if gone.poll(KILL_TIMEOUT_S * 1000) else "it does not end"
    except ProcessLookupError:
        return ""
    finally:
        os.close(pidfd)
