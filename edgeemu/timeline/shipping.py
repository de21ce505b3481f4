"""Transfers on a simulator's timeline: rounds of copying, chunk by chunk, and test messages. No wall clock.

The next chunk of a connection departs when the link has taken the one before, and the sender's processor handles it
meanwhile: it is one ahead, not more, so that other messages find their way between.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import NamedTuple

from edgeemu.placement.costs import Costs
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment, chains, message_sizes
from edgeemu.timeline.network import Network, Transit
from edgeemu.timeline.ready_queue import Waiting
from edgeemu.timeline.traffic import NOT_ALONE, Message
from edgeemu.timeline.transfers import Transfer

TO_REPLICAS = -1  # in place of an epoch: rounds to replicas are numbered through the run, whatever epochs there are
Flash = Mapping[int, float]


@dataclass(slots=True)
class Round:
    """Chunks of a round of copying that are still to arrive, by receiver. A cancelled round delivers nothing more."""

    epoch: int
    number: int
    missing: dict[int, int]
    cancelled: bool = False


class Shipped(NamedTuple):
    """Event: a device has received everything of a round."""

    device: int
    at_s: float
    round: Round


ShippedTransfer = Transfer[Shipped | None]
Handler = Callable[[float], Shipped | None]


class ShippingTimeline(NamedTuple):
    """Parts of a simulator that shipping needs."""

    network: Network
    sent_bytes: Counter[int]  # by number of a connection
    at: Callable[[float, Handler], None]  # makes an event
    messages_cost: Callable[[int], bool]  # whether they keep a device busy
    queue: Callable[[int, Waiting, ShippedTransfer], None]  # of a device that they keep busy


@dataclass(slots=True)
class _ChunkStream:
    """Chunks of one connection: their sizes, and whether each is the last of its shipment."""

    round: Round
    source: int
    target: int
    chunks: Sequence[tuple[int, bool]]
    free_s: float = -inf  # when the link has taken the chunk before


class Shipping:
    """Transfers under way on a timeline."""

    def __init__(self, timeline: ShippingTimeline, costs: Costs) -> None:
        self.probed: list[Transit] = []  # test messages that have arrived
        self.to_replicas: list[Message] = []  # chunks that were sent
        self._network, self._sent_bytes, self._at, self._messages_cost, self._queue = timeline
        self._costs = costs

    # -- blocks and rows -----------------------------------------------------------------------------------------

    def ship(
        self, shipments: Sequence[Shipment], at_s: float, *, epoch: int, number: int, chunk_bytes: int, flash_s: Flash
    ) -> Round:
        """Ship a round of copying from an instant on. `flash_s`: end of each receiver's read of its own storage."""
        round_ = Round(epoch, number, dict(Counter(shipment.target for shipment in shipments)))
        for device, end_s in flash_s.items():
            round_.missing[device] = round_.missing.get(device, 0) + 1
            self._at(end_s, partial(self._shipment_arrived, round_, device))
        for shipped in chains(shipments).values():
            sizes = [message_sizes(shipment, self._costs, chunk_bytes) for shipment in shipped]
            last_of_shipment = [index == len(chunks) - 1 for chunks in sizes for index in range(len(chunks))]
            messages = list(zip([size for chunks in sizes for size in chunks], last_of_shipment, strict=True))
            stream = _ChunkStream(round_, shipped[0].source, shipped[0].target, messages)
            self._at(at_s, partial(self._prepare, stream, 0))
        return round_

    def _prepare(self, stream: _ChunkStream, number: int, now_s: float) -> None:
        """Have the sender's processor handle a chunk."""
        if stream.round.cancelled:
            return
        transfer = ShippedTransfer(True, stream.chunks[number][0], partial(self._prepared, stream, number))
        self._handle(stream.source, transfer, stream.target, number, now_s)

    def _prepared(self, stream: _ChunkStream, number: int, now_s: float) -> None:
        if now_s > stream.free_s:
            self._send_chunk(stream, number, now_s)
        else:
            self._at(stream.free_s, partial(self._send_chunk, stream, number))

    def _send_chunk(self, stream: _ChunkStream, number: int, now_s: float) -> None:
        """Send a chunk, and prepare the next, which departs when the link has taken this one."""
        round_, source, target, chunks = stream.round, stream.source, stream.target, stream.chunks
        if round_.cancelled:
            return
        size, last_of_shipment = chunks[number]
        connection = self._network.connection(source, target)
        slot = MessageKind.SHIPMENT, number
        arrival_s, _ = self._network.book(connection, (round_.epoch, round_.number), slot, size, now_s)
        self._sent_bytes[connection.number] += size
        if round_.epoch == TO_REPLICAS:
            self.to_replicas.append((connection.number, size, arrival_s - now_s, NOT_ALONE))
        if last_of_shipment or self._messages_cost(target):
            self._at(arrival_s, partial(self._chunk_arrived, stream, number))
        if number + 1 < len(chunks):
            stream.free_s = max(now_s, arrival_s - self._network.delay_s(source, target, now_s))
            self._prepare(stream, number + 1, now_s)

    def _chunk_arrived(self, stream: _ChunkStream, number: int, now_s: float) -> Shipped | None:
        """Have the receiver's processor take a chunk in; after the last, the shipment is there."""
        if stream.round.cancelled:
            return None
        size, last_of_shipment = stream.chunks[number]
        taken_in = partial(self._chunk_taken_in, stream.round, stream.target, last_of_shipment)
        return self._handle(stream.target, ShippedTransfer(False, size, taken_in), stream.source, number, now_s)

    def _chunk_taken_in(self, round_: Round, device: int, last_of_shipment: bool, now_s: float) -> Shipped | None:
        return self._shipment_arrived(round_, device, now_s) if last_of_shipment else None

    @staticmethod
    def _shipment_arrived(round_: Round, device: int, now_s: float) -> Shipped | None:
        round_.missing[device] -= 1
        return None if round_.missing[device] or round_.cancelled else Shipped(device, now_s, round_)

    def _handle(self, device: int, transfer: ShippedTransfer, peer: int, number: int, now_s: float) -> Shipped | None:
        """Queue a transfer at a device; what follows is done now where messages cost no time."""
        if not self._messages_cost(device):
            return transfer.then(now_s)
        self._queue(device, transfer.waiting(now_s, peer, number), transfer)
        return None

    # -- test messages -------------------------------------------------------------------------------------------

    def probe(
        self, way: tuple[int, int], number: int, sizes: Sequence[int], at_s: float, messages: list[Message] | None
    ) -> None:
        """Send test messages from one device to another at an instant; `messages` is to have them. None: nothing is.

        Their times are known when all have been taken in.
        """
        took: list[Transit] = []

        def send(index: int, now_s: float) -> None:
            size_bytes, connection = sizes[index], self._network.connection(*way)
            slot = MessageKind.PROBE, 0
            arrival_s, waited_s = self._network.book(connection, (number, index), slot, size_bytes, now_s)
            self._sent_bytes[connection.number] += size_bytes
            if messages is not None:
                messages.append((connection.number, size_bytes, arrival_s - now_s, NOT_ALONE))
            took.append(Transit(*way, size_bytes, 1, arrival_s - now_s - waited_s))
            if index + 1 == len(sizes) or self._messages_cost(way[1]):
                self._at(arrival_s, partial(arrived, index))

        def arrived(index: int, now_s: float) -> None:
            transfer = ShippedTransfer(False, sizes[index], partial(taken_in, index))
            self._handle(way[1], transfer, way[0], index, now_s)

        def taken_in(index: int, _: float) -> None:
            if index + 1 == len(sizes):
                self.probed.extend(took)

        def begin(now_s: float) -> None:
            for index, size_bytes in enumerate(sizes):
                self._handle(way[0], ShippedTransfer(True, size_bytes, partial(send, index)), way[1], index, now_s)

        self._at(at_s, begin)
