"""Devices of a run in the memory of one process, behind the real backend: kernels, protocol and controller are real.

What device processes do with sockets is done by lists, in an order that a seed draws: messages between two devices, and
from a device to the controller, keep their order, and any others may overtake each other. Time is virtual.
"""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Device
from edgeemu.device import codec
from edgeemu.device.device import EmulatedDevice
from edgeemu.device.instructions import (
    BeginTimeline,
    ChunkSent,
    Connect,
    Event,
    Instruction,
    Leave,
    OperationRan,
    RunOperation,
    Send,
    SendChunk,
    SendProbes,
    SleepUntil,
    Tell,
    Tick,
    Woke,
)
from edgeemu.device.link_probe import probe_messages
from edgeemu.device.protocol_out import Hello
from edgeemu.errors import EdgeemuError
from edgeemu.links.messages import Data, ShipmentChunk, decode_frames, encode_chunk, encode_data
from edgeemu.run.processes import backend
from edgeemu.run.processes.launch import DeviceSockets, device_config
from edgeemu.run.processes.presence import Presence
from edgeemu.run.processes.session import Session, Unasked

_Message = Data | ShipmentChunk
NO_ADDRESS = "nowhere"
NOWHERE = DeviceSockets(NO_ADDRESS, NO_ADDRESS, NO_ADDRESS, pipes_fd=-1)


class MemoryNetwork:
    """Devices by their numbers, and what is on its way between them."""

    def __init__(self, seed: int) -> None:
        self.devices: dict[int, EmulatedDevice] = {}
        self.tell: Callable[[bytes], None]  # the controller
        self._draw = random.Random(seed)
        self._flying: dict[tuple[int, int], deque[_Message]] = defaultdict(deque)  # by sender and receiver
        self._requests: dict[int, deque[bytes]] = defaultdict(deque)  # by device

    def request(self, device: int, frame: bytes) -> None:
        """Put a request of the controller on its way."""
        if device in self.devices:
            self._requests[device].append(frame)

    def remove(self, device: int) -> None:
        """Take a device away, with what it has sent and what comes to it."""
        self.devices.pop(device, None)
        self._requests.pop(device, None)
        for ends in [ends for ends in self._flying if device in ends]:
            del self._flying[ends]

    def run_some(self) -> bool:
        """Have something happen that can. Return whether anything could."""
        due: list[Callable[[], None]] = []
        for device, frames in self._requests.items():
            if frames:
                due.append(partial(self._take_request, device, frames))
        for (_, target), messages in self._flying.items():
            if messages:
                due.append(partial(self._take_message, target, messages))
        for number, device in self.devices.items():
            if device.has_ready or device.due_s is not None:
                due.append(partial(self._handle, number, Tick(inf)))
        if due:
            self._draw.choice(due)()
        return bool(due)

    def _take_request(self, device: int, frames: deque[bytes]) -> None:
        self._handle(device, codec.decode_for_device(frames.popleft()))

    def _take_message(self, target: int, messages: deque[_Message]) -> None:
        self._handle(target, messages.popleft())

    def _handle(self, number: int, event: Event) -> None:
        device = self.devices.get(number)
        if device is None:
            return
        todo = deque(device.handle(event))
        while todo:
            outcome = self._carry_out(number, device, todo.popleft())
            if outcome is not None:
                todo.extendleft(reversed(device.handle(outcome)))

    def _carry_out(self, number: int, device: EmulatedDevice, instruction: Instruction) -> Event | None:
        match instruction:
            case Tell(message):
                self.tell(codec.encode(message))
            case Send(message, targets):
                for target in targets:
                    self._send(number, target, encode_data(message))
            case SendChunk(chunk, _, target, _):
                self._send(number, target, encode_chunk(chunk))
                return ChunkSent(0.0)
            case SendProbes(request):
                for message in probe_messages(request, number, 0.0):
                    self._send(number, request.peer.device, encode_data(message))
            case RunOperation(ready, _):
                return OperationRan(device.run(ready), 0.0, Woke(0.0, False, 0.0))
            case Leave(message):
                self.tell(codec.encode(message))
                self.remove(number)
            case Connect() | BeginTimeline():
                pass
            case SleepUntil():
                raise AssertionError("nothing is paced")
        return None

    def _send(self, source: int, target: int, frames: Any) -> None:
        if target in self.devices:
            self._flying[source, target].append(decode_frames([bytes(frame) for frame in frames]))


class MemorySession(Session):
    """A session whose devices are in memory. Where something is awaited, something happens."""

    def __init__(self, network: MemoryNetwork, presence: Presence, on_unasked: Callable[[Unasked], None]) -> None:
        super().__init__(Path(NO_ADDRESS), asyncio.Queue(), presence, on_unasked, lambda *_: EdgeemuError("it died"))
        self._network = network
        network.tell = lambda frame: self._add(codec.decode_for_controller(frame))

    async def __aenter__(self) -> "MemorySession":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def _send(self, address: str, frame: bytes) -> None:
        self._network.request(int(address.rpartition("r")[2]), frame)

    def _read_all(self) -> None: ...

    async def _next(self, timeout_s: float, awaited: type[object]) -> Any:
        while not self._inbox:
            if not self._network.run_some():
                assert timeout_s < inf, f"{awaited.__name__} is awaited, and nothing can happen any more"
                return None
        return self._inbox.popleft()

    def take_leave(self, device: int) -> str:
        name = self.presence.names[device]
        said = [message for message in self._inbox if getattr(message, "name", "") == name]
        for message in said:
            self._inbox.remove(message)
            if isinstance(message, Unasked):
                self._on_unasked(message)
        self.presence.left(device)
        return ""


class _NoLinks:
    """Links that need no address and no process."""

    shaped = False

    def address(self, device: int) -> str:
        return f"{NO_ADDRESS}/{device}"

    async def build(self, *_: object) -> None: ...
    async def change(self, *_: object) -> None: ...
    async def end(self) -> None: ...


class _NoCaps:
    def peaks_bytes(self) -> dict[str, int | None]:
        return {}

    def release(self, name: str) -> None: ...


@dataclass
class _NoFleet:
    alive: Mapping[str, int] = field(default_factory=dict)


class MemoryLaunch:
    """Stand-in for `LaunchedDevices`, without processes."""

    facts: Mapping[str, str] = {}

    def __init__(self, network: MemoryNetwork, session: MemorySession) -> None:
        self.session, self.links, self.caps, self.fleet = session, _NoLinks(), _NoCaps(), _NoFleet()
        self.pids: list[int] = []
        self.baseline_bytes: dict[str, int] = {}
        self._network = network

    def limitations(self, *, realtime: bool) -> list[str]:
        assert not realtime
        return []

    async def start(self, cluster: Cluster) -> None:
        for device in cluster.devices:
            if device.index not in cluster.faults.absent:
                await self.restart(device, cluster)

    async def restart(self, device: Device, cluster: Cluster) -> None:
        self._network.devices[device.index] = EmulatedDevice(device_config(device, cluster, NOWHERE))
        self.session.presence.joined(device.index, 0)
        self._network.tell(codec.encode(Hello(device.name, 0)))
        await self.session.answers(Hello, [device.index])

    async def end(self, device: Device) -> None:
        self._network.remove(device.index)
        self.session.take_leave(device.index)

    def go_on(self, device: Device) -> None: ...

    def kill(self, name: str) -> None:
        raise AssertionError(f"{name} is nobody's to be looked at")


def use_memory(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Have backends launch devices in memory, whose messages arrive in an order that the seed draws."""

    @asynccontextmanager
    async def launch(
        cluster: Cluster,
        _choice: object,
        _settings: object,
        _reads: object,
        _shape: object,
        on_unasked: Any,
        *_: object,
        **__: object,
    ) -> AsyncIterator[MemoryLaunch]:
        network = MemoryNetwork(seed)
        presence = Presence([device.name for device in cluster.devices], cluster.faults.absent)
        async with MemorySession(network, presence, on_unasked) as session:
            launched = MemoryLaunch(network, session)
            await launched.start(cluster)
            yield launched

    monkeypatch.setattr(backend, "launch_devices", launch)
