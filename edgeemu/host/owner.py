"""Whose is it: the process that a thing outside our memory belongs to, told so that no other can be taken for it.

Knows /proc; nothing of runs. A process id alone comes again: the start time makes it unique within a boot
(proc_pid_stat(5), field 22), and both count only in the PID namespace where they were read.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple, Self

State = Literal["alive", "dead", "elsewhere"]


class Owner(NamedTuple):
    """A process, of all that there ever were on this machine."""

    pid: int
    start_ticks: int
    boot_id: str
    pid_namespace: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Raises FileNotFoundError if there is no such process."""
        return cls(pid, start_ticks(pid), boot_id(), _pid_namespace())

    @property
    def state(self) -> State:
        """`elsewhere`: in another PID namespace, a container for example, where we cannot look."""
        if self.boot_id != boot_id():
            return "dead"
        if self.pid_namespace != _pid_namespace():
            return "elsewhere"
        return "alive" if is_alive(self.pid, self.start_ticks) else "dead"


def is_alive(pid: int, started_ticks: int) -> bool:
    """Whether the process that started then still runs; one that has ended and waits for its parent does not."""
    try:
        state, ticks = _state_and_start(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return ticks == started_ticks and state not in "ZX"


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot. Raises FileNotFoundError if there is none."""
    return _state_and_start(pid)[1]


def _state_and_start(pid: int) -> tuple[str, int]:
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()  # after the command's name, which may hold spaces
    return fields[0], int(fields[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  # the namespace, not the link
