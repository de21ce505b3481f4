"""Stalls of a process: intervals of the wall clock in which it did not run, seen by a thread that wakes regularly.

A stopped process, a suspended or overloaded host, and a computation that keeps Python's lock look the same: messages
that arrive meanwhile are stamped when the stall ends. Knows no clock: instants are passed in.
"""

from collections import deque

BEAT_MS = 10  # how often the thread wakes
STALL_S = 0.025  # from one beat to the next: above what the scheduler of a busy host takes with real-time priority
_KEPT = 64  # intervals: a message on its way for longer than those is not to be expected


class Stalls:
    """Intervals without a beat. One thread beats; another may read meanwhile."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._intervals: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._untold_s = 0.0

    def beat(self, now_s: float) -> None:
        """Note that the process runs now; what has passed since the beat before is a stall if it is long."""
        last_s, self._last_s = self._last_s, now_s
        if last_s is not None and now_s - last_s > STALL_S:
            self._intervals.append((last_s, now_s))
            self._untold_s += now_s - last_s

    def pause(self) -> None:
        """Begin anew at the next beat: the thread waits for something else than time."""
        self._last_s = None

    def overlap_s(self, begin_s: float, end_s: float) -> float:
        """Return how long the process stood still from one instant to another."""
        return sum(max(0.0, min(end_s, end) - max(begin_s, begin)) for begin, end in tuple(self._intervals))

    def take_s(self) -> float:
        """Return how long the process stood still since the last call."""
        untold_s, self._untold_s = self._untold_s, 0.0
        return untold_s
