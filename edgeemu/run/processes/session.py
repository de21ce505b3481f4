"""The controller's socket to its devices: requests out, answers in, failures raised or noted. Knows no model."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.errors import EdgeemuError, RunError
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.stopped import LOOK_EVERY_S, what_they_do
from edgeemu.links import messages
from edgeemu.links.framing import framed
from edgeemu.links.interface import LinkLostError
from edgeemu.links.netns import protocol
from edgeemu.links.unix_sockets import UnixSockets, socket_path
from edgeemu.run.processes.addresses import Addresses
from edgeemu.run.processes.failure_errors import error_of
from edgeemu.run.processes.looks import Looks
from edgeemu.run.processes.losses import Losses
from edgeemu.run.processes.presence import Presence

Answer = TypeVar("Answer", bound=protocol_out.FromDevice | protocol.NetworkReady | protocol.Done)
DeviceAnswer = TypeVar("DeviceAnswer", bound=protocol_out.FromDevice)
Unasked = (
    protocol_out.Report
    | protocol_out.Token
    | protocol_out.Arrived
    | protocol_out.Opened
    | protocol_out.Probed
    | protocol_out.TransfersHandled
)

ANSWER_TIMEOUT_S = 600.0  # a run in which no device sends anything for so long will not go on
_LAST_MESSAGE_S = 0.2
_ROOM_EVERY_S = 1e-3  # between two looks whether a receiver has room

_Message = protocol_out.FromDevice | protocol.Answer | DeviceExit | messages.WireError


class Session(Addresses):
    """The devices of one run, started and connected; an asynchronous context manager.

    Everything awaited here raises as soon as a device fails or dies, unless `losses` are noted: then it goes on without
    that device. `on_unasked` takes messages that answer no request: tokens and reports of steps, arrivals of migrations
    and of test messages, sequences that are open. `explain` returns the error for a process that died, given the last
    page of its ledger. `processes` are looked at when nothing arrives.
    """

    def __init__(
        self,
        directory: Path,
        exits: "asyncio.Queue[DeviceExit]",
        presence: Presence,
        on_unasked: Callable[[Unasked], None],
        explain: Callable[[DeviceExit, dict[str, int]], EdgeemuError],
        processes: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        super().__init__(directory)
        self.presence = presence
        self.losses: Losses | None = None
        self._exits = exits
        self._on_unasked = on_unasked
        self._explain = explain
        self._processes = processes
        self._looks = Looks(presence, processes)
        self._held: dict[str, dict[str, int]] = {}  # by device, the last page of its ledger
        self._sockets: UnixSockets
        self._inbox: deque[_Message] = deque()
        self._arrived = asyncio.Event()
        self._awaited: type[object] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._sockets = UnixSockets(self.control_address)
        asyncio.get_running_loop().add_reader(self._sockets.fileno(), self._read)
        self._pump = asyncio.create_task(self._pump_exits())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._sockets.fileno())
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._sockets.close()

    async def send(self, device: int, request: protocol_in.ToDevice) -> None:
        """Send a device a request, if it is there."""
        if self.presence.answers(device):
            await self._send(self.requests_address(device), codec.encode(request))

    async def send_to_network_process(self, request: bytes) -> None:
        """Send a request to the process that shapes kernel links."""
        await self._send(self.orders_address, request)

    async def ask(
        self, requests: Mapping[int, protocol_in.ToDevice], on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Send requests by device, and wait until all are done."""
        for device, request in requests.items():
            await self.send(device, request)
        await self.answers(protocol_out.Ready, requests, on_progress)

    async def send_all(self, request: protocol_in.ToDevice) -> None:
        """Send every device a request."""
        for device in self.presence.answering():
            await self.send(device, request)

    async def ask_all(self, request: protocol_in.ToDevice) -> None:
        """Send every device a request, and wait until all are done."""
        await self.ask(dict.fromkeys(self.presence.answering(), request))

    async def answers(
        self,
        kind: type[DeviceAnswer],
        devices: Iterable[int],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> dict[int, DeviceAnswer]:
        """Return the answers of devices to a request; those that are gone, or come to be, give none."""
        waiting = dict.fromkeys(filter(self.presence.answers, devices))
        answers: dict[int, DeviceAnswer] = {}

        def complete() -> bool:
            return not any(map(self.presence.answers, waiting))

        while (answer := await self._receive(kind, math.inf, complete)) is not None:
            device = self.presence.number(answer.name)
            answers[device] = answer
            waiting.pop(device, None)
            if on_progress is not None:
                on_progress(len(answers), len(answers) + len(waiting))
        return answers

    async def receive(self, kind: type[Answer]) -> Answer:
        """Return the next message of a kind. Messages that answer no request are handed on meanwhile.

        Raises:
            InfeasibleError: a device ran out of memory, by its own account or the kernel's.
            RequestError: a model file cannot be read.
            RunError: a device died, is stopped, broke the protocol, or no device sent anything for ten minutes.
        """
        message = await self._receive(kind, math.inf, lambda: False)
        assert message is not None, "there is no limit"
        return message

    async def receive_within(self, kind: type[Answer], limit_s: float) -> Answer | None:
        """Return the next message of a kind, or None if there is none within so many seconds of the wall clock.

        Raises: as `receive`.
        """
        return await self._receive(kind, limit_s, lambda: False)

    async def handle_until(self, kind: type[Unasked], done: Callable[[], bool], limit_s: float = math.inf) -> bool:
        """Hand messages of a kind on until that is done, or so many seconds are over. Return whether it is done.

        Raises: as `receive`.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + limit_s
        while (message := await self._receive(kind, deadline_s - loop.time(), done)) is not None:
            self._on_unasked(message)
        return done()

    async def catch_up(self) -> None:
        """Hand on all that devices have said until now. Raises: as `receive`."""
        self._read_all()
        await self._receive(protocol_out.Bye, math.inf, lambda: not self._inbox)

    async def _receive(self, kind: type[Answer], limit_s: float, done: Callable[[], bool]) -> Answer | None:
        """Return the next message of a kind; None if something else is done before, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + limit_s
        while not done():
            endless = deadline_s == math.inf
            message = await self._next(ANSWER_TIMEOUT_S if endless else deadline_s - loop.time(), kind)
            if message is None and not endless:
                return None
            if message is None:
                does = what_they_do(self._processes())
                raise RunError(f"no device has sent anything for {ANSWER_TIMEOUT_S:.0f} s: {does}")
            if self.presence.gone and self.presence.is_silent(getattr(message, "name", "")):
                continue
            if isinstance(message, kind):
                return message
            await self._handle(message, kind)
        return None

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
            case protocol_out.Failure(kind="out of memory") if self.losses is not None:
                self.losses.end(message.name, message.message)
            case protocol_out.Failure(kind="link"):
                raise await self._cause_of(message)
            case protocol_out.Failure() | protocol.Failed():
                raise error_of(message)
            case messages.WireError():
                raise message
            case DeviceExit() if self.presence.is_over(message) or (self._stopping and message.status == 0):
                pass  # asked for: its last message may be on the way by another socket
            case DeviceExit() if self.losses is not None and self.presence.was_killed(message):
                self._lose(message, self.losses)
            case DeviceExit():
                raise await self._error_of(message)
            case _:
                sender = getattr(message, "name", "the network process")
                raise RunError(f"expected {awaited.__name__}, but {sender} sent {message}")

    async def stop_devices(self) -> list[protocol_out.Bye]:
        """End all devices; return their last messages."""
        self._stopping = True
        await self.send_all(protocol_in.Stop())
        return list((await self.answers(protocol_out.Bye, self.presence.answering())).values())

    def take_leave(self, device: int) -> str:
        """Hand on what a device whose process has ended has said, and forget it. Return its failure, if it told one."""
        self._read_all()
        name, failure = self.presence.names[device], ""
        inbox, self._inbox = self._inbox, deque()
        for message in inbox:
            if getattr(message, "name", "") != name:
                self._inbox.append(message)
            elif isinstance(message, Unasked):
                self._on_unasked(message)
            elif isinstance(message, protocol_out.Failure):
                failure = message.message
        self._sockets.forget_broken(self.requests_address(device))
        for address in (self.requests_address(device), self.address(device)):
            Path(socket_path(address)).unlink(missing_ok=True)  # another process may come to listen there
        self.presence.left(device)
        return failure

    def _lose(self, ended: DeviceExit, losses: Losses) -> None:
        """Note that a device is gone, and why."""
        device = self.presence.number(ended.name)
        why = str(self._explain(ended, self._held.get(ended.name, {})))
        losses.add(device, ended.name, self.take_leave(device) or why)

    async def _next(self, timeout_s: float, awaited: type[object]) -> _Message | None:
        """Return the next message, or None if there is none in time. Processes are looked at meanwhile.

        Raises:
            RunError: one of them is stopped.
        """
        self._awaited, loop = awaited, asyncio.get_running_loop()
        while True:
            beat_s = self._looks.at_devices(self.losses, loop.time())
            if self._inbox:
                return self._inbox.popleft()
            self._arrived.clear()
            patience_s = min(timeout_s, LOOK_EVERY_S, beat_s)
            try:
                async with asyncio.timeout(patience_s):
                    await self._arrived.wait()
            except TimeoutError:
                timeout_s -= patience_s
                if timeout_s <= 0 and not self._inbox:
                    return None
                self._looks.after_idling(self.losses, patience_s)

    async def _cause_of(self, lost: protocol_out.Failure) -> EdgeemuError:
        """Return why a connection was lost: the failure or death of the device at its other end, if one follows."""
        while (message := await self._next(_LAST_MESSAGE_S, protocol_out.Failure)) is not None:
            if isinstance(message, protocol_out.Failure) and message.kind != "link":
                return error_of(message)
            if isinstance(message, DeviceExit) and message.status != 0:
                return await self._error_of(message)
        return error_of(lost)

    async def _error_of(self, ended: DeviceExit) -> EdgeemuError:
        """Return why a device ended: its last message, which may arrive after the news, or how its process died."""
        while (message := await self._next(_LAST_MESSAGE_S, protocol_out.Failure)) is not None:
            if isinstance(message, protocol_out.Failure) and message.name == ended.name:
                return error_of(message)
        return self._explain(ended, self._held.get(ended.name, {}))

    async def _send(self, address: str, frame: bytes) -> None:
        """Send a message, and wait while its receiver is far behind. That one is gone is told by its end."""
        message = framed([b"", frame])
        with suppress(LinkLostError):
            while not self._sockets.offer(address, message):
                await asyncio.sleep(_ROOM_EVERY_S)
                self._looks.at_devices(self.losses, asyncio.get_running_loop().time())

    def _read_all(self) -> None:
        while self._sockets.has_some and self._read():
            pass

    def _read(self) -> bool:
        """Read what has arrived. What cannot be read is raised where a message is awaited: then this is False."""
        try:
            received = self._sockets.take()
        except messages.WireError as error:
            self._add(error)
            return False
        for identity, frame in received:
            decode = protocol.decode_answer if identity == protocol.IDENTITY else codec.decode_for_controller
            try:
                message = decode(frame)
            except messages.WireError as error:
                self._add(error)
                continue
            if isinstance(message, protocol_out.Ready | protocol_out.Opened | protocol_out.Report):
                self._held[message.name] = message.held
            self._add(message)
        return True

    def _add(self, message: _Message) -> None:
        """Add to the inbox. A report, which each device sends in each step, wakes nobody who awaits anything else."""
        self._inbox.append(message)
        if self._awaited is protocol_out.Report or not isinstance(message, protocol_out.Report):
            self._arrived.set()

    async def _pump_exits(self) -> None:
        while True:
            self._add(await self._exits.get())
