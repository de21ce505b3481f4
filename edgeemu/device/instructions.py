"""What happens to a device beside messages, and what it asks its process to do. Plain values.

`Device.handle` takes an event, which is one of these or a message from the controller or from another device, and
returns instructions. Some instructions have an outcome, which comes back as an event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeemu.device.dataflow import ReadyOp
from edgeemu.device.protocol_in import Probe, ToDevice
from edgeemu.device.protocol_out import Bye, FromDevice
from edgeemu.links.interface import Peer
from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.timeline.clock import WallClock

# -- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: it is `now_s` on the timeline (infinite where nothing is paced)."""

    now_s: float


@dataclass(frozen=True, slots=True)
class OperationRan:
    """The outcome of `RunOperation`: the result, and the thread time that the kernel took."""

    result: NDArray[Any]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Woke:
    """The outcome of `SleepUntil`. `late_s` is how far behind the timeline the clock is, in emulated seconds.

    `overran`: it was behind before the sleep. `wall_s` is the clock after the sleep.
    """

    late_s: float
    overran: bool
    wall_s: float


@dataclass(frozen=True, slots=True)
class ChunkSent:
    """The outcome of `SendChunk`: when the link will have taken the chunk; None: there was no room for it."""

    taken_s: float | None


Event = ToDevice | Data | ShipmentChunk | Tick | OperationRan | Woke | ChunkSent

# -- instructions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the controller."""

    message: FromDevice


@dataclass(frozen=True, slots=True)
class Connect:
    """Make connections to these devices, or take note that the paths to them have changed."""

    peers: Sequence[Peer]


@dataclass(frozen=True, slots=True)
class BeginTimeline:
    """Start a timeline on which nothing has been sent. Without a clock nothing waits."""

    clock: WallClock | None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a device; it departs at its `departure_s`."""

    message: Data
    target: int


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Offer a chunk to a link, the `number`-th of its round to that target. Outcome: `ChunkSent`."""

    chunk: ShipmentChunk
    number: int
    target: int
    departure_s: float


@dataclass(frozen=True, slots=True)
class SendProbes:
    """Send the messages of a link test, each of which departs when it is sent."""

    request: Probe


@dataclass(frozen=True, slots=True)
class RunOperation:
    """Execute an operation (`Device.run`) and measure it. Outcome: `OperationRan`."""

    ready: ReadyOp


@dataclass(frozen=True, slots=True)
class SleepUntil:
    """Wait for an instant of the timeline. Outcome: `Woke`."""

    end_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Send the last message, and end the process."""

    message: Bye


Instruction = Tell | Connect | BeginTimeline | Send | SendChunk | SendProbes | RunOperation | SleepUntil | Leave
