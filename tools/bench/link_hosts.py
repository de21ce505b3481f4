"""Processes in network namespaces of their own, joined by edgeemu's kernel links, and what they can measure there.

For benchmarks and tests. All are on one machine, so instants on its monotonic clock can be compared. Each process does
what it is asked for, one function after another; nothing outlives `Hosts.close`, or the process that made them.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection
from typing import Any, Self

from edgeemu.host.namespaces import own_network_namespace, own_user_namespace
from edgeemu.links.netns import tc
from edgeemu.links.netns.layout import NetworkLayout
from edgeemu.links.netns.netlink import Netlink
from edgeemu.links.netns.network import KernelNetwork

PORT = 5555
NOBODY = 65534
PATIENCE_S = 60.0
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_LENGTH = struct.Struct("!Q")
_PACKET = struct.Struct("!Id")


class HostError(Exception):
    """Error that was raised in another process."""


class Hosts:
    """A process for each device of a layout, and one that has the bridge and the `KernelNetwork`."""

    def __init__(self, layout: NetworkLayout, *, rootless: bool = False, absent: Collection[int] = ()) -> None:
        """`rootless`: as an ordinary user, in a user namespace, which is the only way where we are not root.

        `absent`: processes that are not in their devices' namespaces.
        """
        n = len(layout.devices)
        pipes = [multiprocessing.Pipe() for _ in range(n + 1)]
        self._ends = [mine for mine, _ in pipes]
        self._centre_pid = os.fork()
        if self._centre_pid == 0:
            for end in self._ends:  # else nobody would ever see them closed
                end.close()
            _guarded(lambda: _centre([theirs for _, theirs in pipes], rootless=rootless or os.geteuid() != 0))
        for _, theirs in pipes:
            theirs.close()
        try:
            self._pids: list[int] = self._result(n)
            self.layout = layout
            there = [None if device in absent else pid for device, pid in enumerate(self._pids)]
            self.on_network(KernelNetwork.build, layout, there)
        except BaseException:
            self.close()
            raise

    def on_network(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a method of the `KernelNetwork`, where it is; returns what that returns."""
        return self._call(len(self._ends) - 1, method, arguments)

    def shape(self, dilation: float = 1.0) -> None:
        self.on_network(KernelNetwork.shape, dilation)

    def start(self, device: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Begins something in a device's namespace; `wait` returns what came of it."""
        self._ends[device].send((function, arguments))

    def wait(self, device: int) -> Any:
        return self._result(device)

    def call(self, device: int, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._call(device, function, arguments)

    def transfers(self, source: int, target: int, size_bytes: int, messages: int, gap_s: float = 0.0) -> list[float]:
        """Seconds from the sending of each message to the receipt of its last byte, over one TCP connection."""
        self.call(target, listen)
        self.start(target, receive, messages)
        self.start(source, send, self.layout.address(target), size_bytes, messages, gap_s)
        sent = self.wait(source)
        return [came - went for went, came in zip(sent, self.wait(target), strict=True)]

    def packets(
        self, source: int, target: int, count: int, gap_s: float, at_most: int | None = None
    ) -> list[tuple[int, float]]:
        """The packets of UDP that came, in their order: number and seconds under way. They are sent steadily.

        No more than `at_most` are waited for: how many will come, where that is certain.
        """
        self.call(target, listen_udp)
        self.start(target, receive_udp, 1.0, at_most)
        self.call(source, send_udp, self.layout.address(target), count, gap_s, 64)
        return [(number, came - went) for number, went, came in self.wait(target)]

    def packets_dropped(self) -> int:
        """Packets that all queues dropped so far: those that found a queue full, and those that netem was to lose."""
        return self.on_network(_dropped_here) + sum(self.call(i, _dropped_here) for i in range(len(self._pids)))

    def close(self) -> None:
        """Ends all of them; interfaces and namespaces go with them."""
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._ends[-1].send(None)  # closing is not enough: processes that we started since have copies of the end
        for end in self._ends:
            end.close()
        os.waitpid(self._centre_pid, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, n: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self._ends[n].send((function, arguments))
        return self._result(n)

    def _result(self, n: int) -> Any:
        try:
            error, result = self._ends[n].recv()
        except EOFError:
            raise HostError(f"process {n} has ended") from None
        if error is not None:
            raise error
        return result


# -- the processes --------------------------------------------------------------------------------------------------


def _guarded(body: Callable[[], None]) -> None:
    """Run the body of a forked process to its end."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        body()
        status = 0
    finally:
        os._exit(status)


def _centre(ends: list[Connection], *, rootless: bool) -> None:
    *of_hosts, own = ends
    if rootless:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        own_user_namespace()
    pids = []
    for end in of_hosts:
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            _guarded(lambda end=end, tell=tell: _host(end, [other for other in ends if other is not end], tell))  # type: ignore[misc]
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        pids.append(pid)
    for end in of_hosts:
        end.close()
    own_network_namespace()
    network = KernelNetwork()
    own.send((None, pids))
    _serve(own, network)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def _host(end: Connection, others: list[Connection], tell: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    for other in others:
        other.close()
    own_network_namespace()
    os.write(tell, b".")
    os.close(tell)
    _serve(end)


def _serve(end: Connection, *first: Any) -> None:
    """Does what it is asked for until nobody asks any more."""
    while True:
        try:
            asked = end.recv()
        except EOFError:
            return
        if asked is None:
            return
        function, arguments = asked
        try:
            result = function(*first, *arguments)
        except Exception as error:  # noqa: BLE001 - it is raised again by who asked
            end.send((error, None))
        else:
            end.send((None, result))


def _dropped_here(*_: KernelNetwork) -> int:
    """Packets that the queues of this process's namespace dropped."""
    socket = Netlink()
    try:
        queues = socket.dump(tc.list_qdiscs(), tc.Tc)
    finally:
        socket.close()
    return sum(queue.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")["drops"] for queue in queues)


# -- what a host can be asked for -----------------------------------------------------------------------------------

_listening: dict[str, socket.socket] = {}  # of this process, between being asked to listen and to receive


def listen() -> None:
    _listening["tcp"] = socket.create_server(("", PORT))


def receive(messages: int) -> list[float]:
    """When the last byte of each message came. The connection ends with the last."""
    with _listening.pop("tcp") as server, server.accept()[0] as connection:
        connection.settimeout(PATIENCE_S)
        buffer = bytearray(_LENGTH.size + (1 << 20))
        came = []
        for _ in range(messages):
            _receive_exactly(connection, buffer, _LENGTH.size)
            _receive_exactly(connection, buffer, _LENGTH.unpack_from(buffer)[0])
            came.append(time.monotonic())
            connection.sendall(b".")
        return came


def _receive_exactly(connection: socket.socket, buffer: bytearray, size: int) -> None:
    at = 0
    view = memoryview(buffer)
    while at < size:
        n = connection.recv_into(view, min(size - at, len(buffer)))
        if not n:
            raise HostError(f"the connection ended after {at} of {size} bytes")
        at += n


def send(address: str, size_bytes: int, messages: int, gap_s: float) -> list[float]:
    """When each message began to be sent: each after the receipt of the one before, and a gap."""
    sent = []
    message = _LENGTH.pack(size_bytes) + bytes(size_bytes)
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect((address, PORT))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(messages):
            time.sleep(gap_s)
            sent.append(time.monotonic())
            connection.sendall(message)
            if not connection.recv(1):
                raise HostError("the receiver has gone")
    return sent


def listen_udp() -> None:
    _listening["udp"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(PermissionError):  # rootless: what the kernel's limit leaves
        _listening["udp"].setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 25)
    _listening["udp"].bind(("", PORT))


def receive_udp(patience_s: float, at_most: int | None = None) -> list[tuple[int, float, float]]:
    """Number, instant of sending, instant of receipt, of all that comes until so many have, or none has for a while."""
    found = []
    with _listening.pop("udp") as server:
        server.settimeout(patience_s)
        with contextlib.suppress(TimeoutError):
            while at_most is None or len(found) < at_most:
                data = server.recv(1 << 16)
                number, went = _PACKET.unpack_from(data)
                found.append((number, went, time.monotonic()))
    return found


def send_udp(address: str, count: int, gap_s: float, size_bytes: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, PORT))
        padding = bytes(max(0, size_bytes - _PACKET.size))
        due_s = time.monotonic()
        for number in range(count):
            due_s += gap_s
            time.sleep(max(0.0, due_s - time.monotonic()))
            sender.send(_PACKET.pack(number, time.monotonic()) + padding)


def interfaces() -> list[str]:
    """In the namespace of who is asked."""
    return sorted(name for _, name in socket.if_nameindex())
