"""Devices that end or stand still without being asked to, in a run that goes on without them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgeemu.host.stopped import Standstill, StopWatch
from edgeemu.run.backend import Loss

LOOKS_PER_BEAT = 4  # a device that stands still for less than a beat is found, too


class Heartbeat(NamedTuple):
    """How a device that stands still is noticed: as stopped for so many intervals in a row, of the clock."""

    interval_s: float
    misses: int


class Losses:
    """Losses that nobody has taken yet. One that is noticed as stopped is killed: it must not go on with what it had.

    `now_s` is the present on the timeline, `kill` ends a process by its name, `on_gone` takes the number of a device
    that has ended.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        now_s: Callable[[], float],
        kill: Callable[[str], None],
        on_gone: Callable[[int], None],
        standstills: list[Standstill],
    ) -> None:
        """`standstills` is to have those that were too short to be losses."""
        self._standstills = standstills
        self._every_s = heartbeat.interval_s / LOOKS_PER_BEAT
        self._heartbeat, self._now_s, self._kill, self._on_gone = heartbeat, now_s, kill, on_gone
        self._watch = StopWatch(LOOKS_PER_BEAT * heartbeat.misses, self._every_s)
        self._look_s = 0.0  # of the event loop's clock, when the next look is due
        self._why: dict[str, str] = {}  # by name: why its process is killed
        self._new: list[Loss] = []

    def __bool__(self) -> bool:
        return bool(self._new)

    def look(self, clock_s: float, processes: Callable[[], Mapping[str, int]]) -> float:
        """Look at the devices that should move, if it is time to. Return the seconds to the next look."""
        if clock_s >= self._look_s:
            self._look_s = clock_s + self._every_s
            for name, why in self._watch.too_long(processes()).items():
                self.end(name, why)
            for name, for_s in self._watch.went_on.items():
                self._standstills.append(Standstill(name, for_s, self._now_s()))
        return self._look_s - clock_s

    def last_look(self, processes: Mapping[str, int]) -> None:
        """Look once more at the end of a run: a device may have gone on since the last look."""
        self._look_s = 0.0
        self.look(self._every_s, lambda: processes)

    def end(self, name: str, why: str) -> None:
        """Kill a device that cannot go on; its exit follows."""
        self._why[name] = why
        self._kill(name)

    def add(self, device: int, name: str, why: str) -> None:
        """Note a device whose process has ended."""
        self._new.append(Loss(device, self._now_s(), self._why.pop(name, why)))
        self._on_gone(device)

    def take(self) -> list[Loss]:
        """Return the losses since the last call."""
        taken, self._new = self._new, []
        return taken
