"""The controller's talk with its devices: requests out, answers in, failures raised. Knows no model and no policy."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import zmq
import zmq.asyncio

from edgeemu.cluster.cluster import Cluster
from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import EdgeemuError, InfeasibleError, RequestError, RunError
from edgeemu.host.fleet import DeviceExit, Fleet
from edgeemu.host.memory_caps import MemoryCaps
from edgeemu.links import messages
from edgeemu.links.netns import protocol
from edgeemu.links.netns.layout import DATA_PORT
from edgeemu.links.stamped import SharedPipes

Answer = TypeVar("Answer", bound=protocol_out.FromDevice | protocol.NetworkReady | protocol.Done)
Aside = protocol_out.Report | protocol_out.Token | protocol_out.Arrived | protocol_out.Opened

_SWITCHBOARD = b"switchboard"  # its identity on the socket; devices have numbers

ANSWER_TIMEOUT_S = 600.0  # a device that says nothing for so long, alive or not, has lost its way
_LAST_WORD_S = 0.2
_FAILURES: dict[str, type[EdgeemuError]] = {"out of memory": InfeasibleError, "model file": RequestError}


def _failure(failure: protocol_out.Failure | protocol.Failed) -> EdgeemuError:
    if isinstance(failure, protocol.Failed):
        return RunError(f"kernel links: {failure.message}")
    return _FAILURES.get(failure.kind, RunError)(f"{failure.name}: {failure.message}")


_Message = protocol_out.FromDevice | protocol.Answer | DeviceExit | messages.WireError


class Session:
    """The devices of one run, started and connected; an asynchronous context manager.

    Whatever is awaited here raises as soon as a device fails or dies. `on_aside` is given
    what comes unasked: tokens and reports of steps, arrivals of migrations, sequences that are open.
    """

    def __init__(
        self,
        cluster: Cluster,
        fleet: Fleet,
        pipes_fd: int,
        on_aside: Callable[[Aside], None],
        caps: MemoryCaps,
    ) -> None:
        self.cluster = cluster
        self.caps = caps
        self.resident_bytes: dict[str, int] = {}
        self.pids: list[int] = []  # of the devices
        self.scheduling = ""  # how devices wait for their instants, in their words
        self.pipes = SharedPipes(pipes_fd, cluster.n_pipes)
        self._pipes_fd = pipes_fd
        self._fleet = fleet
        self._on_aside = on_aside
        self._held: dict[str, dict[str, int]] = {}  # by device, the last page of its ledger
        self._context = zmq.asyncio.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._inbox: asyncio.Queue[_Message] = asyncio.Queue()
        self._pumps: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._control.bind(self.control_address)
        self._pumps = [asyncio.create_task(self._pump_messages()), asyncio.create_task(self._pump_exits())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._control.close(linger=0)
        self._context.term()

    def address(self, device: int) -> str:
        """Where a device listens for data."""
        return self._address(f"d{device}")

    @property
    def control_address(self) -> str:
        """Where this end listens."""
        return self._address("control")

    async def start_devices(self, links: str, on_progress: Callable[[int, int], None]) -> None:
        """Forks a process for every device, with these links, and waits until each has said hello."""
        devices = self.cluster.devices
        for device in devices:
            compute = device.compute
            spec = protocol_in.DeviceConfig(
                index=device.index,
                name=device.name,
                control=self.control_address,
                # In a network namespace of its own, where it has no address yet.
                address=self.address(device.index) if links == "stamped" else f"tcp://*:{DATA_PORT}",
                memory_bytes=device.memory_bytes,
                flops_per_s=compute.flops_per_s if compute else None,
                mem_bytes_per_s=compute.mem_bytes_per_s if compute else None,
                overhead_s=device.overhead_s,
                host_fraction=device.host_fraction,
                seed=self.cluster.seed,
                pipes_fd=self._pipes_fd,
                n_pipes=self.cluster.n_pipes,
                links=links,
                availability=device.availability,
                memory_availability=device.memory_availability,
            )
            self.pids.append(await self._fleet.fork(device.name, codec.encode(spec)))
        for done in range(1, len(devices) + 1):
            hello = await self.receive(protocol_out.Hello)
            self.resident_bytes[hello.name] = hello.resident_bytes
            self.scheduling = hello.scheduling
            self._cap(hello)
            on_progress(done, len(devices))

    def _cap(self, hello: protocol_out.Hello) -> None:
        """Before it is given anything to hold. One that is gone already has its exit in the inbox."""
        device = next(device for device in self.cluster.devices if device.name == hello.name)
        pid = self._fleet.alive.get(hello.name)
        if pid is not None:
            self.caps.cap(hello.name, device.index, pid, hello.resident_bytes, device.memory_bytes)
        if self.caps.cost_realtime:
            self.scheduling = "timer slack 1 ns; no real-time priority (this kernel has none in control groups)"

    async def tell(self, device: int, request: protocol_in.ToDevice) -> None:
        await self._control.send_multipart([str(device).encode(), codec.encode(request)])

    async def tell_switchboard(self, request: bytes) -> None:
        await self._control.send_multipart([_SWITCHBOARD, request])

    async def ask_all(
        self, requests: Sequence[protocol_in.ToDevice], on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Sends each device its request, in the order of the cluster, and waits until all are done."""
        for device, request in enumerate(requests):
            await self.tell(device, request)
        for done in range(1, len(requests) + 1):
            await self.receive(protocol_out.Ready)
            if on_progress is not None:
                on_progress(done, len(requests))

    async def receive(self, kind: type[Answer]) -> Answer:
        """The next message of that kind. What devices say unasked before it is passed on.

        Raises: as `receive_within`; RunError, where no device said anything for ten minutes.
        """
        answer = await self.receive_within(kind, None)
        assert answer is not None
        return answer

    async def receive_within(self, kind: type[Answer], limit_s: float | None) -> Answer | None:
        """The same, or None if there is none within so many seconds of the wall clock.

        Raises:
            InfeasibleError: a device ran out of memory, by its own account or the kernel's.
            RequestError: a model file cannot be read.
            RunError: a device died, broke the protocol, or said nothing for ten minutes.
        """
        deadline_s = None if limit_s is None else asyncio.get_running_loop().time() + limit_s
        while True:
            left_s = ANSWER_TIMEOUT_S if deadline_s is None else deadline_s - asyncio.get_running_loop().time()
            message = await self._next(min(left_s, ANSWER_TIMEOUT_S))
            if message is None and deadline_s is not None:
                return None
            if message is None:
                raise RunError(f"no device has said anything for {ANSWER_TIMEOUT_S:.0f} s")
            if isinstance(message, kind):
                return message
            match message:
                case protocol_out.Report() | protocol_out.Token() | protocol_out.Arrived() | protocol_out.Opened():
                    self._on_aside(message)
                case protocol_out.Failure(kind="link"):
                    raise await self._cause(message)
                case protocol_out.Failure() | protocol.Failed():
                    raise _failure(message)
                case messages.WireError():
                    raise message
                case DeviceExit() if self._stopping and message.status == 0:
                    continue  # its last word is on the way by another socket
                case DeviceExit():
                    raise await self._why(message)
                case _:
                    who = getattr(message, "name", "the switchboard")
                    raise RunError(f"expected {kind.__name__}, but {who} sent {message}")

    async def stop_devices(self) -> list[protocol_out.Bye]:
        """Ends all devices; returns their last words."""
        self._stopping = True
        for device in range(len(self.cluster.devices)):
            await self.tell(device, protocol_in.Stop())
        return [await self.receive(protocol_out.Bye) for _ in self.cluster.devices]

    async def _next(self, timeout_s: float) -> _Message | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._inbox.get()
        except TimeoutError:
            return None

    async def _cause(self, lost: protocol_out.Failure) -> EdgeemuError:
        """A lost connection is what the others see of a device that dies: what that one said last, or how it died."""
        while (message := await self._next(_LAST_WORD_S)) is not None:
            if isinstance(message, protocol_out.Failure) and message.kind != "link":
                return _failure(message)
            if isinstance(message, DeviceExit) and message.status != 0:
                return await self._why(message)
        return _failure(lost)

    async def _why(self, ended: DeviceExit) -> EdgeemuError:
        """What a dead device said last, which may come after the news of its death, or else how it died."""
        while (message := await self._next(_LAST_WORD_S)) is not None:
            if isinstance(message, protocol_out.Failure) and message.name == ended.name:
                return _failure(message)
        if (why := self.caps.why_killed(ended.name, ended.status, self._held.get(ended.name, {}))) is not None:
            return InfeasibleError(why)
        return RunError(self._fleet.explain(ended))

    def _address(self, name: str) -> str:
        return f"ipc://{self._fleet.directory}/{name}"

    async def _pump_messages(self) -> None:
        while True:
            identity, frame = await self._control.recv_multipart()
            decode = protocol.decode_answer if identity == _SWITCHBOARD else codec.decode_for_controller
            try:
                message = decode(frame)
            except messages.WireError as error:
                self._inbox.put_nowait(error)  # whoever waits for a message gets it
                continue
            if isinstance(message, protocol_out.Ready | protocol_out.Opened | protocol_out.Report):
                self._held[message.name] = message.held
            self._inbox.put_nowait(message)

    async def _pump_exits(self) -> None:
        while True:
            self._inbox.put_nowait(await self._fleet.exits.get())
