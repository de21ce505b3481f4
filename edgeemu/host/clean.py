"""Leftovers of ended runs on this machine, and their removal. Identifies them by owner, never by a process's name.

A run that ends leaves nothing, also when its controller is killed. Something is left only where the fork server could
not act either: it was killed as well, or stopped.
"""

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from edgeemu.host import cgroups, scratch
from edgeemu.host.owner import Owner, is_alive

KILL_TIMEOUT_S = 5.0  # a killed process has to give its memory back

Kind = Literal["process", "cgroup", "directory"]


class Item(NamedTuple):
    """Leftover of a run. `left` is the reason why it stays; "" if it is removed or would be."""

    kind: Kind
    what: str
    owner_pid: int
    left: str = ""


def clean(*, dry_run: bool = False) -> list[Item]:
    """Remove all that ended runs own: their processes, then their cgroups, then their private directories.

    What a living run owns is listed, and not touched.
    """
    items: list[Item] = []
    for directory, owner in scratch.directories_of_all_runs():
        items += _processes(directory, owner, dry_run)
    for path, owner in cgroups.groups_of_all_runs():
        left = _spared(owner) or ("" if dry_run else cgroups.remove(path))
        items.append(Item("cgroup", str(path), owner.pid, left))
    for directory, owner in scratch.directories_of_all_runs():
        left = _spared(owner)
        if not left and not dry_run:
            scratch.remove(directory)
            left = "it cannot be removed; is it another user's?" if directory.exists() else ""
        items.append(Item("directory", str(directory), owner.pid, left))
    return items


def _spared(owner: Owner) -> str:
    match owner.state:
        case "alive":
            return "its run is alive"
        case "elsewhere":
            return "its run is in another PID namespace; clean there"
        case "dead":
            return ""


def _processes(directory: Path, owner: Owner, dry_run: bool) -> Iterator[Item]:
    """Live processes of a run, matched by process id and start time, so that no other process is meant."""
    try:
        recorded = scratch.processes(directory)
    except (OSError, ValueError, TypeError):
        return
    there = [
        process for process in recorded if owner.state != "elsewhere" and is_alive(process.pid, process.start_ticks)
    ]
    for process in there:
        left = _spared(owner) or ("" if dry_run else _end(process))
        yield Item("process", f"{process.name} (pid {process.pid})", owner.pid, left)


def _end(process: scratch.Process) -> str:
    """Kill a process and wait until it has ended. Returns the reason if it has not."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return ""
    try:
        if not is_alive(process.pid, process.start_ticks):  # only now is the number held fast
            return ""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        gone = select.poll()
        gone.register(pidfd, select.POLLIN)
        return "" if gone.poll(KILL_TIMEOUT_S * 1000) else "it does not end"
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "it is another user's"
    finally:
        os.close(pidfd)
