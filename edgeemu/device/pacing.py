"""A device's own time: when it is free, how long its operations take, and sleeping until the timeline's instants.

The only place below the controller that looks at the wall clock, with `main`. Knows no blocks and no messages.
"""

import time
from collections.abc import Callable

from edgeemu.cluster.devices import Compute as Speed
from edgeemu.cluster.variation import scaled, share_at
from edgeemu.device import protocol_in
from edgeemu.host.realtime import RealtimePriority
from edgeemu.timeline.clock import Occupation, WallClock, occupy


class Pacer:
    """One device at one thing at a time. `clock` is None where nothing is paced: then everything is due at once."""

    def __init__(self, spec: protocol_in.DeviceConfig, urgency: RealtimePriority) -> None:
        self.clock: WallClock | None = None
        self._spec = spec
        self._urgency = urgency
        self._free_s = 0.0
        self._availability = spec.availability
        self._speed: Speed | None = None
        if spec.flops_per_s is not None and spec.mem_bytes_per_s is not None:
            self._speed = Speed(spec.flops_per_s, spec.mem_bytes_per_s, spec.overhead_s)

    def begin(self, clock: WallClock | None) -> None:
        """A new timeline: nothing has been done on it, and no event has come."""
        self.clock = clock
        self._free_s = 0.0
        self._availability = self._spec.availability

    def steer(self, at_s: float, speed: float) -> None:
        """An event: from an instant on the device has this share of its own speed."""
        self._availability = scaled(self._availability, at_s, speed)

    def availability_at(self, at_s: float) -> float:
        return share_at(self._availability, at_s)

    def now_s(self) -> float:
        """Now on the timeline; without pacing everything is due."""
        return self.clock.emulated_s(time.monotonic()) if self.clock is not None else float("inf")

    def until_s(self, due_s: float) -> float:
        """Seconds of the wall clock until an instant of the timeline; 0 if it has passed, or nothing is paced."""
        return 0.0 if self.clock is None else max(0.0, self.clock.wall_s(due_s) - time.monotonic())

    def book(self, ready_s: float, duration_s: Callable[[Speed], float]) -> Occupation | None:
        """An operation's time, where it is known before it runs."""
        if self.clock is None or self._speed is None:
            return None
        return self._occupy(ready_s, duration_s(self._speed))

    def book_measured(self, ready_s: float, cpu_s: float, *, starts_kernel: bool) -> Occupation:
        """The time of an operation on a device relative to the host; unpaced, the controller keeps the timeline."""
        if self.clock is None:
            return Occupation(0.0, 0.0, 0.0)
        assert self._spec.host_fraction is not None
        overhead_s = self._spec.overhead_s if starts_kernel else 0.0
        return self._occupy(ready_s, cpu_s / self._spec.host_fraction + overhead_s)

    def sleep_until(self, end_s: float) -> tuple[float, bool]:
        """Until an instant of the timeline. Returns how late it has become, and whether it was so before the sleep."""
        if self.clock is None:
            return 0.0, False
        self._urgency.urge()
        remaining_s = self.clock.wall_s(end_s) - time.monotonic()
        if remaining_s > 0:
            time.sleep(remaining_s)
        return (time.monotonic() - self.clock.wall_s(end_s)) / self.clock.dilation, remaining_s < 0

    def _occupy(self, ready_s: float, duration_s: float) -> Occupation:
        when = occupy(self._free_s, ready_s, duration_s, self._availability)
        self._free_s = when.end_s
        return when
