"""When a device is busy on the timeline: how long its operations take, and when the next one can start.

Pure: it computes instants and waits for none. Knows no messages and no clock.
"""

from collections.abc import Callable

from edgeemu.cluster.devices import Compute as Speed
from edgeemu.cluster.variation import faulted, scaled, share_at
from edgeemu.device.protocol_in import DeviceConfig
from edgeemu.placement.program import Op
from edgeemu.timeline.clock import Occupation, occupy
from edgeemu.timeline.kernel_times import KernelTimes, relative_s

_UNPACED = Occupation(0.0, 0.0, 0.0)


class Pacer:
    """One device, which runs one operation at a time. Where nothing is paced, the controller keeps the timeline."""

    def __init__(self, config: DeviceConfig) -> None:
        self.paced = False
        self._config = config
        self._free_s = 0.0
        self._kernel_times = KernelTimes()  # also of what ran unpaced, to warm up
        self._availability = config.availability
        self._speed: Speed | None = None  # None: relative to the host
        if config.flops_per_s is not None and config.mem_bytes_per_s is not None:
            self._speed = Speed(config.flops_per_s, config.mem_bytes_per_s, config.overhead_s)

    def begin(self, *, paced: bool) -> None:
        """A new timeline: the device is free, and no event has changed its speed."""
        self.paced = paced
        self._free_s = 0.0
        self._availability = self._config.availability

    @property
    def messages_cost(self) -> bool:
        """Whether messages keep the device busy: on its own timeline, where they have a time."""
        return self.paced and (self._config.message_s > 0 or self._config.byte_s > 0)

    def steer(self, at_s: float, speed: float | None, still_until_s: float | None) -> None:
        """From an instant on the device has this share of its own speed, or stands still until another instant."""
        if speed is not None:
            self._availability = scaled(self._availability, at_s, speed)
        if still_until_s is not None:
            self._availability = faulted(self._availability, at_s, still_until_s)

    def availability_at(self, at_s: float) -> float:
        """The share of the device's compute that other work leaves at an instant."""
        return share_at(self._availability, at_s)

    def book(self, ready_s: float, duration_s: Callable[[Speed], float]) -> Occupation | None:
        """An operation's time, where it is known before the kernel runs; None where it is not."""
        if not self.paced or self._speed is None:
            return None
        return self._occupy(ready_s, duration_s(self._speed))

    def book_message(self, ready_s: float, size_bytes: int) -> Occupation | None:
        """The time for which sending or taking in a message keeps the device busy; None where nothing is paced."""
        return self._occupy(ready_s, self._config.message_s + self._config.byte_s * size_bytes) if self.paced else None

    def book_measured(self, ready_s: float, op: Op, rows: int, cpu_s: float) -> Occupation:
        """The time of an operation whose kernel took `cpu_s`, on a device relative to the host; unpaced, zeros."""
        if self._speed is not None:
            return _UNPACED
        taken_s = self._kernel_times.add(op, rows, cpu_s)
        return self._occupy(ready_s, relative_s(self._config, op, taken_s)) if self.paced else _UNPACED

    def _occupy(self, ready_s: float, duration_s: float) -> Occupation:
        when = occupy(self._free_s, ready_s, duration_s, self._availability)
        self._free_s = when.end_s
        return when
