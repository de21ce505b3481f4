"""Real-time priority of a device's thread while it waits for an instant and sends; never while it computes.

Knows scheduling policies (sched(7)); no timeline and no messages. A sleeper under SCHED_FIFO is woken as soon as its
instant comes, however busy the host is. A kernel under it would take a core away from the controller, from the other
devices and from the user; so the priority is given back before anything is computed.
"""

import os
from collections.abc import Callable
from pathlib import Path

from edgeemu.host.owner import read_proc
from edgeemu.host.privileges import CAP_SYS_NICE, REALTIME_PRIORITY, InEffect

_ZEROMQ_THREADS = 2  # of a context: the reaper, and the one that carries messages
_NAME_TRIES = 200  # a millisecond each: a library that names no threads has started them by then


class RealtimePriority:
    """Priority of the calling thread. `may`: it is permitted. `described`: the policy in use, or why no better one."""

    def __init__(self) -> None:
        self.may = True
        self.described = "SCHED_FIFO while pacing, timer slack 1 ns"
        self._normal = os.sched_param(0)
        self._urgent = os.sched_param(REALTIME_PRIORITY)
        self._is_urgent = False
        self._capability = InEffect(CAP_SYS_NICE)
        try:
            self._raise(0)
            os.sched_setscheduler(0, os.SCHED_OTHER, self._normal)
        except OSError as error:
            self.may = False
            self.described = f"timer slack 1 ns; no real-time priority ({error.strerror})"

    def lift_carriers(self, sleep: Callable[[float], None], *, with_zeromq: bool) -> None:
        """Give real-time priority to the other threads of this process, some perhaps ZeroMQ's: all carry messages only.

        Not by ZeroMQ's own option: it ends the process where that is refused, to a thread that starts when the process
        is in a control group already. A thread of ZeroMQ that starts reads its scheduling, then sets it, and ends the
        process if it has changed in between; it takes its name after that.
        """
        if not self.may:
            return
        threads = _other_threads()
        for _ in range(_NAME_TRIES if with_zeromq else 0):
            if sum(name.startswith("ZMQbg/") for name in threads.values()) >= _ZEROMQ_THREADS:
                break
            sleep(1e-3)
            threads = _other_threads()
        for thread in threads:
            self._raise(thread)

    def urge(self) -> None:
        """Raise the priority before a sleep, until the messages due after it are sent."""
        if self.may and not self._is_urgent:
            try:
                self._raise(0)
            except PermissionError:  # moved to a control group that has no real-time share: cgroups.py reports it
                self.may = False
            else:
                self._is_urgent = True

    def relax(self) -> None:
        """Lower the priority to normal before a computation."""
        if self._is_urgent:
            os.sched_setscheduler(0, os.SCHED_OTHER, self._normal)
            self._is_urgent = False

    def _raise(self, thread: int) -> None:
        with self._capability:
            os.sched_setscheduler(thread, os.SCHED_FIFO, self._urgent)


def _other_threads() -> dict[int, str]:
    """Threads of this process but the main one, with their names."""
    numbers = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return {number: read_proc(f"/proc/self/task/{number}/comm") for number in numbers if number != os.getpid()}
