"""Looks at the processes of a run while nothing arrives from them, or at the beats of a run that can lose some."""

import math
from collections.abc import Callable, Mapping

from edgeemu.errors import RunError
from edgeemu.host.stopped import LOOK_EVERY_S, StopWatch
from edgeemu.run.processes.losses import Losses
from edgeemu.run.processes.presence import Presence


class Looks:
    """Looks at `processes`, by name. Devices are among them, which a run may be able to lose."""

    def __init__(self, presence: Presence, processes: Callable[[], Mapping[str, int]]) -> None:
        self._presence, self._processes = presence, processes
        self._watch = StopWatch()
        self._idle_s = 0.0

    def at_devices(self, losses: Losses | None, clock_s: float) -> float:
        """Look at devices that a run can lose, if it is time to. Return the seconds to the next look."""
        return math.inf if losses is None else losses.look(clock_s, self._moving)

    def after_idling(self, losses: Losses | None, passed_s: float) -> None:
        """Look at processes without which the run does not go on, if nothing has arrived for long enough.

        Raises:
            RunError: one is stopped.
        """
        self._idle_s += passed_s
        if self._idle_s < LOOK_EVERY_S:
            return
        self._idle_s, processes = 0.0, self._processes()
        if losses is not None:
            processes = {name: pid for name, pid in processes.items() if not self._presence.is_device(name)}
        if why := self._watch.look(processes):
            raise RunError(why)

    def _moving(self) -> dict[str, int]:
        processes = self._processes()
        return {name: processes[name] for name in self._presence.moving(processes)}
