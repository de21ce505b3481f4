"""Mounted cgroup hierarchies with a memory controller, and the group of this process in each. Only reads.

cgroups(7); cgroup v2 in the kernel's admin-guide/cgroup-v2.rst, v1's memory controller in cgroup-v1/memory.rst.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from edgeemu.host.owner import read_proc

Version = Literal[1, 2]


class Hierarchy(NamedTuple):
    """Mounted hierarchy with a memory controller, and the group of this process in it."""

    version: Version
    mount: Path
    own: Path

    def candidates(self) -> list[Path]:
        """Groups in which a new group can be tried: the group of this process, then its ancestors."""
        above = [group for group in self.own.parents if group.is_relative_to(self.mount)]
        return [self.own, *above]


def hierarchies(
    mountinfo: str | None = None, membership: str | None = None, read_controllers: bool = True
) -> list[Hierarchy]:
    """Parse hierarchies with a memory controller, v2 first, from /proc/self/mountinfo and /proc/self/cgroup."""
    mountinfo = read_proc("/proc/self/mountinfo") if mountinfo is None else mountinfo
    membership = read_proc("/proc/self/cgroup") if membership is None else membership
    found = []
    for kind, root, mount, options in _mounts(mountinfo):
        if kind == "cgroup2":
            if read_controllers and "memory" not in controllers(mount):
                continue
            version: Version = 2
            ours = _own(membership, "")
        elif kind == "cgroup" and "memory" in options:
            version, ours = 1, _own(membership, "memory")
        else:
            continue
        if ours is not None:
            found.append(Hierarchy(version, mount, _below(mount, root, ours)))
    return sorted(found, key=lambda hierarchy: -hierarchy.version)


def controllers(group: Path) -> list[str]:
    """Controllers that a v2 group can delegate to its children."""
    try:
        return (group / "cgroup.controllers").read_text().split()
    except OSError:
        return []


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, Path, list[str]]]:
    """Type, root within the file system, mount point and options of cgroups' superblocks (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) >= 5 and len(tail) >= 3 and tail[0].startswith("cgroup"):
            yield tail[0], _unescape(fields[3]), Path(_unescape(fields[4])), tail[2].split(",")


def _unescape(text: str) -> str:
    r"""Mount points have \040 for a space."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text


def _own(membership: str, controller: str) -> PurePosixPath | None:
    """Path of this process's group in the hierarchy of a controller; the v2 hierarchy has no controller name."""
    for line in membership.splitlines():
        number, names, path = line.split(":", 2)
        if controller in names.split(",") if controller else (number, names) == ("0", ""):
            return PurePosixPath(path)
    return None


def _below(mount: Path, root: str, ours: PurePosixPath) -> Path:
    """Directory of this process's group. The mount can show only the part of the hierarchy below `root`."""
    try:
        inner = ours.relative_to(root)
    except ValueError:  # a container that sees its own part only, whatever it is called outside
        return mount
    path = mount / inner
    return path if ".." not in inner.parts and os.path.isdir(path) else mount  # noqa: PTH112
