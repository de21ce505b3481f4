"""The interface of what a run executes on, as the controller sees it: device processes, or the simulator.

Small protocols: steps, measurements, migrations, replicas, failures. A backend is all of them, and can be launched.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.host.clock_watch import ClockJump
from edgeemu.host.load import HostLoad
from edgeemu.host.stopped import Standstill
from edgeemu.links.self_test import LinkTest
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.program import Program
from edgeemu.placement.replica_copies import ReplicaRound
from edgeemu.placement.replicas import Replica
from edgeemu.placement.shipments import Shipment
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.plan import Plan
from edgeemu.run.requests import Request
from edgeemu.timeline.kernel_times import KernelTimes
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord, Step

NO_TOKEN = -1  # the token of a backend that runs no model
PROBE_PAYLOAD_BYTES = (4, 16_384)  # of a link's test messages: one measures its delay, the other its rate too


class Instant(NamedTuple):
    """One moment, on the timeline and on the host's monotonic clock."""

    emulated_s: float
    wall_s: float


class SampledToken(NamedTuple):
    """The token of a step, when it was sampled, and its logits if they were asked for."""

    step: Step
    token: int
    at: Instant
    logits: NDArray[np.float32] | None = None  # [vocab]


class StepMeasurement(NamedTuple):
    """The devices' report of a step: each of its operations, and how long messages took to reach their receivers."""

    executions: Sequence[OperationRecord]
    transits: Sequence[Transit]


class DeviceState(NamedTuple):
    """A device's own meters: the share of its compute and the bytes of its memory that other work leaves."""

    availability: float
    memory_bytes: int


@dataclass(slots=True)
class RunMeasurements:
    """Figures that a backend has measured so far, apart from the rows of records. Dictionaries are by device name."""

    ready_in_s: float = 0.0  # from the first fork to the last device's hello
    loaded_in_s: float = 0.0  # weights, on all devices
    limitations: list[str] = field(default_factory=list)  # what this host does not allow
    baseline_bytes: dict[str, int] = field(default_factory=dict)  # resident, before any weights
    peak_bytes: dict[str, int] = field(default_factory=dict)  # of the memory ledger
    reordered: dict[str, int] = field(default_factory=dict)  # messages out of the order of departure
    link_tests: list[LinkTest] = field(default_factory=list)
    kernel_times: KernelTimes = field(default_factory=KernelTimes)  # of the warm-up, on relative devices
    host_load: HostLoad | None = None  # while the timeline ran; None: not known
    standstills: list[Standstill] = field(default_factory=list)  # of devices that were stopped from outside for a while
    clock_jumps: list[ClockJump] = field(default_factory=list)  # of the host, while a paced timeline ran
    # Known when the run has ended:
    weights_bytes: dict[str, int] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)
    group_peak_bytes: dict[str, int | None] = field(default_factory=dict)  # of the cgroups; None: unknown here
    sent_bytes: dict[tuple[int, int], int] | None = None  # by sender and receiver


class StepBackend(Protocol):
    """Devices that run steps of sequences."""

    def instant(self, emulated_s: float) -> Instant:
        """Return a moment of the timeline with its wall-clock time: the present, if the clock is not paced."""
        ...

    async def open(self, sequence: int, request: Request) -> None:
        """Make room for a sequence, some time before its first step."""
        ...

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:
        """Release a step of an open sequence at an instant; others may be in flight."""
        ...

    async def next_token(self, by_s: float | None = None) -> SampledToken | None:
        """Wait for the next token of any sequence; None if there is none by an instant."""
        ...

    async def close(self, sequence: int) -> None:
        """Free what a sequence holds, before any step that is started later needs it."""
        ...

    async def settle(self) -> None:
        """Wait until nothing is in flight and every device has reported all that it did."""
        ...

    async def change(self, change: Change, at_s: float) -> None:
        """Apply an event: every device that it concerns has the change when this returns."""
        ...

    def take_rows(self) -> StepRows:
        """Return the rows about operations, devices and links since the last call."""
        ...


class Measurements(Protocol):
    """Measurements of devices and links, for decisions. `mode`: realtime, virtual or simulated."""

    @property
    def mode(self) -> str: ...
    @property
    def cluster(self) -> Cluster:
        """The cluster as events have made it, for an oracle."""
        ...

    async def observe(self) -> list[StepMeasurement]:
        """Return the measurements of each step that has its token since the last call, oldest first.

        Measurements of the last two decision intervals are kept.
        """
        ...

    async def states(self, at_s: float) -> list[DeviceState]:
        """Return the state of every device at an instant."""
        ...

    async def probe(self, pairs: Sequence[tuple[int, int]], step: Step, at_s: float) -> None:
        """Send test messages over links at an instant, before a step; `observe` has what has arrived."""
        ...


class MigrationTransport(Protocol):
    """Devices that hand blocks over to each other."""

    def next_epoch(self) -> int:
        """Return the number of a new migration; no number is returned twice."""
        ...

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        """Have receivers reserve memory, of what they have at an instant. Return why one refused, or "".

        Caches hold `rows` rows then, by sequence, and at most `last_rows` in all at the commit.
        """
        ...

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        """Begin a round of copying at an instant."""
        ...

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        """Return when the round had arrived; None if it had not by an instant."""
        ...

    async def wait(self, migration: MigrationProtocol, by_s: float | None = None) -> float | None:
        """Wait for the round, with no step in flight. Return when it had arrived; None if it had not by an instant."""
        ...

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        """Switch all devices to the program of the new placement."""
        ...

    async def abort(self, migration: MigrationProtocol) -> None:
        """Have devices free what they reserved, and drop what arrived."""
        ...


class Replication(Protocol):
    """Devices that hold replicas, which are kept up to date while steps go on."""

    async def hold_replicas(self, epoch: int, replicas: frozenset[Replica], *, load: bool) -> None:
        """Have devices make room for these replicas, and drop others; rounds are of this epoch from now on.

        Rounds under way are given up.
        `load`: the timeline has not begun, and their weights are there when it does.
        """
        ...

    async def replicate(self, round_: ReplicaRound, at_s: float) -> None:
        """Begin a round to holders at an instant."""
        ...

    async def replicated(self, by_s: float) -> list[tuple[int, int]]:
        """Return the holders that have had all of a round by an instant, each with its number, since the last call."""
        ...

    async def stop_replicating(self) -> None:
        """Give up all rounds that are under way; so does a commit."""
        ...


class Loss(NamedTuple):
    """A device that ended, or stands still, without being asked to: noticed at an instant, and why."""

    device: int
    at_s: float
    why: str


class FailingDevices(Protocol):
    """Devices that fail, and those that go on without them.

    A device that is gone gets no more messages, and nothing is awaited from it: its memory is lost. One that stands
    still keeps its memory, and does not answer either.
    """

    async def end_device(self, device: int, at_s: float) -> None:
        """End a device at an instant: its process is killed, and what it was doing is lost."""
        ...

    async def stop_device(self, device: int, at_s: float, until_s: float) -> None:
        """Have a device stand still from an instant on, until another (infinite: it never goes on by itself)."""
        ...

    async def continue_device(self, device: int) -> None:
        """Have a device that stands still go on."""
        ...

    async def restart_device(self, device: int, at_s: float) -> None:
        """Have a device that is gone, or was not there yet, join at an instant, with no blocks."""
        ...

    def take_losses(self) -> list[Loss]:
        """Return the devices that were lost since the last call, without being asked to end or to stop."""
        ...

    async def halt(self, at_s: float) -> list[SampledToken]:
        """Give up all steps in flight at an instant. Return the tokens that were sampled by then and not taken yet."""
        ...

    async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None:
        """Shorten caches after a halt, by sequence: those of the first `layers` layers to `rows`, others to `kept`."""
        ...

    async def follow(self, program: Program, rows: int = 0, past: int = 0) -> None:
        """Have devices run another program on the blocks that they hold, with nothing in flight.

        A step of it with a number below 0 only fills caches: it enters at the embedding, and ends with its last
        operation; `next_token` returns it with `NO_TOKEN`. Such steps have at most `rows` rows, after `past` others.
        """
        ...


class Backend(StepBackend, Measurements, MigrationTransport, Replication, FailingDevices, Protocol):
    """The devices of a run, from launch to end. `dilation` is the slowdown of the wall clock."""

    measured: RunMeasurements

    @property
    def dilation(self) -> float: ...

    def launched(self) -> AbstractAsyncContextManager[None]:
        """Launch the devices; nothing of them is left when the block ends, however it ends."""
        ...

    async def assign(self, plan: Plan) -> None:
        """Give every device its blocks and operations under a plan."""
        ...

    async def begin(self, at_s: float = 0.0) -> Instant:
        """Start the timeline at an instant, and return that."""
        ...

    async def end(self) -> None:
        """End the devices, and take their last measurements."""
        ...
