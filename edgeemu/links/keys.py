"""The name of a message in draws of jitter and loss: the same whatever carries it. Pure."""

from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.placement.program import MessageKind, Slot
from edgeemu.timeline.network import DrawKey


def draw_key(message: Data, target: int) -> DrawKey:
    slot = Slot(message.stage, message.layer, message.source, message.part)
    return DrawKey(message.source, target, message.sequence, message.step, message.stage, slot.place)


def chunk_draw_key(chunk: ShipmentChunk, number: int, target: int) -> DrawKey:
    """Of the chunk with that number in its round to a target."""
    header = chunk.header
    return DrawKey(header.shipment.source, target, header.epoch, header.number, MessageKind.PARCEL, number)
