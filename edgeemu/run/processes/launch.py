"""The launch of device processes: fork, cap their memory, connect them; and the facts that are known by then."""

import gc
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import EdgeemuError, InfeasibleError, RunError
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.fleet import DEVICE_ENTRY, Fleet
from edgeemu.host.limits import fit_devices
from edgeemu.host.memory_caps import ALL_MEANS, MemoryCaps
from edgeemu.links.netns.layout import DATA_PORT
from edgeemu.links.stamped import SharedPipes, create_shared_pipes
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.processes.link_setup import LinkSetup
from edgeemu.run.processes.session import Session, Unasked
from edgeemu_kernels.compiled_sizes import compiled_modules
from edgeemu_kernels.precision import Precision
from edgeemu_kernels.shape import ModelShape

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
    scheduling: str = ""  # how devices wait for their instants, in their words
    pids: list[int] = field(default_factory=list)
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

    async def start(
        self, cluster: Cluster, pipes_fd: int, reads: tuple[str, ...], on_progress: Callable[[int, int], None]
    ) -> None:
        """Fork a process for every device, wait until each has said hello, and cap its memory."""
        for device in cluster.devices:
            config = self._config(device, cluster, pipes_fd, reads)
            self.pids.append(await self.fleet.fork(device.name, codec.encode(config)))
        devices = {device.name: device for device in cluster.devices}
        for done in range(1, len(devices) + 1):
            hello = await self.session.receive(protocol_out.Hello)
            self.baseline_bytes[hello.name] = hello.resident_bytes
            self.scheduling = hello.scheduling
            self._cap(devices[hello.name], hello.resident_bytes)
            on_progress(done, len(devices))

    def spare_collections(self) -> None:
        """Keep Python's collections from looking at what planning has made: one would stop the run for some 50 ms.

        Not after a last one: that takes as long, or a second where much is in memory, and what it frees is little.
        """
        gc.freeze()

    def _config(
        self, device: Device, cluster: Cluster, pipes_fd: int, reads: tuple[str, ...]
    ) -> protocol_in.DeviceConfig:
        compute, kind = device.compute, self.links.choice.kind
        return protocol_in.DeviceConfig(
            index=device.index,
            name=device.name,
            control=self.session.control_address,
            requests=self.session.requests_address(device.index),
            # Kernel links: in a network namespace of its own, where the device has no address yet.
            address=self.session.address(device.index) if kind == "stamped" else f"tcp://*:{DATA_PORT}",
            memory_bytes=device.memory_bytes,
            flops_per_s=compute.flops_per_s if compute else None,
            mem_bytes_per_s=compute.mem_bytes_per_s if compute else None,
            overhead_s=device.overhead_s,
            message_s=device.message_overhead_s,
            byte_s=device.byte_overhead_s,
            host_fraction=device.host_fraction,
            seed=cluster.seed,
            pipes_fd=pipes_fd,
            n_pipes=cluster.n_pipes,
            links=kind,
            availability=device.availability,
            memory_availability=device.memory_availability,
            reads=reads,
        )

    def _cap(self, device: Device, baseline_bytes: int) -> None:
        """Cap a device before it is given anything to hold. The exit of one that is gone is reported elsewhere."""
        pid = self.fleet.alive.get(device.name)
        if pid is not None:
            self.caps.cap(
                device.name, device.index, pid, baseline_bytes, self.precision.held_bytes(device.memory_bytes)
            )
        if self.caps.cost_realtime:
            self.scheduling = "timer slack 1 ns; no real-time priority (this kernel has none in control groups)"


@asynccontextmanager
async def launch_devices(
    cluster: Cluster,
    choice: LinkChoice,
    settings: LaunchSettings,
    reads: tuple[str, ...],
    shape: ModelShape,
    on_unasked: Callable[[Unasked], None],
    on_progress: Callable[[int, int], None],
) -> AsyncIterator[LaunchedDevices]:
    """Launch a process for every device, which `reads` these files; nothing is left of them when the block ends.

    Kernels for this shape and its formats are compiled once, before devices are forked.

    Raises:
        RunError: this process may open fewer files than that needs.
    """
    fit_devices(len(cluster.devices))
    pipes_fd = create_shared_pipes(cluster.n_pipes)
    try:
        on_progress(0, len(cluster.devices))
        prepare = (PREPARE_ENTRY, json.dumps([compiled_modules(shape), shape.precision.packed]))
        async with Fleet(settings.entry, (pipes_fd,), user_namespace=choice.rootless, prepare=prepare) as fleet:
            caps = MemoryCaps(fleet.directory, os.getpid(), settings.cap_means)
            explain = partial(_explain, fleet, caps)
            async with Session(
                fleet.directory, fleet.exits, len(cluster.devices), on_unasked, explain, lambda: fleet.processes
            ) as session:
                links = LinkSetup(choice, cluster, fleet, session)
                devices = LaunchedDevices(
                    fleet, session, links, SharedPipes(pipes_fd, cluster.n_pipes), caps, shape.precision
                )
                await devices.start(cluster, pipes_fd, reads, on_progress)
                yield devices
    finally:
        gc.unfreeze()
        os.close(pipes_fd)


def _explain(fleet: Fleet, caps: MemoryCaps, ended: DeviceExit, held: dict[str, int]) -> EdgeemuError:
    """Return the error for a process that died; `held` is the last page of its ledger."""
    if (why := caps.why_killed(ended.name, ended.status, held)) is not None:
        return InfeasibleError(why)
    return RunError(fleet.explain(ended))
