"""Memory that new processes can have on this host. Reads /proc, control groups and limits; knows no devices."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgeemu.host.cgroup_mounts import Version, hierarchies
from edgeemu.host.owner import read_proc

_UNLIMITED_BYTES = 2**62  # cgroup v1 says "no limit" by a number beyond it


class HostMemory(NamedTuple):
    """Memory that new processes can have: all together, and each by its limit of address space (None: no limit)."""

    available_bytes: int
    limited_by: str  # what sets `available_bytes`
    process_bytes: int | None = None


def available_memory() -> HostMemory:
    """Read how much memory there is: the least of what the host has available and what each control group has left."""
    rooms = [(meminfo_bytes(read_proc("/proc/meminfo")), "available on this host"), *_rooms_of_groups()]
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    return HostMemory(*min(rooms), None if limit_bytes == resource.RLIM_INFINITY else limit_bytes)


def meminfo_bytes(meminfo: str) -> int:
    """Return the available memory by the text of /proc/meminfo; free memory on kernels before 3.14."""
    sizes = dict(line.split(":") for line in meminfo.splitlines())
    return int(sizes.get("MemAvailable", sizes["MemFree"]).split()[0]) * 1024


def group_room_bytes(version: Version, group: Path) -> int | None:
    """Return what a control group has left; None without a limit. Files that it caches count as left: they can go.

    Sources: memory.max and memory.current in the kernel's admin-guide/cgroup-v2.rst; cgroup-v1/memory.rst.
    """
    limit, usage, cached = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        limit_text = (group / limit).read_text().strip()
        if limit_text == "max" or int(limit_text) >= _UNLIMITED_BYTES:
            return None
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used_bytes = int((group / usage).read_text()) - int(statistics.get(cached, 0))
    except (OSError, ValueError):  # the root has no such files; a group can vanish, or be another user's
        return None
    return max(0, int(limit_text) - used_bytes)


def _rooms_of_groups() -> Iterator[tuple[int, str]]:
    for hierarchy in hierarchies():
        for group in hierarchy.candidates():
            if (room_bytes := group_room_bytes(hierarchy.version, group)) is not None:
                yield room_bytes, f"left in the control group {group}"
