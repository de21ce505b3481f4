"""A device's shell round a migration: memory reserved or refused, parcels sent when they are due, rounds told of.

What a parcel is and how it is put together again is in `moving`. Reads no clock: it is told what time it is.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

from edgeemu.device import protocol_in, protocol_out
from edgeemu.device.executor import ArrivedBlock, Executor, ProtocolError
from edgeemu.device.receiving import ReceivedBlocks
from edgeemu.device.sending import by_target, outgoing
from edgeemu.links import messages
from edgeemu.links.interface import Links
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES, Block
from edgeemu.placement.ledger import INCOMING, Ledger, OutOfMemoryError


@dataclass(frozen=True, order=True, slots=True)
class _Stream:
    """What goes to one target: when the next chunk is due, those to come, and one for which there was no room."""

    due_s: float
    order: int
    number: int
    target: int
    chunks: Iterator[messages.ShipmentChunk] = field(compare=False)
    chunk: messages.ShipmentChunk | None = field(default=None, compare=False)


class DeviceMigration:
    """What leaves this device and what comes to it, of the blocks that it was assigned and has been given since."""

    def __init__(
        self,
        spec: protocol_in.DeviceConfig,
        ledger: Ledger,
        compute: Executor,
        links: Links,
        tell: Callable[[protocol_out.FromDevice], None],
        aborted_epoch: int,
        sent_bytes: Counter[int],
    ) -> None:
        """`sent_bytes`, by receiver, grows with what is sent."""
        self._name, self._index = spec.name, spec.index
        self._ledger, self._compute, self._links = ledger, compute, links
        self._tell = tell
        self._sent_bytes = sent_bytes
        self._shipping: list[_Stream] = []
        self._order = count()
        self._receiving: ReceivedBlocks | None = None
        self.aborted_epoch = aborted_epoch  # parcels up to this one may still come, and are dropped

    # -- out ----------------------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float | None:
        """When the next chunk is due; None: there is none."""
        return self._shipping[0].due_s if self._shipping else None

    def ship(self, request: protocol_in.Ship) -> None:
        self._links.connect(request.peers)
        for target, shipments in by_target(request):
            chunks = outgoing(request, shipments, self._compute)
            heappush(self._shipping, _Stream(request.at_s, next(self._order), 0, target, chunks))

    def ship_until(self, now_s: float) -> bool:
        """Sends the chunks that are due. The next of a connection is due when the link has taken the one before.

        Returns False if a receiver was so far behind that there was no room for one: it stays due.
        """
        stuck: list[_Stream] = []
        while self._shipping and self._shipping[0].due_s <= now_s:
            stream = heappop(self._shipping)
            chunk = stream.chunk or next(stream.chunks, None)
            if chunk is None:
                continue
            next_due_s = self._links.send_chunk(chunk, stream.number, stream.target, stream.due_s)
            if next_due_s is None:
                stuck.append(replace(stream, chunk=chunk))
            else:
                self._sent_bytes[stream.target] += MESSAGE_HEADER_BYTES + len(chunk.payload)
                heappush(self._shipping, replace(stream, due_s=next_due_s, number=stream.number + 1, chunk=None))
        for stream in stuck:
            heappush(self._shipping, stream)
        return not stuck

    # -- in -----------------------------------------------------------------------------------------------------

    def prepare(self, request: protocol_in.Prepare, left_bytes: int) -> None:
        """Reserves memory for what is to come, of what is left, or says why not. The routes stay as they are."""
        refusal = ""
        try:
            self._ledger.charge(INCOMING, request.reserve_bytes, left_bytes, request.growth_bytes)
        except OutOfMemoryError as error:
            refusal = str(error)
        else:
            self._receiving = ReceivedBlocks(request.epoch, request.incoming)
        self._tell(protocol_out.Prepared(self._name, request.epoch, refusal))

    def expect(self, request: protocol_in.Expect) -> None:
        self._tell_arrived(request.number, self._current().expect(request, self._compute))

    def take_chunk(self, chunk: messages.ShipmentChunk) -> None:
        if chunk.header.epoch > self.aborted_epoch:
            self._tell_arrived(chunk.header.number, self._current().add(chunk))

    def collect(self) -> dict[Block, ArrivedBlock]:
        """All that has come; the migration is over, and what it had reserved is free."""
        arriving = self._receiving.collect(self._compute) if self._receiving is not None else {}
        self._receiving = None
        self._ledger.release(INCOMING)
        return arriving

    def abort(self, request: protocol_in.Abort) -> None:
        """Forgets a migration. Parcels of it that are still on their way are dropped when they come."""
        self.aborted_epoch = request.epoch
        self._receiving = None
        self._shipping.clear()
        self._ledger.release(INCOMING)

    def _current(self) -> ReceivedBlocks:
        if self._receiving is None:
            raise ProtocolError(f"{self._name} was not told of a migration")
        return self._receiving

    def _tell_arrived(self, number: int, at_s: float | None) -> None:
        """A round is complete, if it is."""
        if at_s is not None:
            self._tell(protocol_out.Arrived(self._name, self._index, self._current().epoch, number, at_s))
