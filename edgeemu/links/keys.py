"""Keys of a message's random jitter and loss: equal for all kinds of links. Pure."""

from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.placement.program import MessageKind, Slot
from edgeemu.timeline.network import DrawKey
from edgeemu.timeline.shipping import TO_REPLICAS


def draw_key(message: Data, target: int) -> DrawKey:
    """Random key of a message to a target."""
    slot = Slot(message.kind, message.layer, message.source, message.part)
    return DrawKey(message.source, target, message.sequence, message.step, message.kind, slot.place)


def chunk_draw_key(chunk: ShipmentChunk, number: int, target: int) -> DrawKey:
    """Random key of the chunk with that number in its round to a target."""
    header = chunk.header
    epoch = TO_REPLICAS if header.to_replica else header.epoch
    return DrawKey(header.shipment.source, target, epoch, header.number, MessageKind.SHIPMENT, number)
