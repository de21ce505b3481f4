"""Device processes as the controller has them: start the fork server, fork, notice exits, end everything.

Knows processes, their pids and logs; nothing of what devices say. What the server does is in `fork_server`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edgeemu.errors import RunError
from edgeemu.host import cgroups, reap, scratch
from edgeemu.host.device_exit import DeviceExit
from edgeemu.host.fork_protocol import Config, Event, Exited, Fork, Forked, Frames, Refused, ServerReady, frame
from edgeemu.host.limits import ONE_THREAD, shortage
from edgeemu.host.stopped import LOOK_EVERY_S, StopWatch, what_they_do

DEVICE_ENTRY = "edgeemu.device.process:run_device"
START_TIMEOUT_S = 60.0  # importing NumPy from a cold disk takes seconds, not a minute


class Fleet:
    """Device processes of one run; an asynchronous context manager.

    `exits` receives every device that ends, for whatever reason, while the fleet is open.
    `pass_fds` stay open, under the same numbers, in every device. With `user_namespace` all are root of one.
    `prepare` is a function ("module:function") and its argument, called before the first device is forked: all share
    what it makes.
    """

    def __init__(
        self,
        entry: str = DEVICE_ENTRY,
        pass_fds: Sequence[int] = (),
        *,
        user_namespace: bool = False,
        prepare: tuple[str, str] = ("", ""),
    ) -> None:
        self.exits: asyncio.Queue[DeviceExit] = asyncio.Queue()
        self._entry = entry
        self._user_namespace = user_namespace
        self._prepare = prepare
        self._pass_fds = tuple(pass_fds)
        self._directory: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._frames = Frames()
        self._unsent = bytearray()
        self._ready: asyncio.Future[None] | None = None
        self._pending: dict[str, asyncio.Future[int]] = {}
        self._alive: dict[str, tuple[int, int | None]] = {}  # name -> pid, pidfd (None: gone already)
        self._all_gone = asyncio.Event()
        self._lost: RunError | None = None
        self._tails: dict[str, str] = {}
        self._names: set[str] = set()
        self._closed = False

    @property
    def directory(self) -> Path:
        """Private directory of the run, for Unix sockets; removed when the fleet is closed."""
        if self._directory is None:
            raise RuntimeError("the fleet has not been started")
        return self._directory

    @property
    def alive(self) -> Mapping[str, int]:
        """Process ids of all devices that were forked and have not ended."""
        return {name: pid for name, (pid, _) in self._alive.items()}

    @property
    def processes(self) -> Mapping[str, int]:
        """Process ids of everything that has to go on for the run to go on: `alive`, and the fork server."""
        server = {} if self._server is None else {"the fork server": self._server.pid}
        return server | dict(self.alive)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(grace_s=1.0 if kind is None else 0.0)

    async def start(self) -> None:
        """Start the fork server and wait until its imports are done. Raises RunError with the server's log."""
        loop = asyncio.get_running_loop()
        try:
            self._directory = scratch.create(os.getpid())
        except OSError as error:
            raise RunError(f"no private directory can be made (see TMPDIR): {error.strerror or error}") from error
        self._ready = loop.create_future()
        try:
            self._control, theirs = socket.socketpair()
            with theirs:
                self._server = self._spawn(theirs.fileno())
            scratch.record_process(self._directory, "fork server", self._server.pid)
            self._control.setblocking(False)
            loop.add_reader(self._control.fileno(), self._on_readable)
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            does = what_they_do(self.processes)
            await self.close(grace_s=0.0)
            raise RunError(f"the fork server was not ready within {START_TIMEOUT_S:g} s: {does}") from None
        except BaseException:
            await self.close(grace_s=0.0)
            raise

    def config(self, control_fd: int) -> Config:
        """Configuration of the fork server, whose end of the socket has this number."""
        return Config(control_fd, self._entry, str(self.directory), *self._prepare, self._user_namespace)

    def _spawn(self, control_fd: int) -> subprocess.Popen[bytes]:
        config = self.config(control_fd)
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)  # "" is the current directory
        with (self.directory / scratch.SERVER_LOG).open("ab") as log:
            return subprocess.Popen(
                # -P: our import path below is the whole one, a numpy.py in the user's directory is not meant
                [sys.executable, "-P", "-m", "edgeemu.host.fork_server", msgspec.json.encode(config).decode()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(control_fd, *self._pass_fds),
                start_new_session=True,  # a terminal's Ctrl-C is for the controller
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            )

    async def fork(self, name: str, spec: bytes, entry: str = "") -> int:
        """Fork the device `name`, or a process that runs another `entry`. Returns its process id.

        RunError if it cannot be forked, or the fork server is stopped; ValueError if it is there.
        """
        if self._lost is not None:
            raise self._lost
        if self._control is None:
            raise RuntimeError("the fleet is not running")
        if name in self._pending or name in self._alive:
            raise ValueError(f"device {name} has been forked already")
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[name] = forked
        self._unsent += frame(Fork(name, spec, entry))
        self._send()
        watch = StopWatch()
        try:
            while not (await asyncio.wait((forked,), timeout=LOOK_EVERY_S))[0]:
                if why := watch.look(self.processes):
                    raise RunError(why)
        finally:
            forked.cancel()  # if it is not done
        return forked.result()

    def send_signal(self, name: str, number: signal.Signals) -> None:
        """Send a device a signal, if it is there."""
        _, pidfd = self._alive.get(name, (0, None))
        if pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)

    def log_tail(self, name: str) -> str:
        """Last lines that a device wrote to standard error, a traceback for example; also after closing."""
        if self._directory is None or name in self._tails:
            return self._tails.get(name, "")
        return scratch.tail(scratch.log_path(self._directory, name))

    def explain(self, ended: DeviceExit) -> str:
        """Reason why a device ended, as far as it is known: its exit and the end of its log, or the server's end."""
        if self._lost is not None:
            return f"{self._lost}, and with it device {ended.name}"
        said = self.log_tail(ended.name)
        if why := shortage(said):
            return f"{ended}: {why}"
        return f"{ended}\n{said}" if said else str(ended)

    async def close(self, grace_s: float = 1.0) -> None:
        """End every process and remove the run's directory. Closing a second time does nothing.

        Devices which have been told to end have `grace_s` for it; then they are killed. A cancellation cuts
        the grace short, and nothing else: what follows does not give way to the event loop.
        """
        try:
            if self._alive and self._lost is None and grace_s > 0:
                self._all_gone.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await self._all_gone.wait()
        finally:
            self._end()

    # The socket to the server

    def _send(self) -> None:
        """Write as much as the socket takes now; the rest follows when the socket is ready again."""
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            loop.add_writer(self._control.fileno(), self._send)
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent.clear()  # the server is gone: reading says so, too
        loop.remove_writer(self._control.fileno())

    def _on_readable(self) -> None:
        if self._control is None:
            return
        try:
            data = self._control.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._on_server_lost()
            return
        try:
            for body in self._frames.feed(data):
                self._on_event(msgspec.msgpack.decode(body, type=Event))
        except Exception as error:  # noqa: BLE001 - the event loop would log it, and who waits would wait for ever
            self._on_server_lost(f"what the fork server reported could not be handled: {error}", error)

    def _on_event(self, event: Event) -> None:
        match event:
            case ServerReady():
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case Forked(name, pid):
                self._names.add(name)
                scratch.record_process(self.directory, name, pid)
                try:
                    self._alive[name] = (pid, os.pidfd_open(pid))
                except ProcessLookupError:
                    self._alive[name] = (pid, None)
                self._answer(name, pid)
            case Refused(name, reason):
                self._answer(name, RunError(f"device {name} could not be started: {reason}"))
            case Exited(name, _, status):
                self._on_exit(name, status)

    def _answer(self, name: str, answer: int | RunError) -> None:
        forked = self._pending.pop(name, None)
        if forked is None or forked.done():
            return  # who asked was cancelled
        if isinstance(answer, RunError):
            forked.set_exception(answer)
        else:
            forked.set_result(answer)

    def _on_exit(self, name: str, status: int) -> None:
        pid, pidfd = self._alive.pop(name)
        if pidfd is not None:
            os.close(pidfd)
        self.exits.put_nowait(DeviceExit(name, pid, status))
        if not self._alive:
            self._all_gone.set()

    def _on_server_lost(self, why: str = "", cause: Exception | None = None) -> None:
        """Handle the end of the fork server: the kernel kills its devices, and their exits are noticed here.

        With `why` it is this process that cannot go on, and the server ends because nobody listens to it any more.
        """
        assert self._control is not None
        assert self._server is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control.fileno())
        loop.remove_writer(self._control.fileno())
        if why:
            self._control.close()
            self._control = None
        said = scratch.tail(self.directory / scratch.SERVER_LOG)
        self._lost = RunError(why or "the fork server ended unexpectedly" + (f":\n{said}" if said else ""))
        self._lost.__cause__ = cause
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(self._lost)
        for name in list(self._pending):
            self._answer(name, self._lost)
        for name, (_, pidfd) in list(self._alive.items()):
            if pidfd is None:
                self._on_exit(name, -signal.SIGKILL)
            else:
                loop.add_reader(pidfd, self._on_orphan_exit, name, pidfd)

    def _on_orphan_exit(self, name: str, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        self._on_exit(name, -signal.SIGKILL)

    # The end. Not a coroutine: nothing can cancel it half-way

    def _end(self) -> None:
        if self._directory is None or self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        self._tails = {name: self.log_tail(name) for name in self._names}
        if self._control is not None:
            loop.remove_reader(self._control.fileno())
            loop.remove_writer(self._control.fileno())
            self._control.close()  # the server now kills and reaps its devices, and ends
            self._control = None
        for forked in self._pending.values():
            forked.cancel()
        self._pending.clear()
        try:
            if self._server is not None:
                reap.end_server(self._server)
            self._end_orphans(loop)
        finally:
            cgroups.remove_recorded(self._directory)
            scratch.remove(self._directory)

    def _end_orphans(self, loop: asyncio.AbstractEventLoop) -> None:
        """Kill devices whose exit the ended server can no longer report."""
        orphans = [(name, pid, pidfd) for name, (pid, pidfd) in self._alive.items() if pidfd is not None]
        for _, _, pidfd in orphans:
            loop.remove_reader(pidfd)
        self._alive.clear()
        self._all_gone.set()
        reap.kill(orphans)
