"""Messages that a device holds until they are due on the timeline. Pure; no time and no sockets."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count

from edgeemu.device.protocol_in import Probe, Start
from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.placement.program import MessageKind

Held = Data | Start | ShipmentChunk | Probe
_PROBE = MessageKind.PROBE


class HeldMessages:
    """Messages in the order in which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Held]] = []
        self._order = count()

    @property
    def due_s(self) -> float | None:
        """When the first is due; None: none is held."""
        return self._heap[0][0] if self._heap else None

    def hold(self, due_s: float, message: Held) -> None:
        """Hold a message until an instant."""
        heappush(self._heap, (due_s, next(self._order), message))

    def take(self, now_s: float) -> Iterator[Held]:
        """Yield the messages that are due, also those that come to be held meanwhile."""
        while self._heap and self._heap[0][0] <= now_s:
            yield heappop(self._heap)[-1]

    def drop_steps(self) -> int:
        """Drop what belongs to steps; return the bytes of its payloads. Chunks and test messages stay."""
        dropped_bytes, kept = 0, []
        for held in self._heap:
            message = held[-1]
            if isinstance(message, Data) and message.kind is not _PROBE:
                dropped_bytes += message.payload.nbytes
            elif not isinstance(message, Start):
                kept.append(held)
        self._heap = kept
        heapify(kept)
        return dropped_bytes
