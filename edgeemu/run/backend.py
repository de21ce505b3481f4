"""What a run executes on, as the controller sees it. Only the interface: processes and timeline are behind it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.links.self_test import LinkTest
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.report.rows import OperationRow
from edgeemu.run.plan import Plan
from edgeemu.run.requests import Request
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord, Step

NO_TOKEN = -1  # of a backend that runs no model


class Instant(NamedTuple):
    """The same moment on the timeline and on the host's monotonic clock."""

    emulated_s: float
    wall_s: float


class SampledToken(NamedTuple):
    """What a step came to: its token, when, and its logits where they were asked for."""

    step: Step
    token: int
    at: Instant
    logits: NDArray[np.float32] | None = None  # [vocab]


class StepMeasurement(NamedTuple):
    """What devices report of a step: each of their operations, and how long messages took to reach them."""

    executions: list[OperationRecord]
    transits: list[Transit]


class DeviceState(NamedTuple):
    """What a device's own meters say: the share of its compute that other work leaves, and of its memory the bytes."""

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
    # Known when the run has ended:
    weights_bytes: dict[str, int] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)
    group_peak_bytes: dict[str, int | None] = field(default_factory=dict)  # of the cgroups; None: unknown here
    sent_bytes: dict[tuple[int, int], int] | None = None  # by sender and receiver


class Backend(Protocol):
    """Devices that run steps and change their blocks.

    `dilation` is how much slower their wall clock runs than the timeline, `epoch` that of the routes they follow,
    `mode` how time passes: realtime, virtual or simulated.
    """

    measured: RunMeasurements

    @property
    def mode(self) -> str: ...
    @property
    def dilation(self) -> float: ...
    @property
    def epoch(self) -> int: ...

    def launched(self) -> AbstractAsyncContextManager[None]:
        """The devices are there; nothing of them is left when the block ends, however it ends."""
        ...

    async def assign(self, plan: Plan) -> None:
        """Every device has its blocks and routes under a plan."""
        ...

    async def begin(self) -> Instant:
        """The timeline starts; returns its zero."""
        ...

    def instant(self, emulated_s: float) -> Instant:
        """A moment of the timeline, and when it is on the wall clock: now, where that does not follow."""
        ...

    async def open(self, sequence: int, request: Request) -> None:
        """Makes room for a sequence, some time before its first step."""
        ...

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:
        """Releases a step of an open sequence at an instant; others may be in flight."""
        ...

    async def sampled(self, by_s: float | None = None) -> SampledToken | None:
        """The next token of any sequence; None if there is none by an instant."""
        ...

    async def close(self, sequence: int) -> None:
        """Frees what a sequence holds, before any step that is started later needs it."""
        ...

    async def settle(self) -> None:
        """Nothing is in flight, and every device has reported all that it did."""
        ...

    @property
    def cluster(self) -> Cluster:
        """The cluster as events have made it, for an oracle."""
        ...

    async def change(self, change: Change, at_s: float) -> None:
        """Something happens: every device that it concerns knows of it when this returns."""
        ...

    async def observe(self) -> list[StepMeasurement]:
        """What devices report of each step that has its token since the last call, oldest first.

        Who asks seldom gets the steps of two decision intervals at most.
        """
        ...

    async def states(self, at_s: float) -> list[DeviceState]:
        """How every device is at an instant."""
        ...

    async def end(self) -> None: ...

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        """Receivers reserve memory, of what they have at an instant. Returns why one refused, or nothing.

        Caches hold `rows` rows then, by sequence, and `last_rows` in all at most at the commit.
        """
        ...

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        """A round begins."""
        ...

    async def arrived(self, migration: MigrationProtocol, by_s: float | None) -> float | None:
        """When the round had come, if it had by an instant; without one, waits for it."""
        ...

    async def commit(self, migration: MigrationProtocol, program: Program) -> None: ...
    async def abort(self, migration: MigrationProtocol) -> None: ...

    def take_ops(self) -> list[OperationRow]:
        """What has been executed since the last call."""
        ...
