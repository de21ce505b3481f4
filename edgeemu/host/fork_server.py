"""The fork server: imports NumPy once, then forks a process per device.

Knows processes and the one socket to the controller; not what a device does: whoever starts it names the
entry function. `fleet.py` starts it, in a session of its own, with BLAS pinned to one thread. It stays
single-threaded, so that forking is safe.

The end of the controller's socket ends everything, whatever the reason: the server kills and reaps its
devices, removes the run's control groups and private directory, and exits. If the server itself dies, the
kernel kills the devices (PR_SET_PDEATHSIG).
"""

import contextlib
import errno
import faulthandler
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from edgeemu.host import cgroups, scratch
from edgeemu.host.fork_protocol import Config, Exited, Fork, Forked, Frames, Refused, ServerReady, frame
from edgeemu.host.limits import NO_MORE_PROCESSES
from edgeemu.host.namespaces import own_user_namespace
from edgeemu.host.prctl import SET_NAME, SET_PDEATHSIG, SET_TIMERSLACK, prctl
from edgeemu.host.privileges import gain_no_privileges

PRELOAD = ("numpy", "zmq", "msgspec")  # what every device needs; the entry's module brings the rest


class Server:
    """Event loop of the fork server: fork on request, report exits, end when the controller ends."""

    def __init__(self, control: socket.socket, entry: Callable[[bytes], object], directory: Path) -> None:
        self._control = control
        self._entry = entry
        self._directory = directory
        self._devices: dict[int, tuple[str, int]] = {}  # pidfd -> name, pid
        self._frames = Frames()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the controller has ended, then until every device has."""
        try:
            self._control.sendall(frame(ServerReady()))
            while self._step():
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # the controller is gone, which is how a run ends
        finally:
            self._end_devices()

    def _step(self) -> bool:
        """Wait for an event and handle it. Returns False when the controller's socket is closed."""
        for key, _ in self._selector.select():
            if key.fileobj is not self._control:
                self._reap(key.fd)
                continue
            data = self._control.recv(1 << 20)
            if not data:
                return False
            for body in self._frames.feed(data):
                self._fork(msgspec.msgpack.decode(body, type=Fork))
        return True

    def _fork(self, request: Fork) -> None:
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            why = NO_MORE_PROCESSES if error.errno == errno.EAGAIN else f"fork: {error.strerror}"
            self._control.sendall(frame(Refused(request.name, why)))
            return
        if pid == 0:
            self._be_device(request, server_pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:  # too many open files
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._control.sendall(frame(Refused(request.name, f"pidfd_open: {error.strerror}")))
            return
        self._devices[pidfd] = (request.name, pid)
        self._selector.register(pidfd, selectors.EVENT_READ)
        self._control.sendall(frame(Forked(request.name, pid)))

    def _reap(self, pidfd: int) -> None:
        name, pid = self._devices.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._control.sendall(frame(Exited(name, pid, os.waitstatus_to_exitcode(status))))

    def _end_devices(self) -> None:
        for pidfd in self._devices:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd, (_, pid) in self._devices.items():
            os.waitpid(pid, 0)
            os.close(pidfd)
        self._devices.clear()

    def _be_device(self, request: Fork, server_pid: int) -> NoReturn:
        """Run the entry function in the forked process, to its end."""
        status = 1
        try:
            self._settle(request.name, server_pid)
            entry = named(request.entry) if request.entry else self._entry
            entry(request.spec)
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:  # noqa: BLE001 - the process ends here: its log is where a traceback can still go
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # no atexit: that of ZeroMQ waits for messages which nobody takes any more

    def _settle(self, name: str, server_pid: int) -> None:
        """Turn the copy of the server that fork() made into a process of its own."""
        prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server_pid:  # it died before the line above
            os._exit(1)
        log = os.open(scratch.log_path(self._directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        faulthandler.enable()  # a crash in native code leaves its stack in the log, too
        self._selector.close()
        self._control.close()
        for pidfd in self._devices:
            os.close(pidfd)
        self._devices.clear()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the controller decides how an interrupted run ends
        prctl(SET_TIMERSLACK, 1)  # ns; the default of 50 µs makes every sleep late by as much
        prctl(SET_NAME, name.encode()[:15])
        gain_no_privileges()


def named(entry: str) -> Callable[[bytes], object]:
    """Import the function with this name ("module:function")."""
    module, function = entry.split(":")
    found: Callable[[bytes], object] = getattr(importlib.import_module(module), function)
    return found


def main(arguments: list[str]) -> None:
    """Import, freeze the heap, serve, clean up."""
    config = msgspec.json.decode(arguments[0], type=Config)
    directory = Path(config.directory)
    control = socket.socket(fileno=config.control_fd)
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it would leave no exit status to report
    try:
        for name in PRELOAD:
            importlib.import_module(name)
        entry = named(config.entry)
        if config.prepare:
            named(config.prepare)(config.prepared.encode())
        if config.user_namespace:
            own_user_namespace()
        gc.collect()
        gc.freeze()  # a collection in a device must not touch, and so copy, the pages that all share
        Server(control, entry, directory).serve()
    finally:
        if _controller_is_gone(control):
            cgroups.remove_recorded(directory)
            scratch.remove(directory)


def _controller_is_gone(control: socket.socket) -> bool:
    """Whether the controller's socket is closed. If not, the server has failed, and the controller reads its log."""
    control.setblocking(False)
    try:
        while control.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
