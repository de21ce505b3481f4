"""Owner of a resource outside our memory: a process, identified so that no other can be taken for it.

Knows /proc; nothing of runs. A process id alone comes again: the start time makes it unique within a boot
(proc_pid_stat(5), field 22), and both count only in the PID namespace where they were read.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Self

State = Literal["alive", "dead", "elsewhere"]


class Owner(NamedTuple):
    """Identity of a process among all that have ever run on this machine."""

    pid: int
    start_ticks: int
    boot_id: str
    pid_namespace: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Read the identity of a live process. Raises FileNotFoundError if there is none."""
        return cls(pid, start_ticks(pid), boot_id(), _pid_namespace())

    @property
    def state(self) -> State:
        """State of the owner. `elsewhere`: in another PID namespace, such as a container, that cannot be inspected."""
        if self.boot_id != boot_id():
            return "dead"
        if self.pid_namespace != _pid_namespace():
            return "elsewhere"
        return "alive" if is_alive(self.pid, self.start_ticks) else "dead"


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process with this id and start time still runs. A zombie does not."""
    try:
        state, ticks = _state_and_start(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return ticks == started_ticks and state not in "ZX"


def process_state(pid: int) -> str:
    """Return the letter that proc_pid_stat(5) has for a process's state; X, dead, if there is no such process."""
    try:
        return _state_and_start(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot. Raises FileNotFoundError if there is none."""
    return _state_and_start(pid)[1]


def is_own(pid: int) -> bool:
    """Whether a process is this user's: its real and its effective user, which a set-user-ID program has not."""
    try:
        status = read_proc(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    (uids,) = (line.split()[1:3] for line in status.splitlines() if line.startswith("Uid:"))
    return uids == [str(os.geteuid())] * 2


def own_processes() -> Iterator[int]:
    """Yield the ids of all processes of this user."""
    numbers = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    yield from filter(is_own, numbers)


def read_proc(path: str) -> str:
    """Read a file of proc(5). A process's name there can be cut off within a character, and paths can be any bytes."""
    return Path(path).read_text("utf-8", "surrogateescape")


def stat_fields(pid: int) -> list[str]:
    """Return the fields of proc_pid_stat(5) from the third on, the state. Raises FileNotFoundError if there is none."""
    stat = read_proc(f"/proc/{pid}/stat")
    return stat[stat.rindex(")") + 2 :].split()  # after the command's name, which may hold spaces


def _state_and_start(pid: int) -> tuple[str, int]:
    fields = stat_fields(pid)
    return fields[0], int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  # the namespace, not the link
