"""The interface of a device's links: messages out with their departure, messages in with their arrival.

Behind it are `stamped` (the timeline alone) and `kernel` (real TCP on a shaped path, or only its rate). One body of
tests holds for all.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from edgeemu.cluster.links import Path
from edgeemu.errors import EdgeemuError
from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.timeline.clock import WallClock


class Peer(NamedTuple):
    """A device that this one sends to: where it listens, and the path there."""

    device: int
    address: str
    path: Path


class ProbeRecord(NamedTuple):
    """One message of a link test: its size, its instants on the timeline, when the receiver let it through, its wait.

    The wait is for other messages, as far as it is known.
    """

    size_bytes: int
    departure_s: float
    arrival_s: float
    released_s: float
    waited_s: float = 0.0


class LinkLostError(EdgeemuError):
    """The device at the other end is gone, or the connection to it."""


class Links(Protocol):
    """Connections of one device to the others.

    Messages of one connection (source to target) arrive in the order in which they were sent, each once.
    `reordered` counts those that met a pipe out of the order of departure, where that can be known.
    """

    @property
    def reordered(self) -> int: ...

    def take_stalled_s(self) -> float:
        """Return how long this process stood still since the last call, by the wall clock, where arrivals feel it."""
        ...

    def connect(self, peers: Sequence[Peer]) -> None:
        """Learns the paths to these devices, or how they have changed; a connection is opened once."""
        ...

    def begin(self, clock: WallClock | None) -> None:
        """Begins a timeline, on which nothing has been sent. Without a clock everything arrives when it departs."""
        ...

    def send(self, message: Data, target: int) -> None:
        """Sends a message that departs at `message.departure_s`. Blocks while the receiver is too far behind.

        Raises:
            LinkLostError: nobody will receive it.
        """
        ...

    def send_chunk(self, chunk: ShipmentChunk, number: int, target: int, departure_s: float) -> float | None:
        """Sends the chunk of that number of a round, if there is room for it; never blocks.

        Returns when the link will have taken it, so that the next may follow; None: there was no room.

        Raises:
            LinkLostError: nobody will receive it.
        """
        ...

    def wait(self, descriptor: int, timeout_s: float | None) -> bool:
        """Waits until a message arrives, something else can be read from `descriptor`, or the time is over.

        Returns whether it can be read. `descriptor` is always the same. Without a timeout it waits for ever.
        """
        ...

    def receive(self) -> list[Data | ShipmentChunk]:
        """Messages received since the last call, each with its arrival on the timeline, which may be in the future."""
        ...

    def close(self) -> None: ...
