"""A device's part in a migration: memory is reserved or refused, chunks are sent when they are due, rounds complete.

So are the rounds that keep replicas up to date, beside the migration under way.

Pure: what has to be sent or told is returned as instructions. What a shipment consists of is in `sending` and
`receiving`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from edgeemu.device.executor import Executor
from edgeemu.device.instructions import Connect, Instruction, SendChunk, Tell
from edgeemu.device.pacing import Pacer
from edgeemu.device.protocol_in import DeviceConfig, Expect, HoldReplicas, Prepare, Ship
from edgeemu.device.protocol_out import Arrived, Prepared
from edgeemu.device.receiving import ReceivedBlocks
from edgeemu.device.replicas import DeviceReplicas, Parts
from edgeemu.device.sending import by_target, outgoing
from edgeemu.device.sequences import ArrivedBlock
from edgeemu.device.step_runner import StepRunner
from edgeemu.links.messages import ChunkHeader, ShipmentChunk
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES, Block
from edgeemu.placement.ledger import INCOMING, Ledger, OutOfMemoryError
from edgeemu.timeline.transfers import Transfer


@dataclass(order=True, slots=True)
class _Stream:
    """Chunks for one target: when the next is due, its number, those to come, and the one that is next.

    Where messages keep the device busy, a chunk is due first for the processor and then for the link, which is `free_s`
    when it has taken the one before.
    """

    due_s: float
    order: int
    request: Ship = field(compare=False)
    number: int = field(compare=False)
    target: int = field(compare=False)
    chunks: Iterator[ShipmentChunk] = field(compare=False)
    chunk: ShipmentChunk | None = field(default=None, compare=False)
    free_s: float = field(default=-inf, compare=False)
    given_up: bool = field(default=False, compare=False)


class DeviceMigration:
    """Blocks that leave this device and blocks that arrive, one migration after the other."""

    def __init__(
        self, config: DeviceConfig, pacer: Pacer, ledger: Ledger, executor: Executor, runner: StepRunner
    ) -> None:
        self._name, self._index = config.name, config.index
        self._pacer, self._ledger, self._executor, self._runner = pacer, ledger, executor, runner
        self._unprepared: list[_Stream] = []  # due for the processor; a heap
        self._at_processor: list[_Stream] = []
        self._streams: list[_Stream] = []  # due for their links; a heap
        self._stuck: list[_Stream] = []  # due, and their receivers too far behind to take them
        self._sending: _Stream | None = None  # whose chunk is being sent
        self._until_s = 0.0
        self._order = count()
        self._receiving: ReceivedBlocks | None = None
        self._reserved_bytes = 0
        self.replicas = DeviceReplicas(ledger, executor)

    # -- out ------------------------------------------------------------------------------------------------------

    @property
    def sends(self) -> bool:
        """Whether there are chunks that wait for their instant, or for room."""
        return bool(self._streams or self._unprepared or self._stuck)

    @property
    def due_s(self) -> float | None:
        """When the next chunk is due; None: there is none."""
        return min([heap[0].due_s for heap in (self._streams, self._unprepared) if heap], default=None)

    @property
    def is_stuck(self) -> bool:
        """Whether a chunk that is due found no room."""
        return bool(self._stuck)

    def ship(self, request: Ship) -> list[Instruction]:
        """Begins to send a round."""
        for target, shipments in by_target(request):
            chunks = outgoing(request, shipments, self._executor)
            self._push(_Stream(request.at_s, next(self._order), request, 0, target, chunks))
        return [Connect(request.peers)]

    def _push(self, stream: _Stream) -> None:
        """Notes that a stream's next chunk is due, at an instant that it has."""
        heappush(self._unprepared if self._pacer.messages_cost else self._streams, stream)

    def prepare_due(self, now_s: float) -> None:
        """Queues the chunks that are due for the processor."""
        while self._unprepared and self._unprepared[0].due_s <= now_s:
            stream = heappop(self._unprepared)
            stream.chunk = next(stream.chunks, None)
            if stream.chunk is not None:
                size_bytes = MESSAGE_HEADER_BYTES + len(stream.chunk.payload)
                transfer = Transfer(True, size_bytes, partial(self._prepared, stream))
                self._at_processor.append(stream)
                self._runner.queue(transfer, stream.due_s, stream.target, stream.number)

    def _prepared(self, stream: _Stream, now_s: float) -> list[Instruction]:
        """The processor is done with a stream's next chunk, which departs as soon as its link is free."""
        if stream.given_up:
            return []
        self._at_processor.remove(stream)
        stream.due_s = max(now_s, stream.free_s)
        heappush(self._streams, stream)
        return self.ship_until(now_s)

    def ship_until(self, until_s: float) -> list[Instruction]:
        """Sends the chunks that are due by an instant, beginning with the first; `sent` goes on with the others.

        The next of a connection is due when the link has taken the one before.
        """
        if not self._streams and not self._stuck:
            return []
        self._until_s = until_s
        for stream in self._stuck:
            heappush(self._streams, stream)
        self._stuck.clear()
        return self._next_chunk()

    def sent(self, taken_s: float | None) -> list[Instruction]:
        """The chunk has been taken by its link, or (None) there was no room for it: then it stays due."""
        stream, self._sending = self._sending, None
        assert stream is not None, "the process answers each chunk once"
        assert stream.chunk is not None
        if taken_s is None:
            self._stuck.append(stream)
        else:
            self._runner.sent_bytes[stream.target] += MESSAGE_HEADER_BYTES + len(stream.chunk.payload)
            stream.number, stream.chunk, stream.free_s = stream.number + 1, None, taken_s
            if not self._pacer.messages_cost:
                stream.due_s = taken_s
            self._push(stream)
        return self._next_chunk()

    def _next_chunk(self) -> list[Instruction]:
        while self._streams and self._streams[0].due_s <= self._until_s:
            stream = heappop(self._streams)
            stream.chunk = stream.chunk or next(stream.chunks, None)
            if stream.chunk is not None:
                self._sending = stream
                return [SendChunk(stream.chunk, stream.number, stream.target, stream.due_s)]
        return []

    # -- in -------------------------------------------------------------------------------------------------------

    def prepare(self, request: Prepare, left_bytes: int) -> Prepared:
        """Reserves memory for what is to come, of the `left_bytes` that other work leaves, or gives the refusal."""
        refusal = ""
        try:
            limit_bytes = left_bytes if request.incoming else None
            self._ledger.charge(INCOMING, request.reserve_bytes, limit_bytes, request.growth_bytes)
            self._reserved_bytes = request.reserve_bytes
        except OutOfMemoryError as error:
            refusal = str(error)
        else:
            self._receiving = ReceivedBlocks(request.epoch, {move.block: move for move in request.incoming})
        return Prepared(self._name, request.epoch, refusal)

    def expect(self, request: Expect) -> list[Instruction]:
        """A round begins."""
        if request.to_replicas:
            return self._arrived(request, self.replicas.expect(request))
        return self._arrived(request, self._current().expect(request, self._executor))

    def take_chunk(self, chunk: ShipmentChunk) -> list[Instruction]:
        """Takes in a chunk of a round under way."""
        if chunk.header.to_replica:
            return self._arrived(chunk.header, self.replicas.add(chunk))
        return self._arrived(chunk.header, self._current().add(chunk))

    def collect(self, parts: Parts) -> dict[Block, ArrivedBlock]:
        """All that has arrived, or a replica has; the migration is over, and what it had reserved is free.

        `parts`: what is to be held. Nothing more is sent: it may be held no longer.
        """
        arriving = self._receiving.collect(self._executor) if self._receiving is not None else {}
        self._end()
        self._give_up(to_replicas=True)
        self.replicas.take(parts, arriving)
        return arriving

    def abort(self) -> None:
        """Forgets the migration: nothing more of it is sent, and what it had reserved is free."""
        self._end()
        self._give_up(to_replicas=False)

    def hold(self, request: HoldReplicas) -> None:
        """Holds other replicas, or the same: nothing more of what was under way to replicas is sent."""
        self._give_up(to_replicas=True)
        self.replicas.hold(request)

    def _end(self) -> None:
        self._receiving = None
        self._ledger.release(INCOMING, self._reserved_bytes)
        self._reserved_bytes = 0

    def _give_up(self, *, to_replicas: bool) -> None:
        """Sends nothing more of the migration, or to replicas."""
        for streams in (self._unprepared, self._at_processor, self._streams, self._stuck):
            for stream in streams:
                stream.given_up = stream.request.to_replicas is to_replicas
            streams[:] = [stream for stream in streams if not stream.given_up]
        heapify(self._unprepared)
        heapify(self._streams)

    def _current(self) -> ReceivedBlocks:
        assert self._receiving is not None, "chunks are legal only after Prepare"
        return self._receiving

    def _arrived(self, of: Expect | ChunkHeader, at_s: float | None) -> list[Instruction]:
        """Tells that a round is complete, if it is."""
        return [] if at_s is None else [Tell(Arrived(self._name, self._index, of.epoch, of.number, at_s))]
