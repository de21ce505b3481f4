"""Sleep of the host, and steps of its wall clock: noticed by clocks that run on, against one that does not.

CLOCK_MONOTONIC stands while the host sleeps, CLOCK_BOOTTIME runs on, and CLOCK_REALTIME follows that until somebody,
or a time server, sets it (clock_gettime(2)). A slow correction changes the rate of all three alike.
"""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

NOTICED_S = 0.05  # below, it may be the time between two readings of clocks
_AT_ONCE_S = 1e-4  # readings that took longer were interrupted
_TRIES = 20


class ClockReading(NamedTuple):
    """Clocks of this host, read at one moment."""

    monotonic_s: float
    boot_s: float
    wall_s: float


class ClockJump(NamedTuple):
    """One jump: how long the host slept, or by how much its clock was set, and when on the timeline it was noticed."""

    kind: Literal["sleep", "step"]
    by_s: float
    at_s: float


class ClockWatch:
    """Compares clocks at each look with the look before, and adds what has happened between the two to `jumps`."""

    def __init__(self, read: Callable[[], ClockReading], jumps: list[ClockJump]) -> None:
        self._read = read
        self._jumps = jumps
        self._last = read()

    def look(self, at_s: float) -> None:
        """Look at the clocks, at an instant of the timeline."""
        before, now = self._last, self._read()
        self._last = now
        slept_s = (now.boot_s - before.boot_s) - (now.monotonic_s - before.monotonic_s)
        stepped_s = (now.wall_s - before.wall_s) - (now.boot_s - before.boot_s)
        if slept_s > NOTICED_S:
            self._jumps.append(ClockJump("sleep", slept_s, at_s))
        if abs(stepped_s) > NOTICED_S:
            self._jumps.append(ClockJump("step", stepped_s, at_s))


def read_clocks(clock_s: Callable[[int], float] = time.clock_gettime) -> ClockReading:
    """Read all clocks at once: again if something came between, and then as closely as it went."""
    best, best_took_s = ClockReading(0.0, 0.0, 0.0), float("inf")
    for _ in range(_TRIES):
        began_s = clock_s(time.CLOCK_MONOTONIC)
        reading = ClockReading(began_s, clock_s(time.CLOCK_BOOTTIME), clock_s(time.CLOCK_REALTIME))
        took_s = clock_s(time.CLOCK_MONOTONIC) - began_s
        if took_s < best_took_s:
            best, best_took_s = reading, took_s
        if took_s < _AT_ONCE_S:
            break
    return best
