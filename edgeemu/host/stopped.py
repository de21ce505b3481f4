"""Processes that are stopped, by SIGSTOP or a debugger, as /proc shows. Knows process ids; no devices."""

from collections.abc import Mapping
from typing import NamedTuple

from edgeemu.host.owner import process_state

LOOK_EVERY_S = 1.0
PATIENCE = 10  # looks in a row: a process that goes on within so many seconds ends no run

_STOPPED = {"T": "stopped (SIGSTOP, or Ctrl-Z)", "t": "stopped by a debugger"}  # proc_pid_stat(5)
_DOES = {"R": "computes", "S": "waits", "D": "waits for a disk"} | {
    state: f"is {how}" for state, how in _STOPPED.items()
}


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped now."""
    return process_state(pid) in _STOPPED


class Standstill(NamedTuple):
    """Process that was found stopped, and goes on: for about how long by the clock, and when on the timeline it did."""

    name: str
    for_s: float
    at_s: float


class StopWatch:
    """Count of looks in a row, one every so many seconds, at which each of some processes was stopped."""

    def __init__(self, patience: int = PATIENCE, every_s: float = LOOK_EVERY_S) -> None:
        self._patience, self._every_s = patience, every_s
        self._looks: dict[str, int] = {}
        self.went_on: dict[str, float] = {}  # those that were stopped at the look before the last, with the seconds

    def look(self, processes: Mapping[str, int]) -> str:
        """Look at processes, given by name; return which have been stopped for too long, or ""."""
        return "; ".join(f"{why}, and the run waits" for why in self.too_long(processes).values())

    def too_long(self, processes: Mapping[str, int]) -> dict[str, str]:
        """Look at processes, given by name; return those that have been stopped for too long, with what to say."""
        states = {name: process_state(pid) for name, pid in processes.items()}
        before = self._looks
        self.went_on = {
            name: looks * self._every_s
            for name, looks in before.items()
            if states.get(name, "Z") not in ("Z", "X", *_STOPPED)  # and has not ended
        }
        self._looks = {name: before.get(name, 0) + 1 for name, state in states.items() if state in _STOPPED}
        for_s = self._patience * self._every_s
        return {
            name: f"{name} (process {processes[name]}) has been {_STOPPED[states[name]]} for {for_s:.3g} s"
            for name, looks in self._looks.items()
            if looks >= self._patience
        }


def what_they_do(processes: Mapping[str, int], most: int = 10) -> str:
    """Return what so many processes do, by their states: `pi (process 7) computes, nano (process 8) waits`."""
    shown = list(processes.items())[:most]
    found = [f"{name} (process {pid}) {_DOES.get(process_state(pid), 'has ended')}" for name, pid in shown]
    return ", ".join(found) + (f" and {len(processes) - most} others" if len(processes) > most else "")
