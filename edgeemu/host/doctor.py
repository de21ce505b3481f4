"""Features of this host that a run can use, each found by trying it, not from a version. Knows no scenario.

Changes nothing: groups, namespaces and processes that it makes to try are gone when it is.
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgeemu.host import cgroups, scratch
from edgeemu.host.available_memory import available_memory
from edgeemu.host.cgroup_mounts import hierarchies
from edgeemu.host.limits import ONE_THREAD
from edgeemu.host.owner import Owner
from edgeemu.host.timers import Scheduling, measure_lateness
from edgeemu.units import BYTE_RATE, DURATION, FLOP_RATE, SIZE

TRY_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Host:
    kernel: str
    python: str
    cores: int  # those that we may use
    memory_bytes: int
    memory_available_bytes: int
    blas: str
    blas_held_down: str  # why it is slower than it could be, and what to do; empty: nothing is known
    flops_per_s: float  # float32, of one core
    mem_bytes_per_s: float  # read by one core


@dataclass(frozen=True, slots=True)
class Caps:
    means: str  # cgroup v2, cgroup v1 or rlimit
    where: str  # the group in which groups are made
    mounted: list[str]  # hierarchies with a memory controller
    why: str  # there are no groups; empty: there are


@dataclass(frozen=True, slots=True)
class LinkSupport:
    """Support for links on this host. `kernel`, `hybrid`: reason why that backend does not work; "" if it does."""

    kernel: str
    hybrid: str
    namespaces: bool
    user_namespaces: bool
    missing: dict[str, str]


class Advice(NamedTuple):
    """Advice: the one command that would improve this host most; None if nothing is to gain or no command does it."""

    command: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Findings:
    host: Host
    caps: Caps
    scheduling: Scheduling
    links: LinkSupport

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "means": self.meaning(), "advice": self.advice()._asdict()}

    def advice(self) -> Advice:
        return advise(self, root=os.geteuid() == 0)

    def meaning(self) -> dict[str, str]:
        """Consequences of the findings for a scenario, by topic."""
        host = self.host
        caps = {
            "cgroup": f"{self.caps.means}: the kernel ends a device that takes more than its memory",
            "rlimit": "process limits: a device that asks for more than its memory gets an error",
        }[self.caps.means.split()[0]]
        late = DURATION.format_human(self.scheduling.late_p99_s)
        backend = "kernel" if not self.links.kernel else "hybrid" if not self.links.hybrid else "stamped"
        blas = {"BLAS": f"slower than it could be: {host.blas_held_down}"} if host.blas_held_down else {}
        why = {"kernel": "", "hybrid": self.links.kernel, "stamped": self.links.hybrid}[backend]
        return {
            "links": f"network.backend can be {backend}" + (f" ({why})" if why else ""),
            "memory caps": caps + (f" ({self.caps.why})" if self.caps.why else ""),
            "lag": f"{self.scheduling.used}; a sleep ends up to {late} late (p99, as busy as the host is now)",
            "speed": f"at dilation 1 a device may have up to {FLOP_RATE.format_human(host.flops_per_s)} and "
            f"{BYTE_RATE.format_human(host.mem_bytes_per_s)}, and {host.cores} compute at a time; more take a dilation",
            **blas,
            "memory": f"{SIZE.format_human(host.memory_available_bytes)} for the weights (float32) and caches of all "
            "devices together",
        }


def examine(probe_links: Callable[[], LinkSupport], on_step: Callable[[str], None]) -> Findings:
    """Try all features of the host that a run can use; takes 1-2 s. `on_step` is called with the name of each step."""
    on_step("links")
    links = probe_links()
    on_step("memory caps")
    caps = _caps()
    on_step("scheduling")
    scheduling = measure_lateness(time.monotonic, time.sleep)
    on_step("processor and memory")
    return Findings(_host(), caps, scheduling, links)


def _host() -> Host:
    os.environ.update(ONE_THREAD)  # as devices have it; before NumPy is imported
    from edgeemu_kernels.profile.blas import cpu_flags, held_down, loaded_blas
    from edgeemu_kernels.profile.host import measure

    blas = loaded_blas()
    speed = measure(time.thread_time)
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return Host(
        kernel=platform.release(),
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=int(memory["MemTotal"].split()[0]) * 1024,
        memory_available_bytes=available_memory().available_bytes,
        blas=str(blas),
        blas_held_down=held_down(blas, cpu_flags(), os.environ),
        flops_per_s=speed.gflops * 1e9,
        mem_bytes_per_s=speed.mem_bytes_per_s,
    )


def _caps() -> Caps:
    """Create a memory cgroup, limit it and move a process into it, as a run does."""
    mounted = [f"cgroup v{hierarchy.version} at {hierarchy.mount}" for hierarchy in hierarchies()]
    directory = scratch.create(os.getpid())
    try:
        group = cgroups.make_run_group(directory, Owner.of(os.getpid()))
        inner = group.make("0", TRY_BYTES)
        with subprocess.Popen([sys.executable, "-Sc", "input()"], stdin=subprocess.PIPE) as process:
            try:
                inner.add(process.pid)
            finally:
                process.communicate(b"\n")
        return Caps(f"cgroup v{group.version}", str(group.path.parent), mounted, "")
    except cgroups.NoGroupError as error:
        return Caps("rlimit", "", mounted, f"no cgroup: {error}")
    except OSError as error:
        return Caps("rlimit", "", mounted, f"no cgroup: {error.filename or 'adding a process'}: {error.strerror}")
    finally:
        cgroups.remove_recorded(directory)
        scratch.remove(directory)


# Advice. What costs most comes first: nothing real at all, then the kernel's modules, then caps, then priority


def advise(found: Findings, *, root: bool) -> Advice:
    """Select the command that improves this host most, for root or for an ordinary user."""
    weak = [not found.links.namespaces, found.caps.means == "rlimit", not found.scheduling.realtime]
    if not found.links.namespaces and (switch := _namespace_switch()):
        return Advice(switch, "an ordinary user may then make namespaces, which real links need")
    if not root and sum(weak) > 1:
        return Advice(
            'sudo "$(command -v edgeemu)" run SCENARIO', "root has real links, cgroups and real-time priority"
        )
    if "netem" in found.links.missing and _has_module("sch_netem"):
        return Advice(f"{'' if root else 'sudo '}modprobe sch_netem", "the kernel can then delay links (netem)")
    if found.caps.means == "rlimit" and not root and _has_systemd():
        return Advice(
            "systemd-run --user --scope -p Delegate=yes edgeemu run SCENARIO", "the run then has cgroups of its own"
        )
    if not found.scheduling.realtime and not root:
        return Advice("sudo prlimit --rtprio=1 --pid $$", "what this shell starts may then wait in real time")
    if "netem" in found.links.missing:
        return Advice(
            None, "this kernel lacks netem (CONFIG_NET_SCH_NETEM), without which `backend: kernel` is unavailable"
        )
    if found.caps.means == "rlimit":
        return Advice(None, "memory caps by cgroup need a memory controller that is mounted and may be written")
    if not found.scheduling.realtime:
        return Advice(None, "real-time priority is refused even to root: a container needs CAP_SYS_NICE for it")
    return Advice(None, "nothing is missing")


def _namespace_switch() -> str | None:
    """Setting by which a distribution keeps ordinary users from namespaces, if that is the cause."""
    for name, wanted in (
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
    ):
        file = Path("/proc/sys") / name.replace(".", "/")
        if file.exists() and file.read_text().strip() != wanted:
            return f"sudo sysctl -w {name}={wanted}"
    return None


def _has_systemd() -> bool:
    return shutil.which("systemd-run") is not None and Path("/run/systemd/system").is_dir()


def _has_module(name: str) -> bool:
    return any(Path(f"/lib/modules/{platform.release()}").rglob(f"{name}.ko*"))
