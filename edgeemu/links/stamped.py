"""Stamped links: ZeroMQ carries the bytes at once, and the sender writes the emulated arrival on every message.

The receiver holds a message until then. The pipes' state is memory that the devices of a run share, because several
senders can meet in one pipe (an interface, a shared medium). It is anonymous: no file can be left behind.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import zmq

from edgeemu.cluster import Hop, Path
from edgeemu.control import PathSpec
from edgeemu.network import Network
from edgeemu.timeline import DrawKey
from edgeemu.wire import Frames

_DOUBLE_BYTES = 8
_HIGH_WATER = 10_000  # messages; a sender blocks above it


def create_shared_pipes(n_pipes: int) -> int:
    """Anonymous memory for the state of `n_pipes` pipes; the file descriptor is for the devices to inherit."""
    fd = os.memfd_create("edgeemu-pipes")
    os.ftruncate(fd, SharedPipes.size_bytes(n_pipes))
    return fd


class SharedPipes:
    """For every pipe when it is free and when its last message departed, seen by all devices alike."""

    def __init__(self, fd: int, n_pipes: int) -> None:
        self._fd = fd
        self._memory = mmap.mmap(fd, self.size_bytes(n_pipes))
        doubles = memoryview(self._memory).cast("d")
        self.free_s = doubles[:n_pipes]
        self.last_departure_s = doubles[n_pipes : 2 * n_pipes]

    @staticmethod
    def size_bytes(n_pipes: int) -> int:
        return max(1, 2 * n_pipes) * _DOUBLE_BYTES

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Excludes the other devices. The kernel releases the lock of a process that dies."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def reset(self) -> None:
        """Every pipe free at 0: a new timeline."""
        with self.locked():
            for pipe in range(len(self.free_s)):
                self.free_s[pipe] = self.last_departure_s[pipe] = 0.0


class StampedLinks:
    """One device's way to the others. `reordered` counts messages that met a pipe out of the order of departure."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", seed: int, pipes: SharedPipes) -> None:
        self._context = context
        self._seed = seed
        self._pipes = pipes
        self._paths: dict[int, Path] = {}
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self.reordered = 0
        self.reset()

    def reset(self) -> None:
        """A new timeline: no message has been sent yet."""
        self.reordered = 0
        self._network = Network(lambda _, target: self._paths[target], self._seed, self._pipes.free_s)

    def connect(self, paths: Sequence[PathSpec]) -> None:
        """Learns the ways to these targets, or how they have changed; a connection is opened once."""
        for spec in paths:
            hops = tuple(Hop(*hop) for hop in spec.hops)
            self._paths[spec.target] = Path(hops, spec.jitter_s, spec.loss)
            if spec.target not in self._sockets:
                socket = self._context.socket(zmq.PUSH)
                socket.set_hwm(_HIGH_WATER)
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(spec.address)
                self._sockets[spec.target] = socket

    def arrival_s(self, key: DrawKey, size_bytes: int, departure_s: float) -> float:
        """Books a message on the pipes to its target; returns its emulated arrival."""
        last_departure_s = self._pipes.last_departure_s
        with self._pipes.locked():
            pipes = {hop.pipe for hop in self._paths[key.target].hops}
            self.reordered += any(departure_s < last_departure_s[pipe] for pipe in pipes)
            for pipe in pipes:
                last_departure_s[pipe] = max(last_departure_s[pipe], departure_s)
            return self._network.arrival_s(key, size_bytes, departure_s)

    def delay_s(self, target: int, departure_s: float) -> float:
        """What the way to a target adds to a message that departs at an instant."""
        return self._paths[target].delay_at(departure_s)

    def send(self, frames: Frames, target: int) -> None:
        """Hands a message to ZeroMQ; blocks while the receiver is too far behind."""
        self._sockets[target].send_multipart(frames)

    def close(self) -> None:
        for socket in self._sockets.values():
            socket.close()
