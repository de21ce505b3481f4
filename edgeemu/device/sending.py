"""Blocks that leave this device: which messages a migration round sends to which target."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgeemu.device import protocol_in
from edgeemu.device.block_bytes import checksum, pieces
from edgeemu.device.executor import Executor
from edgeemu.links import messages
from edgeemu.placement.shipments import Shipment


def by_target(request: protocol_in.Ship) -> Iterator[tuple[int, list[Shipment]]]:
    """Shipments by target, in the order in which they are sent."""
    for target, shipments in groupby(request.shipments, key=lambda shipment: shipment.target):
        yield target, list(shipments)


def outgoing(
    request: protocol_in.Ship, shipments: Sequence[Shipment], executor: Executor
) -> Iterator[messages.ShipmentChunk]:
    """The chunks of one connection, one shipment after the other, each made when it is due. Arrivals are not set."""
    for shipment in shipments:
        block, _, _, sequence, first_row, end_row, with_weights, ends_meet = shipment
        if sequence < 0 and with_weights and not executor.holds(block):  # this device is the store of what was lost
            arrays = executor.weights_from_flash(block, ends_meet=ends_meet)
        else:
            arrays = executor.export(
                block, sequence, first_row, end_row, with_weights=with_weights, ends_meet=ends_meet
            )
        total, crc, offset = sum(array.nbytes for array in arrays), checksum(arrays), 0
        for piece in pieces(arrays, request.chunk_bytes):
            header = messages.ChunkHeader(
                request.epoch, request.number, shipment, offset, total, crc, to_replica=request.to_replicas
            )
            yield messages.ShipmentChunk(header, piece)
            offset += len(piece)
        del arrays, piece  # a store reads the next block when nothing of this one is left
