"""Exit of a device process."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceExit:
    """Exit of a device process. `status` is its exit status, or minus the signal that killed it."""

    name: str
    pid: int
    status: int

    def __str__(self) -> str:
        if self.status < 0:
            return f"device {self.name} was killed by {signal.Signals(-self.status).name}"
        return f"device {self.name} exited with status {self.status}"
