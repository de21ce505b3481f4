"""Control groups (cgroups) with a memory limit, v1 and v2: create, fill, read, remove. Knows owners; no devices.

A run has one group, named after its owner, with a group for each device in it. Only devices are in them: nothing else
of the run, and nothing of anybody else's.
"""

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeemu.host.cgroup_mounts import Hierarchy, Version, controllers, hierarchies
from edgeemu.host.owner import Owner

RECORD_FILE = "cgroups"  # in a run's private directory
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_NAME = re.compile(r"edgeemu-[A-Za-z0-9_]+\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f-]{36})")
_EMPTY_AFTER_S = 1.0  # a group whose processes are dead is empty a moment later


class NoGroupError(Exception):
    """Raised when no memory cgroup can be created here, with the reason."""


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Cgroup of one device."""

    version: Version
    path: Path
    limit_bytes: int

    def add(self, pid: int) -> bool:
        """Move a process with all its threads into the group. Memory that it holds stays charged to its old group.

        Returns whether it kept its real-time priority. Kernels with CONFIG_RT_GROUP_SCHED let no thread that has one
        into a v2 group below an enabled cpu controller, and none in such a group get one (EINVAL; sched(7)).
        """
        try:
            _write(self.path / "cgroup.procs", str(pid))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
            _write(self.path / "cgroup.procs", str(pid))
            return False
        return True

    @property
    def kills(self) -> int:
        """Number of processes that the kernel killed here because memory ran out, in the group or on the host."""
        file = "memory.oom_control" if self.version == 1 else "memory.events"
        counts = dict(line.split() for line in (self.path / file).read_text().splitlines())
        return int(counts.get("oom_kill", 0))

    @property
    def peak_bytes(self) -> int | None:
        """Peak of the memory charged to the group; None where the kernel does not report it (v2 before Linux 5.19)."""
        file = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            return int((self.path / file).read_text())
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Cgroup of one run, with a child for each device."""

    version: Version
    path: Path

    def make(self, name: str, limit_bytes: int) -> DeviceGroup:
        """Create a child group with a limit of memory and of swap. Raises OSError where the kernel refuses."""
        path = self.path / name
        path.mkdir()
        limit_bytes -= limit_bytes % -PAGE_BYTES  # whole pages; rounded up
        if self.version == 1:
            _write(path / "memory.limit_in_bytes", str(limit_bytes))
            with_swap = path / "memory.memsw.limit_in_bytes"
            if with_swap.exists():  # it is not where swap is not accounted for
                _write(with_swap, str(limit_bytes))
        else:
            _write(path / "memory.max", str(limit_bytes))
            without_swap = path / "memory.swap.max"
            if without_swap.exists():
                _write(without_swap, "0")
        limit_file = path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")
        if (taken := limit_file.read_text().strip()) != str(limit_bytes):
            raise OSError(f"{limit_file}: asked for {limit_bytes}, and it says {taken}")
        return DeviceGroup(self.version, path, limit_bytes)


def make_run_group(directory: Path, owner: Owner) -> RunGroup:
    """Create the cgroup of a run, where the kernel allows it, and record it in the run's private directory.

    Raises:
        NoGroupError: nowhere. Nothing is left then.
    """
    name = f"{directory.name}.{owner.pid}.{owner.start_ticks}.{owner.pid_namespace}.{owner.boot_id}"
    assert owner_of(name) == owner, name
    reasons = []
    for hierarchy in hierarchies():
        for parent in hierarchy.candidates():
            path = parent / name
            with (directory / RECORD_FILE).open("a") as record:  # first, so that it is found whatever happens next
                record.write(f"{path}\n")
            try:
                return _make(hierarchy, parent, path)
            except OSError as error:
                remove(path)
                reasons.append(f"{parent}: {error.strerror or error}")
    raise NoGroupError("; ".join(reasons) or "no memory controller is mounted")


def _make(hierarchy: Hierarchy, parent: Path, path: Path) -> RunGroup:
    if not os.access(parent / "cgroup.procs", os.W_OK):  # who may not write it may not move processes below it, either
        raise PermissionError(errno.EACCES, "not ours to use")
    if hierarchy.version == 2:
        _hand_on_memory(parent)
    path.mkdir()
    if hierarchy.version == 2:
        _hand_on_memory(path)
    group = RunGroup(hierarchy.version, path)
    group.make("try", 64 * 2**20)
    (path / "try").rmdir()
    return group


def _hand_on_memory(group: Path) -> None:
    """Enable memory limits for children of this v2 group. Only the root and groups without processes can."""
    if "memory" not in controllers(group):
        raise OSError(f"{group} has no memory controller")
    switch = group / "cgroup.subtree_control"
    if "memory" not in switch.read_text().split():
        _write(switch, "+memory")


def owner_of(name: str) -> Owner | None:
    """Owner of the run whose cgroup has this name; None if it is no run's."""
    found = _NAME.fullmatch(name)
    return Owner(int(found[1]), int(found[2]), found[4], int(found[3])) if found else None


def recorded(directory: Path) -> list[Path]:
    """Cgroups of the run with this private directory."""
    try:
        paths = [Path(line) for line in (directory / RECORD_FILE).read_text().splitlines()]
    except FileNotFoundError:
        return []
    return [path for path in paths if owner_of(path.name) is not None and path.is_dir()]


def groups_of_all_runs() -> Iterator[tuple[Path, Owner]]:
    """Yield the cgroups of all runs of this user that this process can see. Others' names say what they like."""
    for hierarchy in hierarchies():
        for parent, names, _ in os.walk(hierarchy.mount):
            for name in sorted(names):
                if (owner := owner_of(name)) is not None:
                    names.remove(name)
                    path = Path(parent) / name
                    with suppress(FileNotFoundError):  # removed right now
                        if path.stat().st_uid == os.geteuid():
                            yield path, owner


def remove_recorded(directory: Path) -> None:
    """Remove the cgroups of a run whose devices have ended; `edgeemu clean` removes what cannot be removed now."""
    for path in recorded(directory):
        remove(path)


def remove(path: Path) -> str:
    """Remove a run's group and its children. Returns the reason if it is still there, else ""."""
    last = time.monotonic() + _EMPTY_AFTER_S
    while True:
        try:
            for inner in list(path.iterdir()):
                if inner.is_dir():
                    inner.rmdir()
            path.rmdir()
        except FileNotFoundError:
            if not path.exists():
                return ""  # someone else was faster: the controller and the fork server may both be at it
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > last:  # a process is in it
                return error.strerror or str(error)
            time.sleep(0.01)
        else:
            return ""


def _write(file: Path, text: str) -> None:
    """Write a file with one write(2), which the kernel requires."""
    fd = os.open(file, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
