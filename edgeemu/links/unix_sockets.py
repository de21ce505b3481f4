"""Unix-domain sockets between processes: messages in order, bounded memory, a lost peer is noticed. Knows no time.

A process's own thread writes to the socket of a receiver and reads from those of its senders: a message wakes nobody
but its receiver. (ZeroMQ passes it through a thread at either end, which costs more than many kernels take.)
What the kernel does not take at once, because a message is large or its receiver is busy, a thread sends meanwhile.
A connection that breaks is not made again, unless its owner asks for it: what was on its way is lost, and nobody else
would know.
"""

import select
import socket
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from edgeemu.links.framing import Assembler
from edgeemu.links.interface import LinkLostError

HIGH_WATER = 64  # messages of a connection that wait for the kernel to take them; a sender blocks above it
_BUFFER_BYTES = 1 << 20  # of the kernel, for a connection; it gives what it may (net.core.wmem_max)
_PIECE_BYTES = 1 << 16  # that are read at a time
_LARGE_PIECE_BYTES = 1 << 20  # the same of a message that has begun
_CONNECTIONS = 4096  # that may wait to be accepted; the kernel may allow less
_PATIENCE_MS = 1  # for the next piece of a message that has begun: its sender is writing it
_LOOK_MS = 1  # between two looks at what waits
_AT_ONCE = 64  # connections with something to read that one look finds


def socket_path(address: str) -> str:
    """Path of a socket, of an address as ZeroMQ writes them."""
    return address.removeprefix("ipc://")


class _Outgoing:
    """The sending end of a connection, and what the kernel has not taken yet."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.waiting: deque[memoryview] = deque()  # a message each, without what was sent of it
        self.lost = ""  # why nothing can be sent any more
        try:
            self.socket.connect(socket_path(address))
        except OSError as error:
            self.socket.close()
            raise self._error(error) from error
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    @property
    def has_room(self) -> bool:
        """Raises: LinkLostError, if nothing can be sent any more."""
        if self.lost:
            raise LinkLostError(self.lost)
        return len(self.waiting) < HIGH_WATER

    @property
    def is_broken(self) -> bool:
        """Whether the receiver is gone, also if nothing was sent since. A receiver sends nothing back."""
        if not self.lost:
            try:
                return not self.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            except OSError:
                pass
        return True

    def write(self, message: bytes | memoryview) -> int:
        """Write as much as the kernel takes at once; return the number of bytes.

        Raises:
            LinkLostError: the receiver is gone.
        """
        try:
            return self.socket.send(message)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.lost = str(self._error(error))
            raise LinkLostError(self.lost) from error

    def _error(self, error: OSError) -> LinkLostError:
        return LinkLostError(f"the connection to {self.address} is lost: {error.strerror or error}")


class _Writer:
    """Thread that sends what waits, as the kernel takes it. It starts when it is needed for the first time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._behind: set[_Outgoing] = set()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
            self._thread.start()

    def add(self, outgoing: _Outgoing, rest: memoryview) -> None:
        """Send the rest of a message, after what waits. It must not change any more."""
        self.start()
        with self._changed:
            outgoing.waiting.append(rest)
            self._behind.add(outgoing)
            self._changed.notify()

    def let_go(self, outgoing: _Outgoing) -> None:
        """Wait until this thread has noticed that a connection is broken, and has nothing more of it."""
        with self._changed:
            self._changed.wait_for(lambda: outgoing not in self._behind)

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing waits any more, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._behind, timeout_s)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            with self._changed:
                while not self._behind and not self._closing:
                    self._changed.wait()
                behind = list(self._behind)
            poll = select.poll()
            for outgoing in behind:
                poll.register(outgoing.socket, select.POLLOUT)
            poll.poll(_LOOK_MS)  # others may come to be behind meanwhile
            for outgoing in behind:
                self._send(outgoing)

    def _send(self, outgoing: _Outgoing) -> None:
        while outgoing.waiting:
            message = outgoing.waiting[0]
            with suppress(LinkLostError):  # who sends next learns it
                message = message[outgoing.write(message) :]
            with self._changed:
                if outgoing.lost:
                    outgoing.waiting.clear()
                elif message:
                    outgoing.waiting[0] = message
                    return
                else:
                    outgoing.waiting.popleft()
                if not outgoing.waiting:
                    self._behind.discard(outgoing)
                    self._changed.notify_all()


class _Incoming:
    """The receiving end of a connection."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._assembler = Assembler()

    def read(self) -> list[list[bytes]] | None:
        """Read some messages, and one that has begun to its end; None: the sender is gone."""
        messages: list[list[bytes]] = []
        size_bytes = _PIECE_BYTES
        while True:
            try:
                piece = self.socket.recv(size_bytes)
            except BlockingIOError:
                return messages
            except ConnectionResetError:
                piece = b""
            if not piece:
                return messages or None
            messages += self._assembler.take(piece)
            if not self._assembler.missing_bytes:
                return messages
            size_bytes = min(self._assembler.missing_bytes, _LARGE_PIECE_BYTES)
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            poll.poll(_PATIENCE_MS)


class UnixSockets:
    """The connections of one process: it listens at an address, and sends to those of others."""

    def __init__(self, address: str) -> None:
        self._path = Path(socket_path(address))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(str(self._path))
        self._listener.listen(_CONNECTIONS)
        self._readable = select.epoll()
        self._readable.register(self._listener, select.EPOLLIN)
        self._watched = -1
        self._ready: list[tuple[int, int]] | None = None  # as the last wait has found it
        self._incoming: dict[int, _Incoming] = {}  # by descriptor
        self._outgoing: dict[str, _Outgoing] = {}  # by address
        self._writer = _Writer()

    def fileno(self) -> int:
        """Descriptor that can be read while there is something to take."""
        return self._readable.fileno()

    def start_writer(self) -> None:
        """Start the thread that writes large messages now, and not when there is one."""
        self._writer.start()

    def wait(self, descriptor: int, timeout_s: float | None) -> bool:
        """Wait until there is something to take or to read from another descriptor, or the time is over.

        Return whether that can be read. select(2) counts microseconds, epoll_wait(2) milliseconds: for a wait that has
        an end there are two calls.
        """
        if descriptor != self._watched:
            self._readable.register(descriptor, select.EPOLLIN)
            self._watched = descriptor
        if timeout_s:
            select.select([self._readable], [], [], timeout_s)
        self._ready = self._readable.poll(None if timeout_s is None else 0.0, _AT_ONCE)
        return descriptor in dict(self._ready)

    def has_room(self, address: str) -> bool:
        """Raises: LinkLostError, as `offer`."""
        return self._to(address).has_room

    def offer(self, address: str, message: bytes) -> bool:
        """Send a message that is `framed`, if there is room.

        Raises:
            LinkLostError: nobody will receive it.
        """
        outgoing = self._outgoing.get(address) or self._to(address)
        if outgoing.waiting and not outgoing.has_room:
            return False
        taken_bytes = 0 if outgoing.waiting else outgoing.write(message)
        if taken_bytes < len(message):
            self._writer.add(outgoing, memoryview(message)[taken_bytes:])
        return True

    def push(self, address: str, message: bytes) -> list[list[bytes]]:
        """Send a message that is `framed`, and wait for room if there is none.

        Messages that arrive meanwhile are taken in and returned: else two devices could wait for each other for ever.
        """
        received: list[list[bytes]] = []
        while not self.offer(address, message):
            select.select([], [], [], 1e-3 * _LOOK_MS)
            received += self.take()
        return received

    def take(self) -> list[list[bytes]]:
        """Return messages that have arrived: of each connection what one read brings."""
        messages: list[list[bytes]] = []
        ready, self._ready = self._readable.poll(0, _AT_ONCE) if self._ready is None else self._ready, None
        for descriptor, _ in ready:
            incoming = self._incoming.get(descriptor)
            if incoming is None:
                if descriptor != self._watched:
                    self._accept()
            elif (read := incoming.read()) is None:
                self._readable.unregister(descriptor)
                self._incoming.pop(descriptor).socket.close()
            else:
                messages += read
        return messages

    def forget_broken(self, address: str) -> None:
        """Have the next message to an address make a connection anew, if the receiver of the one before is gone."""
        outgoing = self._outgoing.get(address)
        if outgoing is not None and outgoing.is_broken:
            self._writer.let_go(outgoing)
            del self._outgoing[address]
            outgoing.socket.close()

    @property
    def has_some(self) -> bool:
        """Whether there is something to take."""
        return any(descriptor != self._watched for descriptor, _ in self._readable.poll(0))

    def flush(self, timeout_s: float) -> None:
        """Wait until the kernel has taken all messages, or the time is over."""
        self._writer.wait(timeout_s)

    def close(self) -> None:
        self._writer.close()
        for outgoing in self._outgoing.values():
            outgoing.socket.close()
        for incoming in self._incoming.values():
            incoming.socket.close()
        self._readable.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _to(self, address: str) -> _Outgoing:
        outgoing = self._outgoing.get(address)
        if outgoing is None:
            outgoing = self._outgoing[address] = _Outgoing(address)
        return outgoing

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.setblocking(False)
        self._incoming[accepted.fileno()] = _Incoming(accepted)
        self._readable.register(accepted, select.EPOLLIN)
