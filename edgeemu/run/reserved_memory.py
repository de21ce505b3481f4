"""Memory that the systems of devices keep, in words."""

from collections import defaultdict
from collections.abc import Iterable

from edgeemu.report.formats import size
from edgeemu.scenario.catalog.profile_files import profile_of
from edgeemu.scenario.scenario import Scenario

_SHOWN = 3  # devices that are named


def kept_by_systems(devices: Iterable[tuple[str, int]]) -> str:
    """Say what the systems of devices keep of their memory, by name and bytes; empty where they keep nothing."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, reserved_bytes in devices:
        if reserved_bytes:
            names[reserved_bytes].append(name)
    if not names:
        return ""
    parts = [f"{size(reserved_bytes)} on {_few(holders)}" for reserved_bytes, holders in names.items()]
    return f"their systems keep {', '.join(parts)} (memory_reserved)"


def unknown_reserves(scenario: Scenario) -> str:
    """Name the devices of which the catalog has memory, and not what their systems keep; empty where there are none."""
    names = [
        name
        for device in scenario.devices
        if device.memory is None and device.memory_reserved is None
        if (profile := profile_of(device.profile)) is not None and profile.memory_reserved is None
        for name in device.device_names
    ]
    return f"what their systems keep is not known of {_few(names)}: all of it counts as free" if names else ""


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
