"""The controller's socket to its devices: requests out, answers in, failures raised. Knows no model and no policy."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import zmq

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import EdgeemuError, InfeasibleError, RequestError, RunError
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.stopped import LOOK_EVERY_S, StopWatch, what_they_do
from edgeemu.links import messages
from edgeemu.links.connections import is_readable
from edgeemu.links.netns import protocol

Answer = TypeVar("Answer", bound=protocol_out.FromDevice | protocol.NetworkReady | protocol.Done)
Unasked = (
    protocol_out.Report
    | protocol_out.Token
    | protocol_out.Arrived
    | protocol_out.Opened
    | protocol_out.Probed
    | protocol_out.TransfersHandled
)

_NETWORK_PROCESS = b"switchboard"  # its identity on the socket; devices have numbers

ANSWER_TIMEOUT_S = 600.0  # a run in which no device sends anything for so long will not go on
_LAST_MESSAGE_S = 0.2
_FAILURES: dict[str, type[EdgeemuError]] = {"out of memory": InfeasibleError, "model file": RequestError}


def _failure(failure: protocol_out.Failure | protocol.Failed) -> EdgeemuError:
    if isinstance(failure, protocol.Failed):
        return RunError(f"kernel links: {failure.message}")
    return _FAILURES.get(failure.kind, RunError)(f"{failure.name}: {failure.message}")


_Message = protocol_out.FromDevice | protocol.Answer | DeviceExit | messages.WireError


class Session:
    """The devices of one run, started and connected; an asynchronous context manager.

    Everything awaited here raises as soon as a device fails or dies. `on_unasked` takes messages that answer no
    request: tokens and reports of steps, arrivals of migrations and of test messages, sequences that are open.
    `explain` returns the error for a process that died, given the last page of its ledger. `processes` are looked at
    when nothing arrives.
    """

    def __init__(
        self,
        directory: Path,
        exits: "asyncio.Queue[DeviceExit]",
        n_devices: int,
        on_unasked: Callable[[Unasked], None],
        explain: Callable[[DeviceExit, dict[str, int]], EdgeemuError],
        processes: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._directory = directory
        self._exits = exits
        self._n_devices = n_devices
        self._on_unasked = on_unasked
        self._explain = explain
        self._processes = processes
        self._watch = StopWatch()
        self._held: dict[str, dict[str, int]] = {}  # by device, the last page of its ledger
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._descriptor = int(self._control.FD)
        self._inbox: asyncio.Queue[_Message] = asyncio.Queue()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._control.bind(self.control_address)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        self._pump = asyncio.create_task(self._pump_exits())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._control.close(linger=0)
        self._context.term()

    def address(self, device: int) -> str:
        """Return where a device listens for data."""
        return self._address(f"d{device}")

    @property
    def control_address(self) -> str:
        """Where the controller listens."""
        return self._address("control")

    async def send(self, device: int, request: protocol_in.ToDevice) -> None:
        """Send a device a request."""
        self._send(str(device).encode(), codec.encode(request))

    async def send_to_network_process(self, request: bytes) -> None:
        """Send a request to the process that shapes kernel links."""
        self._send(_NETWORK_PROCESS, request)

    async def ask(
        self, requests: Mapping[int, protocol_in.ToDevice], on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Send requests by device, and wait until all are done."""
        for device, request in requests.items():
            await self.send(device, request)
        for done in range(1, len(requests) + 1):
            await self.receive(protocol_out.Ready)
            if on_progress is not None:
                on_progress(done, len(requests))

    async def send_all(self, request: protocol_in.ToDevice) -> None:
        """Send every device a request."""
        for device in range(self._n_devices):
            await self.send(device, request)

    async def ask_all(self, request: protocol_in.ToDevice) -> None:
        """Send every device a request, and wait until all are done."""
        await self.ask(dict.fromkeys(range(self._n_devices), request))

    async def handle_next(self, kind: type[Unasked]) -> None:
        """Wait for the next message of a kind, and hand it to `on_unasked`."""
        self._on_unasked(await self.receive(kind))

    async def receive(self, kind: type[Answer]) -> Answer:
        """Return the next message of a kind. Messages that answer no request are handed on meanwhile.

        Raises:
            InfeasibleError: a device ran out of memory, by its own account or the kernel's.
            RequestError: a model file cannot be read.
            RunError: a device died, is stopped, broke the protocol, or no device sent anything for ten minutes.
        """
        while True:
            message = await self._next(ANSWER_TIMEOUT_S)
            if message is None:
                does = what_they_do(self._processes())
                raise RunError(f"no device has sent anything for {ANSWER_TIMEOUT_S:.0f} s: {does}")
            if isinstance(message, kind):
                return message
            await self._handle(message, kind)

    async def receive_within(self, kind: type[Answer], limit_s: float) -> Answer | None:
        """Return the next message of a kind, or None if there is none within so many seconds of the wall clock.

        Raises: as `receive`.
        """
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while True:
            message = await self._next(deadline_s - asyncio.get_running_loop().time())
            if message is None or isinstance(message, kind):
                return message
            await self._handle(message, kind)

    async def _handle(self, message: _Message, awaited: type[Answer]) -> None:
        """Hand a message on that was not awaited, or raises what it means."""
        match message:
            case (
                protocol_out.Report()
                | protocol_out.Token()
                | protocol_out.Arrived()
                | protocol_out.Opened()
                | protocol_out.Probed()
                | protocol_out.TransfersHandled()
            ):
                self._on_unasked(message)
            case protocol_out.Failure(kind="link"):
                raise await self._cause_of(message)
            case protocol_out.Failure() | protocol.Failed():
                raise _failure(message)
            case messages.WireError():
                raise message
            case DeviceExit() if self._stopping and message.status == 0:
                pass  # its last message is on the way by another socket
            case DeviceExit():
                raise await self._error_of(message)
            case _:
                sender = getattr(message, "name", "the network process")
                raise RunError(f"expected {awaited.__name__}, but {sender} sent {message}")

    async def stop_devices(self) -> list[protocol_out.Bye]:
        """End all devices; return their last messages."""
        self._stopping = True
        await self.send_all(protocol_in.Stop())
        return [await self.receive(protocol_out.Bye) for _ in range(self._n_devices)]

    async def _next(self, timeout_s: float) -> _Message | None:
        """Return the next message, or None if there is none in time. Processes are looked at meanwhile.

        Raises:
            RunError: one of them is stopped.
        """
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        while True:
            try:
                async with asyncio.timeout(min(timeout_s, LOOK_EVERY_S)):
                    return await self._inbox.get()
            except TimeoutError:
                timeout_s -= LOOK_EVERY_S
                if timeout_s <= 0:
                    return None
            if why := self._watch.look(self._processes()):
                raise RunError(why)

    async def _cause_of(self, lost: protocol_out.Failure) -> EdgeemuError:
        """Return why a connection was lost: the failure or death of the device at its other end, if one follows."""
        while (message := await self._next(_LAST_MESSAGE_S)) is not None:
            if isinstance(message, protocol_out.Failure) and message.kind != "link":
                return _failure(message)
            if isinstance(message, DeviceExit) and message.status != 0:
                return await self._error_of(message)
        return _failure(lost)

    async def _error_of(self, ended: DeviceExit) -> EdgeemuError:
        """Return why a device ended: its last message, which may arrive after the news, or how its process died."""
        while (message := await self._next(_LAST_MESSAGE_S)) is not None:
            if isinstance(message, protocol_out.Failure) and message.name == ended.name:
                return _failure(message)
        return self._explain(ended, self._held.get(ended.name, {}))

    def _address(self, name: str) -> str:
        return f"ipc://{self._directory}/{name}"

    def _send(self, identity: bytes, frame: bytes) -> None:
        """Send a message; a socket with identities never waits. Sending may use up what announces an arrival."""
        self._control.send_multipart([identity, frame], zmq.NOBLOCK)
        self._read()

    def _read(self) -> None:
        """Read all that has arrived: the descriptor of the socket signals edges (zmq_getsockopt(3))."""
        while is_readable(self._control):
            identity, frame = self._control.recv_multipart()
            decode = protocol.decode_answer if identity == _NETWORK_PROCESS else codec.decode_for_controller
            try:
                message = decode(frame)
            except messages.WireError as error:
                self._inbox.put_nowait(error)  # raised where a message is awaited
                continue
            if isinstance(message, protocol_out.Ready | protocol_out.Opened | protocol_out.Report):
                self._held[message.name] = message.held
            self._inbox.put_nowait(message)

    async def _pump_exits(self) -> None:
        while True:
            self._inbox.put_nowait(await self._exits.get())
