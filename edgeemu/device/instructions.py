"""Events of a device other than messages, and its instructions to its process. Plain values.

`EmulatedDevice.handle` takes an event, which is one of these or a message from the controller or from another device,
and returns instructions. Some instructions have an outcome, which comes back as an event.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgeemu.device.dataflow import ReadyOp
from edgeemu.device.protocol_in import Probe, ToDevice
from edgeemu.device.protocol_out import Bye, FromDevice
from edgeemu.links.interface import Peer
from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.timeline.clock import WallClock

# -- events -----------------------------------------------------------------------------------------------------------


class Tick(msgspec.Struct, frozen=True):
    """Time has passed: it is `now_s` on the timeline (infinite where nothing is paced)."""

    now_s: float


class Woke(msgspec.Struct, frozen=True):
    """The outcome of `SleepUntil`. `late_s` is how far behind the timeline the clock is, in emulated seconds.

    `overran`: it was behind before the sleep. `wall_s` is the clock after the sleep.
    """

    late_s: float
    overran: bool
    wall_s: float


class OperationRan(msgspec.Struct, frozen=True):
    """The outcome of `RunOperation`: the result, and the thread time that the kernel took.

    `woke`: its end has come; None: when that is was not known.
    """

    result: NDArray[Any]
    cpu_s: float
    woke: Woke | None


class ChunkSent(msgspec.Struct, frozen=True):
    """The outcome of `SendChunk`: when the link will have taken the chunk; None: there was no room for it."""

    taken_s: float | None


Event = ToDevice | Data | ShipmentChunk | Tick | OperationRan | Woke | ChunkSent

# -- instructions -----------------------------------------------------------------------------------------------------


class Tell(msgspec.Struct, frozen=True):
    """Send this to the controller."""

    message: FromDevice


class Connect(msgspec.Struct, frozen=True):
    """Make connections to these devices, or take note that the paths to them have changed."""

    peers: Sequence[Peer]


class BeginTimeline(msgspec.Struct, frozen=True):
    """Start a timeline on which nothing has been sent. Without a clock nothing waits."""

    clock: WallClock | None


class Send(msgspec.Struct, frozen=True):
    """Send a message to each of these devices, in this order; it departs at its `departure_s`."""

    message: Data
    targets: Sequence[int]


class SendChunk(msgspec.Struct, frozen=True):
    """Offer a chunk to a link, the `number`-th of its round to that target. Outcome: `ChunkSent`."""

    chunk: ShipmentChunk
    number: int
    target: int
    departure_s: float


class SendProbes(msgspec.Struct, frozen=True):
    """Send the messages of a link test, each of which departs when it is sent."""

    request: Probe


class RunOperation(msgspec.Struct, frozen=True):
    """Execute an operation (`EmulatedDevice.run`), measure it, and wait for its end. Outcome: `OperationRan`.

    `end_s` is None where it follows from the measurement; then there is no wait, unless nothing is paced.
    """

    ready: ReadyOp
    end_s: float | None


class SleepUntil(msgspec.Struct, frozen=True):
    """Wait for an instant of the timeline. Outcome: `Woke`."""

    end_s: float


class Leave(msgspec.Struct, frozen=True):
    """Send the last message, and end the process."""

    message: Bye


Instruction = Tell | Connect | BeginTimeline | Send | SendChunk | SendProbes | RunOperation | SleepUntil | Leave
