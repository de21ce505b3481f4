"""Blocks that leave this device: which messages a migration round sends to which target."""

from collections.abc import Iterator
from itertools import groupby

from edgeemu.device import protocol_in
from edgeemu.device.block_bytes import checksum, pieces
from edgeemu.device.executor import Executor
from edgeemu.links import messages
from edgeemu.placement.blocks import Block, Kind


def block_of(spec: protocol_in.ExpectedBlock | protocol_in.ShipmentSpec | messages.ChunkHeader) -> Block:
    return Block(Kind(spec.kind), spec.layer, spec.group)


def by_target(request: protocol_in.Ship) -> Iterator[tuple[int, list[protocol_in.ShipmentSpec]]]:
    """What goes to each target, in the order in which it goes."""
    for target, specs in groupby(request.shipments, key=lambda spec: spec.target):
        yield target, list(specs)


def outgoing(
    request: protocol_in.Ship, specs: list[protocol_in.ShipmentSpec], source: int, compute: Executor
) -> Iterator[messages.ShipmentChunk]:
    """The chunks of one connection, one parcel after the other, each made when it is due. Arrivals are not set."""
    for spec in specs:
        arrays = compute.export(
            block_of(spec), spec.sequence, spec.first_row, spec.end_row, with_weights=spec.with_weights
        )
        total, crc, offset = sum(array.nbytes for array in arrays), checksum(arrays), 0
        for piece in pieces(arrays, request.chunk_bytes):
            header = messages.ChunkHeader(
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
            yield messages.ShipmentChunk(header, piece)
            offset += len(piece)
