"""Messages of a migration to device processes."""

from edgeemu.device import protocol_in
from edgeemu.placement.placement import Move
from edgeemu.placement.shipments import Shipment


def incoming_spec(move: Move) -> protocol_in.ExpectedBlock:
    return protocol_in.ExpectedBlock(move.block.kind, move.block.layer, move.block.group, move.source)


def shipment_spec(shipment: Shipment) -> protocol_in.ShipmentSpec:
    kind, layer, group = shipment.block
    return protocol_in.ShipmentSpec(kind, layer, group, *shipment[2:])
