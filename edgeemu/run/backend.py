"""The interface of what a run executes on, as the controller sees it: device processes, or the simulator.

Three small protocols: steps, measurements, migrations. A backend is all three, and can be launched.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.host.load import HostLoad
from edgeemu.links.self_test import LinkTest
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.program import Program
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
    """Measurements of devices and links, for decisions."""

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

    async def wait(self, migration: MigrationProtocol) -> float:
        """Wait for the round, with no step in flight. Return when it had arrived."""
        ...

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        """Switch all devices to the program of the new placement."""
        ...

    async def abort(self, migration: MigrationProtocol) -> None:
        """Have devices free what they reserved, and drop what arrived."""
        ...


class Backend(StepBackend, Measurements, MigrationTransport, Protocol):
    """The devices of a run, from launch to end.

    `dilation` is the slowdown of the wall clock; `mode` is realtime, virtual or simulated.
    """

    measured: RunMeasurements

    @property
    def mode(self) -> str: ...
    @property
    def dilation(self) -> float: ...

    def launched(self) -> AbstractAsyncContextManager[None]:
        """Launch the devices; nothing of them is left when the block ends, however it ends."""
        ...

    async def assign(self, plan: Plan) -> None:
        """Give every device its blocks and operations under a plan."""
        ...

    async def begin(self) -> Instant:
        """Start the timeline; return its zero."""
        ...

    async def end(self) -> None:
        """End the devices, and take their last measurements."""
        ...
