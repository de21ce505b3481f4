"""Lateness of sleeps on this host, measured with the best priority that a process may have. Given clock and sleep."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

from edgeemu.host.realtime import RealtimePriority

NAPS = 100
NAP_S = 0.001


@dataclass(frozen=True, slots=True)
class Scheduling:
    realtime: bool
    used: str
    late_p50_s: float  # a sleep of a millisecond, as devices sleep
    late_p99_s: float


def measure_lateness(wall: Callable[[], float], sleep: Callable[[float], None]) -> Scheduling:
    """Measure how late this thread wakes from sleeps of a millisecond; takes 0.1 s."""
    ctypes.CDLL(None).prctl(29, ctypes.c_ulong(1), 0, 0, 0)  # PR_SET_TIMERSLACK, as devices have it
    urgency = RealtimePriority()
    late_s = []
    urgency.urge()
    try:
        for _ in range(NAPS):
            due_s = wall() + NAP_S
            sleep(NAP_S)
            late_s.append(wall() - due_s)
    finally:
        urgency.relax()
    late_s.sort()
    return Scheduling(urgency.may, urgency.described, late_s[NAPS // 2], late_s[int(0.99 * NAPS)])
