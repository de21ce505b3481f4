"""Fork servers that start warm: forked from a process that has done their imports, once for all tests.

For tests that are about runs and not about how a fork server starts, which takes 0.2 s of processor time. Everything
else of a server is the real one: a process in a session of its own, with its log, descriptors and environment.
"""

import contextlib
import fcntl
import gc
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

import edgeemu.device
import edgeemu.links
from edgeemu.host import fork_server, scratch
from edgeemu.host.fleet import DEVICE_ENTRY, Fleet
from edgeemu.host.fork_protocol import Config
from edgeemu.host.limits import ONE_THREAD
from support.forked import let_go

_ABOVE = 512  # a number above those of descriptors that a server is to keep
_ORDER_BYTES = 1 << 20

Spawn = Callable[[Fleet, int], "WarmServer"]  # as `Fleet._spawn`: the number of the server's end of their socket


class Order(msgspec.Struct):
    """A server that is wanted. With it come its log and the descriptors that it keeps, in this order."""

    config: Config
    directory: str  # current
    environment: dict[str, str]
    kept_fds: list[int]  # their numbers there


class WarmServer:
    """A server that another process is the parent of: what `Fleet` asks of `subprocess.Popen`."""

    def __init__(self, pid: int, pidfd: int, *, child: bool = False) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._child = child  # of this process

    def wait(self, timeout_s: float | None = None) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            raise subprocess.TimeoutExpired("fork server", timeout_s or 0.0)
        os.close(self._pidfd)
        if self._child:
            with contextlib.suppress(ChildProcessError):  # of a process that ignores SIGCHLD the kernel reaps
                os.waitpid(self.pid, 0)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


@contextmanager
def warm_servers() -> Iterator[Spawn]:
    """Start the process that they are forked from; yields what takes the place of `Fleet._spawn`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            parent = subprocess.Popen(
                [sys.executable, "-P", "-m", "support.warm_servers", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

        def spawn(fleet: Fleet, control_fd: int) -> WarmServer:
            order = _order(fleet, control_fd)
            with (fleet.directory / scratch.SERVER_LOG).open("ab") as log:
                socket.send_fds(ours, [msgspec.msgpack.encode(order)], [log.fileno(), *order.kept_fds])
            answer, (pidfd,), _, _ = socket.recv_fds(ours, 64, 1)
            return WarmServer(int(answer), pidfd)

        yield spawn
    parent.wait()


def fork_server_here(fleet: Fleet, control_fd: int) -> WarmServer:
    """Fork a server from this process, which has done its imports: takes the place of `Fleet._spawn`, too."""
    order = _order(fleet, control_fd)
    with (fleet.directory / scratch.SERVER_LOG).open("ab") as log:
        pid = os.fork()
        if pid == 0:
            _forget_signals()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _be_server(order, [log.fileno(), *order.kept_fds])
    return WarmServer(pid, os.pidfd_open(pid), child=True)


def _forget_signals() -> None:
    """Leave signals that this process handles to the system, as for a new program."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _order(fleet: Fleet, control_fd: int) -> Order:
    kept = [control_fd, *fleet._pass_fds]
    return Order(fleet.config(control_fd), str(Path.cwd()), {**os.environ, **ONE_THREAD}, kept)


def import_all() -> None:
    """Do all imports of a server and its devices, those that it is asked to `prepare` too."""
    for name in (*fork_server.PRELOAD, "numpy.random", "edgeemu_kernels.compiled"):
        __import__(name)
    for package in (edgeemu.device, edgeemu.links):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            __import__(module.name)
    fork_server.named(DEVICE_ENTRY)


def serve_orders(orders: socket.socket) -> None:
    """Fork a server for each order, until nobody gives one any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    import_all()
    gc.collect()
    gc.freeze()  # a collection in a server must not touch, and so copy, the pages that all share
    while True:
        data, fds, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 64)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            orders.close()
            _be_server(msgspec.msgpack.decode(data, type=Order), fds)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(orders, [str(pid).encode()], [pidfd])
        for fd in (pidfd, *fds):
            os.close(fd)


def _be_server(order: Order, fds: list[int]) -> NoReturn:
    """Do in the forked process what `subprocess` does for a new one, then what a server does."""
    status = 1
    try:
        os.setsid()
        os.chdir(order.directory)
        os.environ.clear()
        os.environ.update(order.environment)
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in fds]
        let_go(keep=moved)
        for fd, number in zip(moved, (1, *order.kept_fds), strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.dup2(1, 2)
        fork_server.main([msgspec.json.encode(order.config).decode()])
        status = 0
    except BaseException:  # noqa: BLE001 - the process ends here: its log is where a traceback can still go
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve_orders(socket.socket(fileno=int(sys.argv[1])))
