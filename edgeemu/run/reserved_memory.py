"""Memory that the systems of devices keep, in words."""

from collections import defaultdict
from collections.abc import Iterable

from edgeemu.report.formats import size

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


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
