"""A device's part in a migration: parcels out, parcels in. Pure state around `Compute`; no sockets, no clock."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from edgeemu.device import protocol_in
from edgeemu.device.block_bytes import BlockBytes, unpack, weight_shapes
from edgeemu.device.executor import ArrivedBlock, Executor
from edgeemu.device.protocol_states import ProtocolError
from edgeemu.links import messages
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.linear import Array


@dataclass(slots=True)
class _ReceivedRound:
    """How much of a round has come. `expected` is None until the controller has said."""

    expected: int | None = None
    whole: int = 0
    last_s: float = 0.0


@dataclass(slots=True)
class ReceivedBlocks:
    """What comes to this device in one migration."""

    epoch: int
    blocks: list[Block]
    _open: dict[tuple[int, int, Block], BlockBytes] = field(default_factory=dict)
    _whole: dict[Block, list[tuple[messages.ChunkHeader, bytearray]]] = field(default_factory=dict)
    _flash: dict[Block, list[Array]] = field(default_factory=dict)
    _rounds: dict[int, _ReceivedRound] = field(default_factory=dict)

    def expect(self, request: protocol_in.Expect, compute: Executor) -> float | None:
        """A round begins. Returns the instant of its end if all of it is here already."""
        if request.from_flash:
            self._flash = {block: compute.weights_from_flash(block) for block in self.blocks}
        round_ = self._rounds.setdefault(request.number, _ReceivedRound())
        round_.expected = request.parcels
        round_.last_s = max(round_.last_s, request.flash_end_s)
        return self._end_s(round_)

    def add(self, chunk: messages.ShipmentChunk) -> float | None:
        """Takes a chunk. Returns the instant of its round's end if it is the last.

        Raises:
            ProtocolError: it belongs to another migration or to a block that was not announced.
            ParcelError: it is out of order or damaged.
        """
        header, block = chunk.header, chunk.header.shipment.block
        if header.epoch != self.epoch or block not in self.blocks:
            raise ProtocolError(f"{block} of epoch {header.epoch} came, but epoch {self.epoch} brings {self.blocks}")
        round_ = self._rounds.setdefault(header.number, _ReceivedRound())
        round_.last_s = max(round_.last_s, header.arrival_s)
        key = header.number, header.shipment.sequence, block
        if key not in self._open:
            self._open[key] = BlockBytes(header.total, header.crc)
        parcel = self._open[key]
        if not parcel.add(header.offset, chunk.payload):
            return None
        del self._open[key]
        self._whole.setdefault(block, []).append((header, parcel.data))
        round_.whole += 1
        return self._end_s(round_)

    def collect(self, compute: Executor) -> dict[Block, ArrivedBlock]:
        """All that has come, put together from its rounds.

        Raises:
            ProtocolError: something is missing.
        """
        if self._open or any(round_.expected != round_.whole for round_ in self._rounds.values()):
            raise ProtocolError(f"commit of epoch {self.epoch} before all of it has come")
        return {block: self._assemble(block, compute) for block in self.blocks}

    def _assemble(self, block: Block, compute: Executor) -> ArrivedBlock:
        """A block's weights, and the rows of every sequence that is still open."""
        shape = compute.costs.shape
        weights = self._flash.get(block, [])
        rows: dict[int, list[list[Array]]] = defaultdict(list)
        for header, data in sorted(self._whole.get(block, []), key=lambda part: part[0].number):
            shipment = header.shipment
            shapes = weight_shapes(shape, block) if shipment.with_weights else []
            n_rows = shipment.end_row - shipment.first_row if block.kind is Kind.HEAD else 0
            arrays = unpack(data, [*shapes, *([(n_rows, shape.head_dim)] * 2 if n_rows else [])])
            weights = arrays[: len(shapes)] or weights
            if n_rows and compute.is_open(shipment.sequence):
                rows[shipment.sequence].append(arrays[len(shapes) :])
        whole = {
            sequence: (np.concatenate([keys for keys, _ in parts]), np.concatenate([values for _, values in parts]))
            for sequence, parts in rows.items()
        }  # sequence -> 2 x [rows, head_dim]
        return ArrivedBlock(weights, whole)

    @staticmethod
    def _end_s(round_: _ReceivedRound) -> float | None:
        return round_.last_s if round_.expected == round_.whole else None
