"""Hard caps on the memory of devices, by the strongest mechanism of this host. Knows processes, not their work."""

import resource
import signal
from pathlib import Path

from edgeemu.host.cgroups import DeviceGroup, NoGroupError, RunGroup, make_run_group, remove
from edgeemu.host.owner import Owner, read_proc
from edgeemu.units import SIZE

# What a group counts beside the ledger (the C library's heap in pieces, messages on their way out, a tensor's raw bytes
# while it is unpacked) is less than the pages of the baseline that stay shared with the fork server and are not charged
# to it: tools/bench/fidelity.py measures both. A process limit counts what is asked for, and its baseline is exact.
WORKING_ROOM_BYTES = 16 * 2**20

ALL_MEANS = ("cgroup", "rlimit")


class MemoryCaps:
    """Memory caps of one run's devices. Cgroups are recorded in the run's directory and removed with it."""

    def __init__(self, directory: Path, owner_pid: int, means: tuple[str, ...] = ALL_MEANS) -> None:
        self.enforced_by = "ledger"
        self.cost_realtime = False  # devices had to give up their real-time priority for it
        self._group: RunGroup | None = None
        self._capped: dict[str, DeviceGroup] = {}
        self._peaks: dict[str, int | None] = {}  # of devices that have ended
        self._why = ""
        self._means = means
        if "cgroup" in means:
            try:
                self._group = make_run_group(directory, Owner.of(owner_pid))
                self.enforced_by = f"cgroup v{self._group.version}"
                return
            except NoGroupError as error:
                self._why = f"no cgroup: {error}"
        if "rlimit" in means:
            self.enforced_by = "rlimit"

    @property
    def described(self) -> str:
        """Text for meta.json: the mechanism that enforces the caps, and why no stronger one does."""
        return f"{self.enforced_by} ({self._why})" if self._why else self.enforced_by

    @property
    def weaker(self) -> str:
        """Limitation compared with cgroups, in a few words; "" if there is none."""
        if self.enforced_by == "rlimit":
            return "memory is capped by process limits, which count what is asked for, not what is used"
        return "memory is capped by the devices' own accounts only" if self.enforced_by == "ledger" else ""

    def cap(self, name: str, number: int, pid: int, baseline_bytes: int, memory_bytes: int) -> None:
        """Cap a device that has reported its start at its current resident memory plus its memory budget."""
        if self._group is not None:
            try:
                group = self._group.make(str(number), baseline_bytes + memory_bytes)
                self.cost_realtime |= not group.add(pid)
                self._capped[name] = group
                return
            except ProcessLookupError:
                return  # it is gone, and its exit will be told
            except OSError as error:
                self._fall_back(f"no cgroup: {error.filename or self._group.path}: {error.strerror or error}")
        if self.enforced_by == "rlimit":
            self._limit(pid, memory_bytes + WORKING_ROOM_BYTES)

    def _fall_back(self, why: str) -> None:
        """Fall back from cgroups to process limits for the devices that follow."""
        self._group, self._why = None, why
        self.enforced_by = "rlimit" if "rlimit" in self._means else "ledger"

    def _limit(self, pid: int, room_bytes: int) -> None:
        """Limit RLIMIT_DATA: private writable memory, used or not, since Linux 4.7 (getrlimit(2))."""
        try:
            limit_bytes = _data_bytes(pid) + room_bytes
            resource.prlimit(pid, resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        except ProcessLookupError:
            return
        except (OSError, ValueError) as error:
            self.enforced_by = "ledger"
            self._why += f"; no rlimit: {error}"

    def release(self, name: str) -> None:
        """Remove the cap of a device that has ended; another process may come to have its name."""
        group = self._capped.pop(name, None)
        if group is not None:
            self._peaks[name] = _larger(self._peaks.get(name), group.peak_bytes)
            remove(group.path)

    def peaks_bytes(self) -> dict[str, int | None]:
        """Peak of the memory charged to each cgroup, by device."""
        here = {name: _larger(self._peaks.get(name), group.peak_bytes) for name, group in self._capped.items()}
        return self._peaks | here

    def why_killed(self, name: str, status: int, held: dict[str, int]) -> str | None:
        """Message for a device that ended with this status if the kernel killed it because memory ran out, else None.

        `held` is the last page of its ledger that was heard of.
        """
        group = self._capped.get(name)
        if status != -signal.SIGKILL or group is None or not group.kills:
            return None
        peak_bytes, limit = group.peak_bytes, SIZE.format_human(group.limit_bytes)
        peak = "a peak unknown to this kernel" if peak_bytes is None else f"a peak of {SIZE.format_human(peak_bytes)}"
        if peak_bytes is not None and peak_bytes < 0.95 * group.limit_bytes:
            return (
                f"{name} was killed because this machine ran out of memory, not the device: its cgroup has {peak}, "
                f"of {limit}. Emulate fewer or smaller devices at a time"
            )
        ledger = ", ".join(f"{what} {SIZE.format_human(size)}" for what, size in sorted(held.items())) or "nothing yet"
        return (
            f"{name} is out of memory: it took more than its ledger counts, and the kernel killed it at its cap of "
            f"{limit} ({self.enforced_by}: its memory, and what its process took without a model), with {peak}. "
            f"The ledger's last page: {ledger}"
        )


def _larger(a_bytes: int | None, b_bytes: int | None) -> int | None:
    return b_bytes if a_bytes is None else a_bytes if b_bytes is None else max(a_bytes, b_bytes)


def _data_bytes(pid: int) -> int:
    status = read_proc(f"/proc/{pid}/status")
    (line,) = (line for line in status.splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024
