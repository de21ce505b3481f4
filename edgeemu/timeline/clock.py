"""Emulated time: arithmetic on seconds since the start of the run. Pure: no clock, no process, no socket.

Devices and simulator share it, so a run and its prediction differ only by what was measured.
"""

from dataclasses import dataclass
from typing import NamedTuple

from edgeemu.cluster.variation import Variation, finish


class Occupation(NamedTuple):
    """Occupation of a device by one execution: the instants at which it became ready, started and ended."""

    ready_s: float
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class WallClock:
    """Wall clock of a run: wall = start + dilation * emulated, on the host's monotonic clock."""

    start_s: float
    dilation: float

    def wall_s(self, emulated_s: float) -> float:
        return self.start_s + self.dilation * emulated_s

    def emulated_s(self, wall_s: float) -> float:
        return (wall_s - self.start_s) / self.dilation


def occupy(
    device_free_s: float, ready_s: float, duration_s: float, availability: Variation | None = None
) -> Occupation:
    """Occupy a device, which computes one block at a time, in the order in which they became ready.

    `duration_s` is the time on a device without other load; other work leaves the fraction `availability`.
    """
    start_s = max(device_free_s, ready_s)
    return Occupation(ready_s, start_s, finish(availability, start_s, duration_s))
