"""Kernel links: real TCP between network namespaces. A message takes what it took by the wall clock.

`arrival = departure + (wall at receipt − wall at sending) / dilation`: a sender's own lateness is never charged to the
network, nor is the time in which the receiver's process stood still (`stalls`). With `hybrid` the kernel only shapes
the rate; delay, jitter and retransmissions are added on the timeline, and the receiver holds the message so long.

Chunks of shipments go over connections of their own with little room, so that activations do not queue behind many.

A device that takes the place of one that is gone listens elsewhere, so that nothing meant for that one reaches it.
"""

import select
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec
import zmq

from edgeemu.cluster.links import Path
from edgeemu.links.connections import HIGH_WATER, Connection
from edgeemu.links.interface import LinkLostError, Peer
from edgeemu.links.keys import chunk_draw_key, draw_key
from edgeemu.links.messages import Data, ShipmentChunk, data_bytes, decode_frames, encode_chunk, encode_data
from edgeemu.links.receiver_thread import StampingInbox
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.network import DrawKey, disturbance_s

BULK_MESSAGES = 2  # chunks that wait at either end of a connection for shipments
BULK_BUFFER_BYTES = 32 << 10  # send buffer for them (the kernel doubles it: socket(7), SO_SNDBUF)
PATIENT_HIGH_WATER = 1 << 12  # [D] messages for a link that is down; a sender that waits hears no controller
BULK_SHARE = 0.9  # share of a link's rate for chunks: headers take 4.5 %, and a queue must not grow


class KernelLinks:
    """Connections of one device over a real network. `now` is the wall clock."""

    reordered = 0  # a queue of packets has no order of departures

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        inbox: StampingInbox,
        seed: int,
        now: Callable[[], float],
        *,
        hybrid: bool,
        survives: bool = False,
    ) -> None:
        """`survives`: messages for a device that is gone are dropped, as a network does."""
        self._context = context
        self._inbox = inbox
        self._seed = seed
        self._now = now
        self._hybrid = hybrid
        self._survives = survives
        self._paths: dict[int, Path] = {}
        self._connections: dict[int, Connection] = {}
        self._bulk_connections: dict[int, Connection] = {}
        self._left: list[Connection] = []  # to devices that are gone, and whose end has not been noticed
        self._addresses: dict[int, str] = {}
        self._received: list[tuple[float, list[bytes]]] = []  # while a message waited for room
        self._clock: WallClock | None = None
        self._last_s: dict[tuple[int, str], float] = defaultdict(float)
        self._offered_s: dict[int, float] = {}  # by target: when its next chunk was first offered

    def connect(self, peers: Sequence[Peer]) -> None:
        for device, address, path in peers:
            self._paths[device] = path
            if self._addresses.get(device) != address:
                self._leave(device)
                self._addresses[device] = address
                high_water = PATIENT_HIGH_WATER if self._survives else HIGH_WATER
                self._connections[device] = Connection(self._context, address, high_water=high_water)

    def _leave(self, device: int) -> None:
        """Leave the connections to a device: another process is in its place.

        Those that are not known to be lost stay open: ZeroMQ aborts if a receiver dies just when a socket is closed
        with a message of several frames half sent (libzmq issue 3442).
        """
        for connections in (self._connections, self._bulk_connections):
            connection = connections.pop(device, None)
            if connection is not None and connection.is_lost:
                connection.close()
            elif connection is not None:
                self._left.append(connection)
        self._offered_s.pop(device, None)

    def begin(self, clock: WallClock | None) -> None:
        self._clock = clock
        self._last_s.clear()
        self._offered_s.clear()
        self._inbox.stalls.take_s()

    def take_stalled_s(self) -> float:
        return self._inbox.stalls.take_s()

    def send(self, message: Data, target: int) -> None:
        added_s = self._added_s(draw_key(message, target), data_bytes(message.payload), message.departure_s)
        leaving = msgspec.structs.replace(message, arrival_s=message.departure_s + added_s, sent_s=self._now())
        try:
            self._received += self._connections[target].push(encode_data(leaving), self._inbox)
        except LinkLostError:
            if not self._survives:
                raise

    def send_chunk(self, chunk: ShipmentChunk, number: int, target: int, departure_s: float) -> float | None:
        connection = self._bulk_connections.get(target)
        if connection is None:
            address = self._addresses[target]
            connection = Connection(self._context, address, high_water=BULK_MESSAGES, buffer_bytes=BULK_BUFFER_BYTES)
            self._bulk_connections[target] = connection
        now_s = self._now()
        offered_s = self._offered_s.setdefault(target, now_s)
        if not self._has_room(connection):
            return None
        del self._offered_s[target]
        size_bytes = MESSAGE_HEADER_BYTES + len(chunk.payload)
        added_s = self._added_s(chunk_draw_key(chunk, number, target), size_bytes, departure_s)
        taken_s, lag_s = departure_s, 0.0
        if self._clock is not None:
            lag_s = max(0.0, offered_s - self._clock.wall_s(departure_s))
            taken_s += 8.0 * size_bytes / (BULK_SHARE * self._paths[target].bandwidth_when_up_at(departure_s))
        arrival_s = taken_s + added_s
        if self._clock is not None:
            taken_s = max(taken_s, self._clock.emulated_s(now_s - lag_s))  # it has waited for room
        instants = {"departure_s": departure_s, "arrival_s": arrival_s, "sent_s": now_s}
        header = msgspec.structs.replace(chunk.header, **instants, added_s=added_s, lag_s=lag_s)
        try:
            connection.offer(encode_chunk(ShipmentChunk(header, chunk.payload)))
        except LinkLostError:
            if not self._survives:
                raise
        return taken_s

    def _has_room(self, connection: Connection) -> bool:
        """Whether a chunk can be sent, if only to be dropped. Raises: LinkLostError, if it must not be."""
        if self._survives and connection.is_lost:
            return True
        return connection.has_room

    def wait(self, descriptor: int, timeout_s: float | None) -> bool:
        waiting = self._received or self._inbox.waiting
        ready, _, _ = select.select([descriptor, self._inbox.fileno()], [], [], 0.0 if waiting else timeout_s)
        return descriptor in ready

    def receive(self) -> list[Data | ShipmentChunk]:
        received = self._received + self._inbox.take()
        self._received = []
        return [self._arrived(stamp_s, frames) for stamp_s, frames in received]

    def close(self) -> None:
        for connection in (*self._connections.values(), *self._bulk_connections.values(), *self._left):
            connection.close()
        self._inbox.close()

    def _added_s(self, key: DrawKey, size_bytes: int, departure_s: float) -> float:
        """Seconds that the timeline adds to what the kernel does."""
        if not self._hybrid or self._clock is None:
            return 0.0
        path = self._paths[key.target]
        return path.delay_at(departure_s) + disturbance_s(path, size_bytes, self._seed, key, departure_s)

    def _arrived(self, stamp_s: float, frames: list[bytes]) -> Data | ShipmentChunk:
        message = decode_frames(frames)
        if self._clock is None:
            return message
        arrived_s = stamp_s - self._inbox.stalls.overlap_s(_sent_s(message), stamp_s)
        if isinstance(message, ShipmentChunk):
            # A chunk may leave before it is due, or wait for room, which is the network's time.
            header = message.header
            arrival_s = max(header.arrival_s, self._clock.emulated_s(arrived_s - header.lag_s) + header.added_s)
            arrival_s = self._in_order_s(header.shipment.source, "chunks", arrival_s)
            return ShipmentChunk(msgspec.structs.replace(header, arrival_s=arrival_s), message.payload)
        took_s = max(0.0, arrived_s - message.sent_s) / self._clock.dilation
        arrival_s = self._in_order_s(message.source, "data", message.arrival_s + took_s)
        return msgspec.structs.replace(message, arrival_s=arrival_s, sent_s=message.departure_s)

    def _in_order_s(self, source: int, kind: str, arrival_s: float) -> float:
        """The arrival, but not before that of the previous message on the same connection."""
        self._last_s[source, kind] = max(self._last_s[source, kind], arrival_s)
        return self._last_s[source, kind]


def _sent_s(message: Data | ShipmentChunk) -> float:
    return message.header.sent_s if isinstance(message, ShipmentChunk) else message.sent_s
