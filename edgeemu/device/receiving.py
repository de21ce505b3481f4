"""Blocks that arrive at this device in a migration: chunks in, blocks out. Pure; no sockets, no clock."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeemu.device import protocol_in
from edgeemu.device.block_bytes import BlockBytes, cache_layouts, unpack, weight_layouts
from edgeemu.device.executor import Executor
from edgeemu.device.protocol_states import ProtocolError
from edgeemu.device.sequences import ArrivedBlock
from edgeemu.links import messages
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.placement import Move
from edgeemu_kernels.packed import Stored


@dataclass(slots=True)
class ReceivedRound:
    """Progress of a round. `expected` shipments is None until the controller has sent it."""

    expected: int | None = None
    complete: int = 0
    last_s: float = 0.0


@dataclass(slots=True)
class ReceivedBlocks:
    """Everything that arrives at this device in one migration."""

    epoch: int
    blocks: Mapping[Block, Move]
    _open: dict[tuple[int, int, Block], BlockBytes] = field(default_factory=dict)
    _complete: dict[Block, list[tuple[messages.ChunkHeader, bytearray]]] = field(default_factory=dict)
    _flash: dict[Block, Sequence[Stored]] = field(default_factory=dict)
    _rounds: dict[int, ReceivedRound] = field(default_factory=dict)

    def expect(self, request: protocol_in.Expect, executor: Executor) -> float | None:
        """Begins a round. Returns the instant of its end if all of it has arrived already."""
        for block in request.from_flash:
            self._flash[block] = executor.weights_from_flash(block, ends_meet=self.blocks[block].ends_meet)
        round_ = self._rounds.setdefault(request.number, ReceivedRound())
        round_.expected = request.shipments
        round_.last_s = max(round_.last_s, request.flash_end_s)
        return self._end_s(round_)

    def add(self, chunk: messages.ShipmentChunk) -> float | None:
        """Takes a chunk. Returns the instant of its round's end if it is the last.

        Raises:
            ProtocolError: it belongs to another migration or to a block that was not announced.
            BlockBytesError: it is out of order or damaged.
        """
        header, block = chunk.header, chunk.header.shipment.block
        if header.epoch != self.epoch or block not in self.blocks:
            brings = ", ".join(map(str, sorted(self.blocks)))
            raise ProtocolError(f"{block} of epoch {header.epoch} arrived, but epoch {self.epoch} brings {brings}")
        round_ = self._rounds.setdefault(header.number, ReceivedRound())
        round_.last_s = max(round_.last_s, header.arrival_s)
        key = header.number, header.shipment.sequence, block
        if key not in self._open:
            self._open[key] = BlockBytes(header.total, header.crc)
        received = self._open[key]
        if not received.add(header.offset, chunk.payload):
            return None
        del self._open[key]
        self._complete.setdefault(block, []).append((header, received.data))
        round_.complete += 1
        return self._end_s(round_)

    def collect(self, executor: Executor) -> dict[Block, ArrivedBlock]:
        """Assembles all blocks from their rounds.

        Raises:
            ProtocolError: something has not arrived.
        """
        begun = bool(self._rounds) or not self.blocks
        if not begun or self._open or any(round_.expected != round_.complete for round_ in self._rounds.values()):
            raise ProtocolError(f"commit of epoch {self.epoch} before all of it has arrived")
        return {block: self._assemble(block, executor) for block in sorted(self.blocks)}

    def _assemble(self, block: Block, executor: Executor) -> ArrivedBlock:
        """A block's weights, and the rows of every sequence that is still open."""
        shape = executor.costs.shape
        weights: Sequence[Stored] = self._flash.get(block, [])
        rows: dict[int, list[list[Stored]]] = defaultdict(list)
        for header, data in sorted(self._complete.get(block, []), key=lambda part: part[0].number):
            shipment = header.shipment
            layouts = []
            if shipment.with_weights:
                layouts = weight_layouts(shape, block, ends_meet=shipment.ends_meet)
            n_rows = shipment.end_row - shipment.first_row if block.kind is Kind.HEAD else 0
            arrays = unpack(data, [*layouts, *(cache_layouts(shape, n_rows) if n_rows else ())])
            weights = arrays[: len(layouts)] or weights
            if n_rows and executor.is_open(shipment.sequence):
                rows[shipment.sequence].append(arrays[len(layouts) :])
        joined = {
            sequence: (np.concatenate([keys for keys, _ in parts]), np.concatenate([values for _, values in parts]))
            for sequence, parts in rows.items()
        }  # sequence -> 2 x [rows, …], as caches store them
        return ArrivedBlock(weights, joined)

    @staticmethod
    def _end_s(round_: ReceivedRound) -> float | None:
        return round_.last_s if round_.expected == round_.complete else None
