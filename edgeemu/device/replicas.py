"""Replicas that this device holds of other devices' blocks: chunks in, blocks out when one is needed. Pure; no time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeemu.device.block_bytes import BlockBytes, cache_layouts, unpack, weight_layouts
from edgeemu.device.executor import Executor
from edgeemu.device.protocol_in import Expect, HoldReplicas, Rewind
from edgeemu.device.protocol_states import ProtocolError
from edgeemu.device.receiving import ReceivedRound
from edgeemu.device.sequences import ArrivedBlock
from edgeemu.links.messages import ShipmentChunk
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.ledger import INCOMING, Ledger
from edgeemu.placement.shipments import Shipment
from edgeemu_kernels.packed import Stored

Rows = tuple[Stored, Stored]  # keys and values of some rows, as caches store them: [rows, …]
Parts = Mapping[tuple[Kind, int], Sequence[int]]


@dataclass(slots=True)
class _HeldReplica:
    """Replica of one block, as far as it is there: weights, and rows by sequence, in parts as they arrived."""

    size_bytes: int  # as charged
    weights: Sequence[Stored] | None = None
    rows: dict[int, list[Rows]] = field(default_factory=dict)

    def shorten(self, sequence: int, end_row: int) -> None:
        """Drop rows of a sequence from `end_row` on."""
        kept: list[Rows] = []
        for keys, values in self.rows.get(sequence, ()):
            left = end_row - _count(kept)
            if left > 0:
                kept.append((keys[:left], values[:left]))
        self.rows[sequence] = kept

    def block(self) -> ArrivedBlock:
        assert self.weights is not None, "only replicas with weights take the place of a block"
        joined = {sequence: parts for sequence, parts in self.rows.items() if parts}
        return ArrivedBlock(
            self.weights,
            {
                sequence: (np.concatenate([keys for keys, _ in parts]), np.concatenate([values for _, values in parts]))
                for sequence, parts in joined.items()
            },
        )


class DeviceReplicas:
    """Replicas by block. Rounds keep them up to date; what was on its way when they change is dropped."""

    def __init__(self, ledger: Ledger, executor: Executor) -> None:
        self._ledger, self._executor = ledger, executor
        self._replicas: dict[Block, _HeldReplica] = {}
        self._open: dict[tuple[int, int, Block], BlockBytes] = {}  # by round, sequence and block
        self._rounds: dict[int, ReceivedRound] = {}

    def hold(self, request: HoldReplicas) -> None:
        """Makes room for other replicas; those that were there before keep what they have.

        Raises:
            OutOfMemoryError: there is no room. The controller has counted it, so this is an error of ours.
        """
        before, self._replicas = self._replicas, {}
        self._open.clear()
        self._rounds.clear()
        self._ledger.release(INCOMING, sum(replica.size_bytes for replica in before.values()))
        self._ledger.charge(INCOMING, sum(size_bytes for _, size_bytes in request.replicas))
        for block, size_bytes in request.replicas:
            replica = self._replicas[block] = before.get(block) or _HeldReplica(size_bytes)
            replica.size_bytes = size_bytes
            if request.load:
                replica.weights = self._executor.weights_from_flash(block, ends_meet=False)

    def expect(self, request: Expect) -> float | None:
        """Begins a round. Returns the instant of its end if all of it has arrived already."""
        for block in request.from_flash:
            self._replicas[block].weights = self._executor.weights_from_flash(block, ends_meet=False)
        round_ = self._rounds.setdefault(request.number, ReceivedRound())
        round_.expected = request.shipments
        round_.last_s = max(round_.last_s, request.flash_end_s)
        return self._end_s(request.number)

    def add(self, chunk: ShipmentChunk) -> float | None:
        """Takes a chunk. Returns the instant of its round's end if it is the last.

        Raises:
            ProtocolError: it is of no replica here, or of rows that do not follow those that are there.
            BlockBytesError: it is out of order or damaged.
        """
        header, shipment = chunk.header, chunk.header.shipment
        round_ = self._rounds.setdefault(header.number, ReceivedRound())
        round_.last_s = max(round_.last_s, header.arrival_s)
        key = header.number, shipment.sequence, shipment.block
        received = self._open.setdefault(key, BlockBytes(header.total, header.crc))
        if not received.add(header.offset, chunk.payload):
            return None
        del self._open[key]
        self._put(shipment, received.data)
        round_.complete += 1
        return self._end_s(header.number)

    def _put(self, shipment: Shipment, data: bytearray) -> None:
        block, sequence, first_row = shipment.block, shipment.sequence, shipment.first_row
        replica = self._replicas.get(block)
        if replica is None:
            raise ProtocolError(f"{block} arrived for a replica, but there are {', '.join(map(str, self._replicas))}")
        shape = self._executor.costs.shape
        if shipment.with_weights:
            replica.weights = unpack(data, weight_layouts(shape, block))
        elif self._executor.is_open(sequence):
            there = _count(replica.rows.get(sequence, ()))
            if first_row > there:
                raise ProtocolError(f"rows from {first_row} on of {block} arrived for a replica that has {there}")
            keys, values = unpack(data, cache_layouts(shape, shipment.end_row - first_row))
            replica.shorten(sequence, first_row)
            replica.rows[sequence].append((keys, values))

    def _end_s(self, number: int) -> float | None:
        """Instant of the end of a round that is complete, which is forgotten."""
        round_ = self._rounds[number]
        if round_.expected != round_.complete:
            return None
        del self._rounds[number]
        return round_.last_s

    def rewind(self, request: Rewind) -> None:
        """Drops rows of caches that are shortened."""
        for block, replica in self._replicas.items():
            for sequence, end_row in (request.rows if block.layer < request.layers else request.kept).items():
                replica.shorten(sequence, end_row)

    def close(self, sequence: int) -> None:
        """Drops the rows of a sequence."""
        for replica in self._replicas.values():
            replica.rows.pop(sequence, None)

    def take(self, parts: Parts, arriving: dict[Block, ArrivedBlock]) -> None:
        """Adds to what arrives at a commit the replicas of blocks that are to be held and do not arrive."""
        for block in [block for block in self._replicas if _is_part(block, parts)]:
            replica = self._replicas.pop(block)
            self._ledger.release(INCOMING, replica.size_bytes)
            if block not in arriving:
                arriving[block] = replica.block()


def _count(parts: Sequence[Rows]) -> int:
    return sum(len(keys) for keys, _ in parts)


def _is_part(block: Block, parts: Parts) -> bool:
    held = parts.get((block.kind, block.layer))
    return held is not None and (block.group in held or (block.group < 0 and not held))
