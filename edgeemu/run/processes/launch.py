"""The launch of device processes: fork, cap their memory, connect them; and the facts that are known by then."""

import asyncio
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import EdgeemuError, InfeasibleError, RunError
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.fleet import DEVICE_ENTRY, Fleet
from edgeemu.host.limits import fit_devices
from edgeemu.host.memory_caps import ALL_MEANS, MemoryCaps
from edgeemu.host.owner import process_state
from edgeemu.host.stopped import is_stopped
from edgeemu.links.stamped import SharedPipes, create_shared_pipes
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.processes.link_setup import LinkSetup
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session, Unasked
from edgeemu_kernels.compiled_sizes import compiled_formats, compiled_modules
from edgeemu_kernels.precision import Precision
from edgeemu_kernels.shape import ModelShape

_LOOK_AGAIN_S = 1e-3  # whether a process has ended, or is stopped
_ENDED = ("Z", "X")  # proc_pid_stat(5)
PREPARE_ENTRY = "edgeemu.device.process:prepare_kernels"


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """Entry function of device processes, and the means by which their memory may be capped, the best first."""

    entry: str = DEVICE_ENTRY
    cap_means: tuple[str, ...] = ALL_MEANS


DEFAULT_LAUNCH = LaunchSettings()


@dataclass(slots=True)
class LaunchedDevices:
    """Device processes that have said hello, with the links between them."""

    fleet: Fleet
    session: Session
    links: LinkSetup
    pipes: SharedPipes
    caps: MemoryCaps
    precision: Precision
    pipes_fd: int
    reads: tuple[str, ...]
    survives: bool  # the loss of a device
    scheduling: str = ""  # how devices wait for their instants, in their words
    pids: dict[int, int] = field(default_factory=dict)  # of the processes that devices began with
    baseline_bytes: dict[str, int] = field(default_factory=dict)  # resident, before any weights

    @property
    def facts(self) -> dict[str, str]:
        """Memory cap and scheduling that the host allows, for meta.json."""
        return {"memory_cap": self.caps.described, "scheduling": self.scheduling}

    def limitations(self, *, realtime: bool) -> list[str]:
        """Return what this host does not allow, of what would make a run more exact."""
        slow = realtime and "no real-time priority" in self.scheduling
        expanded = "devices compute from float32 copies of their matrices, beyond their memory (precision.hold)"
        found = [
            self.caps.weaker,
            "devices wait without real-time priority" if slow else "",
            self.links.limitation,
            expanded if self.precision.expanded else "",
        ]
        return [text for text in found if text]

    async def start(self, cluster: Cluster, on_progress: Callable[[int, int], None]) -> None:
        """Fork a process for every device that is there, wait until each has said hello, and cap its memory."""
        devices = {device.index: device for device in cluster.devices if device.index not in cluster.faults.absent}
        for device in devices.values():
            self.pids[device.index] = await self._fork(device, cluster)
        for number, hello in (await self.session.answers(protocol_out.Hello, devices, on_progress)).items():
            self._greet(devices[number], hello)

    async def restart(self, device: Device, cluster: Cluster) -> None:
        """Fork a process for a device that is not there, as at the start."""
        self.links.replace(device.index)
        await self._fork(device, cluster)
        for hello in (await self.session.answers(protocol_out.Hello, [device.index])).values():
            self._greet(device, hello)

    async def end(self, device: Device) -> None:
        """Kill a device's process, if it is there; return when it has ended, and nothing of it is left."""
        self.kill(device.name)
        while device.name in self.fleet.alive:
            await asyncio.sleep(_LOOK_AGAIN_S)
        self.session.take_leave(device.index)

    def kill(self, name: str) -> None:
        """Kill a device's process; its exit follows."""
        self.fleet.send_signal(name, signal.SIGKILL)

    async def stop(self, device: Device) -> None:
        """Stop a device's process, while it does not keep others from their links."""
        with self.pipes.locked():
            self.fleet.send_signal(device.name, signal.SIGSTOP)
            pid = self.fleet.alive.get(device.name)
            while pid is not None and not is_stopped(pid) and process_state(pid) not in _ENDED:
                await asyncio.sleep(_LOOK_AGAIN_S / 10)

    def go_on(self, device: Device) -> None:
        """Have a device's process go on."""
        self.fleet.send_signal(device.name, signal.SIGCONT)

    async def _fork(self, device: Device, cluster: Cluster) -> int:
        pid = await self.fleet.fork(device.name, codec.encode(self._config(device, cluster)))
        self.session.presence.joined(device.index, pid)
        return pid

    def _greet(self, device: Device, hello: protocol_out.Hello) -> None:
        self.baseline_bytes[hello.name] = hello.resident_bytes
        self.scheduling = hello.scheduling
        self._cap(device, hello.resident_bytes)

    def spare_collections(self) -> None:
        """Keep Python's collections from looking at what planning has made: one would stop the run for some 50 ms.

        Not after a last one: that takes as long, or a second where much is in memory, and what it frees is little.
        """
        gc.freeze()

    def _config(self, device: Device, cluster: Cluster) -> protocol_in.DeviceConfig:
        index, kind = device.index, self.links.choice.kind
        sockets = DeviceSockets(
            control=self.session.control_address,
            requests=self.session.requests_address(index),
            address=self.links.listens_at(index),
            pipes_fd=self.pipes_fd,
            namespace=self.links.namespace(index),
        )
        return device_config(device, cluster, sockets, links=kind, reads=self.reads, survives=self.survives)

    def _cap(self, device: Device, baseline_bytes: int) -> None:
        """Cap a device before it is given anything to hold. The exit of one that is gone is reported elsewhere."""
        pid = self.fleet.alive.get(device.name)
        if pid is not None:
            self.caps.cap(
                device.name, device.index, pid, baseline_bytes, self.precision.held_bytes(device.memory_bytes)
            )
        if self.caps.cost_realtime:
            self.scheduling = "timer slack 1 ns; no real-time priority (this kernel has none in control groups)"


class DeviceSockets(NamedTuple):
    """Addresses of the controller and of a device, for requests and for data, and what its links need beside them."""

    control: str
    requests: str
    address: str
    pipes_fd: int
    namespace: str = ""


def device_config(
    device: Device,
    cluster: Cluster,
    sockets: DeviceSockets,
    *,
    links: Literal["stamped", "kernel", "hybrid"] = "stamped",
    reads: tuple[str, ...] = (),
    survives: bool = True,
) -> protocol_in.DeviceConfig:
    """Make the settings of a device. `reads`: files of the model; `survives`: it goes on when others are lost."""
    compute = device.compute
    return protocol_in.DeviceConfig(
        index=device.index,
        name=device.name,
        control=sockets.control,
        requests=sockets.requests,
        address=sockets.address,
        memory_bytes=device.memory_bytes,
        flops_per_s=compute.flops_per_s if compute else None,
        mem_bytes_per_s=compute.mem_bytes_per_s if compute else None,
        overhead_s=device.overhead_s,
        message_s=device.message_overhead_s,
        byte_s=device.byte_overhead_s,
        host_fraction=device.host_fraction,
        seed=cluster.seed,
        pipes_fd=sockets.pipes_fd,
        n_pipes=cluster.n_pipes,
        links=links,
        namespace=sockets.namespace,
        availability=device.availability,
        memory_availability=device.memory_availability,
        reads=reads,
        survives=survives,
    )


@asynccontextmanager
async def launch_devices(
    cluster: Cluster,
    choice: LinkChoice,
    settings: LaunchSettings,
    reads: tuple[str, ...],
    shape: ModelShape,
    on_unasked: Callable[[Unasked], None],
    on_progress: Callable[[int, int], None],
    *,
    survives: bool = False,
) -> AsyncIterator[LaunchedDevices]:
    """Launch a process for every device, which `reads` these files; nothing is left of them when the block ends.

    Kernels for this shape and its formats are compiled once, before devices are forked. `survives`: they go on when one
    of them is lost.

    Raises:
        RunError: this process may open fewer files than that needs.
    """
    fit_devices(len(cluster.devices))
    pipes_fd = create_shared_pipes(cluster.n_pipes)
    try:
        on_progress(0, len(cluster.devices))
        modules = [*compiled_modules(shape), *([] if reads else ["numpy.random"])]  # that draws weights of no file
        prepare = (PREPARE_ENTRY, json.dumps([modules, compiled_formats(shape)]))
        async with Fleet(settings.entry, (pipes_fd,), user_namespace=choice.rootless, prepare=prepare) as fleet:
            caps = MemoryCaps(fleet.directory, os.getpid(), settings.cap_means)
            explain = partial(_explain, fleet, caps)
            presence = Presence([device.name for device in cluster.devices], cluster.faults.absent)
            async with Session(
                fleet.directory, fleet.exits, presence, on_unasked, explain, lambda: fleet.processes
            ) as session:
                links, pipes = LinkSetup(choice, cluster, fleet, session), SharedPipes(pipes_fd, cluster.n_pipes)
                devices = LaunchedDevices(
                    fleet, session, links, pipes, caps, shape.precision, pipes_fd, reads, survives
                )
                await devices.start(cluster, on_progress)
                yield devices
    finally:
        gc.unfreeze()
        os.close(pipes_fd)


def _explain(fleet: Fleet, caps: MemoryCaps, ended: DeviceExit, held: dict[str, int]) -> EdgeemuError:
    """Return the error for a process that died; `held` is the last page of its ledger."""
    if (why := caps.why_killed(ended.name, ended.status, held)) is not None:
        return InfeasibleError(why)
    return RunError(fleet.explain(ended))
