"""A device's part in the links' self-test: messages to send, and records of those that arrive. Pure; no sockets."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from edgeemu.device import protocol_in, protocol_out
from edgeemu.links import messages
from edgeemu.links.interface import ProbeRecord
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.program import MessageKind

_FLOAT_BYTES = 4


def probe_messages(request: protocol_in.Probe, index: int, at_s: float) -> Iterator[messages.Data]:
    """Makes the messages of a burst; they depart at `at_s`."""
    number, total = request.number, len(request.payload_bytes)
    for step, payload_bytes in enumerate(request.payload_bytes):
        payload = np.zeros((1, _floats(payload_bytes)), np.float32)  # [1, n]
        yield messages.Data(MessageKind.PROBE, 0, index, number, step, 0, total, at_s, at_s, payload)


def probe_bytes(request: protocol_in.Probe) -> list[int]:
    """Sizes of the messages of a burst on the wire."""
    return [MESSAGE_HEADER_BYTES + _FLOAT_BYTES * _floats(payload_bytes) for payload_bytes in request.payload_bytes]


def _floats(payload_bytes: int) -> int:
    return max(1, payload_bytes // _FLOAT_BYTES)


class LinkProbe:
    """Bursts that arrive at this device, until each is complete."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._received: dict[tuple[int, int], list[ProbeRecord]] = defaultdict(list)

    def take(self, message: messages.Data, released_s: float) -> protocol_out.Probed | None:
        """Records a message that was released at an instant; returns the records when it was the last of its burst."""
        burst = self._received[message.source, message.sequence]
        size_bytes = messages.data_bytes(message.payload)
        instants = message.departure_s, message.arrival_s, released_s
        burst.append(ProbeRecord(size_bytes, *instants, message.waited_s))
        if len(burst) < message.position:
            return None
        del self._received[message.source, message.sequence]
        return protocol_out.Probed(self._name, message.source, message.sequence, burst)
