"""How emulated time passes for device processes: the interface of what gives instants to what they do."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.placement.program import Program
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.backend import Instant, SampledToken, StepMeasurement
from edgeemu.run.plan import Plan
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.step_reports import StepInFlight
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.steps import Step
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer

SentBytes = dict[tuple[int, int], int]


class EmulatedTime(Protocol):
    """Gives instants of the timeline to what device processes do. Its methods follow those of a backend."""

    @property
    def clock(self) -> WallClock | None:
        """The clock by which devices wait; None: they do not wait."""
        ...

    def now_s(self) -> float:
        """Return the present on the timeline."""
        ...

    async def reach(self, at_s: float) -> None:
        """Wait until an instant has come."""
        ...

    def instant(self, emulated_s: float) -> Instant: ...

    async def start(self, step: Step, program: Program, at_s: float) -> None:
        """Note a step that a device was told to start at an instant."""
        ...

    async def complete(self) -> None:
        """Wait until devices that do not wait for the clock have run all steps that were started.

        What changes the memory of devices, or ends them, comes after that: what is held for a step follows from the
        scenario then.
        """
        ...

    async def next_token(self, by_s: float | None) -> SampledToken | None:
        """Return the next token; None if there is none by an instant, or a device was lost."""
        ...

    def halt(self, at_s: float) -> list[SampledToken]:
        """Return the tokens that were sampled by an instant and not taken yet; devices have given up all steps."""
        ...

    def end_device(self, device: int, at_s: float) -> None:
        """Note that a device is gone from an instant on."""
        ...

    def restart_device(self, device: int, at_s: float) -> None:
        """Note that a device is there from an instant on."""
        ...

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None:
        """Take a device's report of a step."""
        ...

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:
        """Note a test message that a device was told to send before a step."""
        ...

    def probed(self, message: protocol_out.Probed) -> None:
        """Take the record of a test message that has arrived."""
        ...

    def to_replicas(self, traffic: Sequence[PathTraffic]) -> None:
        """Take a device's account of chunks for replicas."""
        ...

    def handled(self, transfers: Sequence[HandledTransfer]) -> None:
        """Take a device's report of transfers that have kept it busy."""
        ...

    async def observe(self) -> list[StepMeasurement]: ...
    def take_rows(self) -> StepRows: ...
    def change(self, change: Change, at_s: float) -> None: ...

    def ship(self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]) -> None:
        """Note a round of a migration; `flash_s` is when each receiver has read weights from its own flash."""
        ...

    async def arrived_s(self, round_: MigrationRound) -> float | None:
        """Return when a round had arrived; None if it has not, up to the last token."""
        ...

    async def wait_for(self, round_: MigrationRound, by_s: float | None) -> float | None:
        """Wait for a round. Return when it had arrived; None if it had not by an instant, or a device was lost."""
        ...

    def cancel(self) -> None:
        """Forget the round in progress."""
        ...

    async def replicate(
        self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]
    ) -> None:
        """Note a round to replicas, which goes on beside all else."""
        ...

    def replicated(self, rounds: Sequence[MigrationRound], by_s: float) -> list[tuple[int, int]]:
        """Return the holders that have had all of a round by an instant, each with its number, since the last call."""
        ...

    def cancel_replicas(self) -> None:
        """Forget all rounds to replicas."""
        ...

    def end(self, reported: SentBytes) -> SentBytes:
        """Note the end of the run. Return the bytes sent by sender and receiver, given those that devices report."""
        ...


def kept_steps(plan: Plan) -> int:
    """Steps of two decision intervals: measurements of older ones are dropped."""
    return 2 * plan.rules.interval_tokens * plan.concurrency
