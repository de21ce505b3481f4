"""Settings of a launch of device processes."""

from dataclasses import dataclass

from edgeemu.host.fleet import DEVICE_ENTRY
from edgeemu.host.memory_caps import ALL_MEANS


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """Entry function of device processes, and the means by which their memory may be capped, the best first."""

    entry: str = DEVICE_ENTRY
    cap_means: tuple[str, ...] = ALL_MEANS


DEFAULT_LAUNCH = LaunchSettings()
