"""Devices that end or stand still without being asked to, in a run that goes on without them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgeemu.host.stopped import StopWatch
from edgeemu.run.backend import Loss


class Heartbeat(NamedTuple):
    """How a device that stands still is noticed: as stopped at so many looks, one in so many seconds of the clock."""

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
    ) -> None:
        self._heartbeat, self._now_s, self._kill, self._on_gone = heartbeat, now_s, kill, on_gone
        self._watch = StopWatch(heartbeat.misses, heartbeat.interval_s)
        self._look_s = 0.0  # of the event loop's clock, when the next look is due
        self._why: dict[str, str] = {}  # by name: why its process is killed
        self._new: list[Loss] = []

    def __bool__(self) -> bool:
        return bool(self._new)

    def look(self, clock_s: float, processes: Callable[[], Mapping[str, int]]) -> float:
        """Look at the devices that should move, if it is time to. Return the seconds to the next look."""
        if clock_s >= self._look_s:
            self._look_s = clock_s + self._heartbeat.interval_s
            for name, why in self._watch.too_long(processes()).items():
                self.end(name, why)
        return self._look_s - clock_s

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
