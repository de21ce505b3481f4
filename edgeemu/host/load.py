"""How busy this host is: processor time by who used it, and how long runnable tasks waited. Only reads proc(5).

Of the processors that this process may use. Waiting is the kernel's pressure stall information
(`accounting/psi.rst` of the kernel's documentation), where it has it.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from edgeemu.host.owner import stat_fields

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuTimes(NamedTuple):
    """Processor time since boot, in seconds over all processors."""

    cores: int
    total_s: float
    idle_s: float
    steal_s: float  # given to other guests by the hypervisor
    ours_s: float  # of the processes that were asked for
    waited_s: float | None  # in which some task was runnable and had no processor; None: the kernel does not say


class HostLoad(NamedTuple):
    """Shares of the processor time of a while."""

    cores: int
    busy: float
    others: float  # of it, by other programs
    steal: float
    waited: float | None  # share of the time in which some task waited for a processor


def cpu_times(pids: Iterable[int]) -> CpuTimes:
    """Read the processor times, and those of the processes `pids`; one that has ended counts nothing."""
    allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    # user, nice, system, idle, iowait, irq, softirq, steal; guest times are in user and nice already
    ticks = [[int(field) for field in fields[:8]] for name, *fields in lines if name in allowed]
    total = sum(map(sum, ticks))
    return CpuTimes(
        cores=len(ticks),
        total_s=total / _TICKS_PER_S,
        idle_s=sum(each[3] + each[4] for each in ticks) / _TICKS_PER_S,
        steal_s=sum(each[7] for each in ticks if len(each) > 7) / _TICKS_PER_S,
        ours_s=sum(map(_process_s, pids)),
        waited_s=_waited_s(),
    )


def load_between(before: CpuTimes, after: CpuTimes) -> HostLoad | None:
    """Shares of the time from one reading to the next; None where less than a clock tick has passed."""
    total_s = after.total_s - before.total_s
    if total_s <= 0:
        return None
    idle, steal, ours = (
        (getattr(after, key) - getattr(before, key)) / total_s for key in ("idle_s", "steal_s", "ours_s")
    )
    waited = None
    if before.waited_s is not None and after.waited_s is not None:
        waited = min(1.0, (after.waited_s - before.waited_s) * after.cores / total_s)
    busy = min(1.0, max(0.0, 1.0 - idle - steal))
    return HostLoad(after.cores, busy, max(0.0, busy - ours), max(0.0, steal), waited)


def _process_s(pid: int) -> float:
    try:
        fields = stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # utime and stime


def _waited_s() -> float | None:
    try:
        lines = Path("/proc/pressure/cpu").read_text().splitlines()
    except OSError:  # a kernel without it, or one that was started with psi=0
        return None
    some = next((line for line in lines if line.startswith("some ")), "")
    _, found, total_us = some.partition("total=")
    return int(total_us) / 1e6 if found else None
