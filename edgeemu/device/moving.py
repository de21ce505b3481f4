"""A device's part in a migration: parcels out, parcels in. Pure state around `Compute`; no sockets, no clock."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from edgeemu import control, wire
from edgeemu.blocks import Block, Kind
from edgeemu.device.compute import Arrived, Compute, ProtocolError
from edgeemu.device.parcels import Parcel, checksum, pieces, unpack, weight_shapes
from edgeemu_kernels.linear import Array


def block_of(spec: control.Incoming | control.ShipmentSpec | wire.ParcelHeader) -> Block:
    return Block(Kind(spec.kind), spec.layer, spec.group)


def by_target(request: control.Ship) -> Iterator[tuple[int, list[control.ShipmentSpec]]]:
    """What goes to each target, in the order in which it goes."""
    for target, specs in groupby(request.shipments, key=lambda spec: spec.target):
        yield target, list(specs)


def outgoing(
    request: control.Ship, specs: list[control.ShipmentSpec], source: int, compute: Compute
) -> Iterator[wire.ParcelChunk]:
    """The chunks of one connection, one parcel after the other, each made when it is due. Arrivals are not set."""
    for spec in specs:
        arrays = compute.export(
            block_of(spec), spec.sequence, spec.first_row, spec.end_row, with_weights=spec.with_weights
        )
        total, crc, offset = sum(array.nbytes for array in arrays), checksum(arrays), 0
        for piece in pieces(arrays, request.chunk_bytes):
            header = wire.ParcelHeader(
                epoch=request.epoch,
                number=request.number,
                source=source,
                kind=spec.kind,
                layer=spec.layer,
                group=spec.group,
                sequence=spec.sequence,
                first_row=spec.first_row,
                end_row=spec.end_row,
                with_weights=spec.with_weights,
                offset=offset,
                total=total,
                crc=crc,
            )
            yield wire.ParcelChunk(header, piece)
            offset += len(piece)


@dataclass(slots=True)
class _Round:
    """How much of a round has come. `expected` is None until the controller has said."""

    expected: int | None = None
    whole: int = 0
    last_s: float = 0.0


@dataclass(slots=True)
class Receiving:
    """What comes to this device in one migration."""

    epoch: int
    blocks: list[Block]
    _open: dict[tuple[int, int, Block], Parcel] = field(default_factory=dict)
    _whole: dict[Block, list[tuple[wire.ParcelHeader, bytearray]]] = field(default_factory=dict)
    _flash: dict[Block, list[Array]] = field(default_factory=dict)
    _rounds: dict[int, _Round] = field(default_factory=dict)

    def expect(self, request: control.Expect, compute: Compute) -> float | None:
        """A round begins. Returns the instant of its end if all of it is here already."""
        if request.from_flash:
            self._flash = {block: compute.weights_from_flash(block) for block in self.blocks}
        round_ = self._rounds.setdefault(request.number, _Round())
        round_.expected = request.parcels
        round_.last_s = max(round_.last_s, request.flash_end_s)
        return self._end_s(round_)

    def add(self, chunk: wire.ParcelChunk) -> float | None:
        """Takes a chunk. Returns the instant of its round's end if it is the last.

        Raises:
            ProtocolError: it belongs to another migration or to a block that was not announced.
            ParcelError: it is out of order or damaged.
        """
        header, block = chunk.header, block_of(chunk.header)
        if header.epoch != self.epoch or block not in self.blocks:
            raise ProtocolError(f"{block} of epoch {header.epoch} came, but epoch {self.epoch} brings {self.blocks}")
        round_ = self._rounds.setdefault(header.number, _Round())
        round_.last_s = max(round_.last_s, header.arrival_s)
        key = header.number, header.sequence, block
        if key not in self._open:
            self._open[key] = Parcel(header.total, header.crc)
        parcel = self._open[key]
        if not parcel.add(header.offset, chunk.payload):
            return None
        del self._open[key]
        self._whole.setdefault(block, []).append((header, parcel.data))
        round_.whole += 1
        return self._end_s(round_)

    def collect(self, compute: Compute) -> dict[Block, Arrived]:
        """All that has come, put together from its rounds.

        Raises:
            ProtocolError: something is missing.
        """
        if self._open or any(round_.expected != round_.whole for round_ in self._rounds.values()):
            raise ProtocolError(f"commit of epoch {self.epoch} before all of it has come")
        return {block: self._assemble(block, compute) for block in self.blocks}

    def _assemble(self, block: Block, compute: Compute) -> Arrived:
        """A block's weights, and the rows of every sequence that is still open."""
        shape = compute.costs.shape
        weights = self._flash.get(block, [])
        rows: dict[int, list[list[Array]]] = defaultdict(list)
        for header, data in sorted(self._whole.get(block, []), key=lambda part: part[0].number):
            shapes = weight_shapes(shape, block) if header.with_weights else []
            n_rows = header.end_row - header.first_row if block.kind is Kind.HEAD else 0
            arrays = unpack(data, [*shapes, *([(n_rows, shape.head_dim)] * 2 if n_rows else [])])
            weights = arrays[: len(shapes)] or weights
            if n_rows and compute.is_open(header.sequence):
                rows[header.sequence].append(arrays[len(shapes) :])
        whole = {
            sequence: (np.concatenate([keys for keys, _ in parts]), np.concatenate([values for _, values in parts]))
            for sequence, parts in rows.items()
        }  # sequence -> 2 x [rows, head_dim]
        return Arrived(weights, whole)

    @staticmethod
    def _end_s(round_: _Round) -> float | None:
        return round_.last_s if round_.expected == round_.whole else None
