"""Stamped links: sockets carry the bytes at once, and the sender writes the emulated arrival on every message.

The receiver holds a message until then. The pipes' state is memory that the devices of a run share, because several
senders can meet in one pipe (an interface, a shared medium). It is anonymous: no file can be left behind.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence

import msgspec

from edgeemu.cluster.links import Path
from edgeemu.links.framing import framed
from edgeemu.links.interface import LinkLostError, Peer
from edgeemu.links.keys import chunk_draw_key, draw_key
from edgeemu.links.messages import (
    Data,
    ShipmentChunk,
    data_bytes,
    decode_frames,
    encode_chunk,
    encode_stamped,
)
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.network import Booking, DrawKey, Network

_DOUBLE_BYTES = 8
_KEPT_BYTES = 1 << 16  # of a message at most, for its other receivers: no ledger counts them


def create_shared_pipes(n_pipes: int) -> int:
    """Creates anonymous memory for the state of `n_pipes` pipes; the devices inherit its file descriptor."""
    fd = os.memfd_create("edgeemu-pipes")
    os.ftruncate(fd, SharedPipes.size_bytes(n_pipes))
    return fd


class SharedPipes:
    """Memory shared by all devices: when each pipe is free, and when its last message departed."""

    def __init__(self, fd: int, n_pipes: int) -> None:
        self._locked = _Locked(fd)
        self._memory = mmap.mmap(fd, self.size_bytes(n_pipes))
        doubles = memoryview(self._memory).cast("d")
        self.free_s = doubles[:n_pipes]
        self.last_departure_s = doubles[n_pipes : 2 * n_pipes]

    @staticmethod
    def size_bytes(n_pipes: int) -> int:
        return max(1, 2 * n_pipes) * _DOUBLE_BYTES

    def locked(self) -> "_Locked":
        """Locks out the other devices. The kernel releases the lock of a process that dies."""
        return self._locked

    def reset(self) -> None:
        """Sets every pipe free at 0, for a new timeline."""
        with self.locked():
            for pipe in range(len(self.free_s)):
                self.free_s[pipe] = self.last_departure_s[pipe] = 0.0


class _Locked:
    """Context in which a file is locked. (A class of its own, because a generator takes as long as the lock itself.)"""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


class StampedLinks:
    """Connections of one device whose messages carry their emulated arrival."""

    def __init__(self, sockets: UnixSockets, seed: int, pipes: SharedPipes, *, survives: bool = False) -> None:
        """`survives`: messages for a device that is gone are dropped, as a network does."""
        self._sockets = sockets
        self._survives = survives
        self._seed = seed
        self._pipes = pipes
        self._paths: dict[int, Path] = {}
        self._addresses: dict[int, str] = {}
        self._received: list[list[bytes]] = []  # while a message waited for room
        self._last: tuple[Data | None, bytes] = None, b""  # message that was sent unpaced: for others it is the same
        self.reordered = 0
        self.begin(None)

    def begin(self, clock: WallClock | None) -> None:
        self._paced = clock is not None
        self.reordered = 0
        self._network = Network(lambda _, target: self._paths[target], self._seed, self._pipes.free_s)

    def take_stalled_s(self) -> float:
        return 0.0  # arrivals are the timeline's, whenever this process runs

    def connect(self, peers: Sequence[Peer]) -> None:
        for device, address, path in peers:
            self._paths[device], self._addresses[device] = path, address
            if self._survives:  # it may have been replaced by another process
                self._sockets.forget_broken(address)

    def arrival_s(self, key: DrawKey, size_bytes: int, departure_s: float) -> float:
        """Books a message on the pipes to its target; returns its emulated arrival."""
        return self.passage(key, size_bytes, departure_s).arrival_s

    def passage(self, key: DrawKey, size_bytes: int, departure_s: float) -> Booking:
        """Books a message on the pipes to its target; returns its emulated arrival, and how long it waited."""
        last_departure_s = self._pipes.last_departure_s
        with self._pipes.locked():
            pipes = {hop.pipe for hop in self._paths[key.target].hops}
            self.reordered += any(departure_s < last_departure_s[pipe] for pipe in pipes)
            for pipe in pipes:
                last_departure_s[pipe] = max(last_departure_s[pipe], departure_s)
            return self._network.passage(key, size_bytes, departure_s)

    def send(self, message: Data, target: int) -> None:
        arrival_s = sent_s = message.departure_s
        if self._paced:
            arrival_s, waited_s = self.passage(draw_key(message, target), data_bytes(message.payload), arrival_s)
            stamped = framed(encode_stamped(message, arrival_s, sent_s + waited_s))
        elif message is self._last[0]:
            stamped = self._last[1]
        else:
            stamped = framed(encode_stamped(message, arrival_s, sent_s))
            if len(stamped) <= _KEPT_BYTES:
                self._last = message, stamped
        try:
            if not self._sockets.offer(address := self._addresses[target], stamped):
                self._received += self._sockets.push(address, stamped)
        except LinkLostError:
            if not self._survives:
                raise

    def send_chunk(self, chunk: ShipmentChunk, number: int, target: int, departure_s: float) -> float | None:
        try:
            if not self._sockets.has_room(address := self._addresses[target]):
                return None
        except LinkLostError:
            if not self._survives:
                raise
        arrival_s = taken_s = departure_s
        if self._paced:
            size_bytes = MESSAGE_HEADER_BYTES + len(chunk.payload)
            arrival_s = self.arrival_s(chunk_draw_key(chunk, number, target), size_bytes, departure_s)
            taken_s = max(departure_s, arrival_s - self._paths[target].delay_at(departure_s))
        header = msgspec.structs.replace(chunk.header, departure_s=departure_s, arrival_s=arrival_s)
        try:
            self._sockets.offer(address, framed(encode_chunk(ShipmentChunk(header, chunk.payload))))
        except LinkLostError:
            if not self._survives:
                raise
        return taken_s

    def wait(self, descriptor: int, timeout_s: float | None) -> bool:
        return self._sockets.wait(descriptor, 0.0 if self._received else timeout_s)

    def receive(self) -> list[Data | ShipmentChunk]:
        received = self._sockets.take()
        if self._received:
            received, self._received = self._received + received, []
        return list(map(decode_frames, received))

    def close(self) -> None:
        self._sockets.close()
