"""Emulated time of device processes that wait for their instants."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.host.clock_watch import ClockWatch, read_clocks
from edgeemu.placement.program import Program
from edgeemu.report.rows import GIVEN_UP, NO_STEP
from edgeemu.report.usage_rows import OF_NO_STEP, StepRows
from edgeemu.run.backend import Instant, RunMeasurements, SampledToken, StepMeasurement
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import SentBytes, kept_steps
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.session import Session
from edgeemu.run.processes.step_reports import StepInFlight, StepOutcome, StepReports, filled_step, sampled_token
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.network import Transit
from edgeemu.timeline.operation_sizes import ProgramSizes
from edgeemu.timeline.steps import OperationRecord, Step
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer


class PacedTime:
    """Time of devices that wait for their instants: they stamp what they do by the wall clock, which reads `now_s`."""

    def __init__(
        self,
        plan: Plan,
        clock: WallClock,
        now_s: Callable[[], float],
        session: Session,
        reports: StepReports,
        measured: RunMeasurements | None = None,
    ) -> None:
        """`measured` gets what happens to the clocks of the host meanwhile."""
        self.clock = clock
        self._watch = ClockWatch(read_clocks, measured.clock_jumps) if measured is not None else None
        self._cluster = plan.cluster
        self._wall_s = now_s
        self._session = session
        self._reports = reports
        self._rows = StepRows()
        self._sizes = ProgramSizes(plan.costs)
        self._unobserved: deque[StepInFlight] = deque(maxlen=kept_steps(plan))
        self._probing: dict[int, tuple[Step, int]] = {}  # by number of a test message: its step and its receiver
        self._probed: list[Transit] = []  # of test messages, since the last call

    def instant(self, emulated_s: float) -> Instant:
        return Instant(emulated_s, self.clock.wall_s(emulated_s))

    async def start(self, step: Step, program: Program, at_s: float) -> None: ...

    async def complete(self) -> None: ...

    def now_s(self) -> float:
        return self.clock.emulated_s(self._wall_s())

    async def reach(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self._left_s(at_s)))

    async def next_token(self, by_s: float | None) -> SampledToken | None:
        reports, session = self._reports, self._session
        awaited = protocol_out.Report if reports.any_fills else protocol_out.Token
        await session.handle_until(
            awaited, lambda: bool(reports.tokens or reports.filled or session.losses), self._left_s(by_s)
        )
        if self._watch is not None:
            self._watch.look(self.now_s())
        if reports.tokens:  # one that comes after that instant waits: what happens then is older
            is_later = by_s is not None and reports.tokens[0].sampled_s > by_s
            return None if is_later else self._sampled(reports.tokens.popleft())
        if not reports.filled:
            return None
        filled = reports.filled.popleft()
        self._end(filled, StepOutcome.FINISHED)
        return filled_step(filled, self.clock)

    def halt(self, at_s: float) -> list[SampledToken]:
        tokens = [self._sampled(token) for token in self._reports.tokens if token.sampled_s <= at_s]
        for step in self._reports.unfinished():
            self._end(step, StepOutcome.GIVEN_UP, at_s)
        return tokens

    def end_device(self, device: int, at_s: float) -> None: ...

    def restart_device(self, device: int, at_s: float) -> None: ...

    def _sampled(self, token: protocol_out.Token) -> SampledToken:
        step = self._reports.latest(token.sequence)
        self._unobserved.append(step)
        self._end(step, StepOutcome.FINISHED)
        return sampled_token(step.step, token, token.sampled_s)

    def _end(self, step: StepInFlight, outcome: StepOutcome, at_s: float = 0.0) -> None:
        """Note what has become of a step, and record what devices have reported of it; `at_s`: when it was given up."""
        step.outcome = outcome
        for report, operations in step.unrecorded:
            self._record(step, report, operations, at_s)
        step.unrecorded.clear()

    def _left_s(self, by_s: float | None) -> float:
        """Return the seconds of the wall clock to an instant; infinite: there is none."""
        return math.inf if by_s is None else self.clock.wall_s(by_s) - self._wall_s()

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None:
        operations = step.add_operations(report)
        self.to_replicas(report.replica_traffic)
        if step.outcome is StepOutcome.OPEN:
            step.unrecorded.append((report, operations))
        else:
            self._record(step, report, operations)

    def _record(
        self,
        step: StepInFlight,
        report: protocol_out.Report,
        operations: Sequence[OperationRecord],
        at_s: float = 0.0,
    ) -> None:
        """Record what a device did for a step whose outcome is known.

        Operations that fill caches, or whose step was given up, are of no step; what devices and links did for them is
        of the step that waits for it.
        """
        given_up = step.outcome is StepOutcome.GIVEN_UP
        rows, counts_for = operations, self._reports.counts_for(step.step)
        if given_up or step.step.step < 0:
            of = GIVEN_UP if given_up else NO_STEP
            rows = [record._replace(step=record.step._replace(sequence=NO_STEP, step=of)) for record in rows]
            operations = [record._replace(step=Step(*counts_for, *record.step[2:])) for record in operations]
        self._rows.add_operations(self._cluster, rows, self._sizes.of_program(step.program))
        if operations:
            self._rows.add_device(
                self._cluster,
                operations,
                report.held,
                peak_bytes=report.peak_bytes,
                reordered=report.reordered,
                stalled_s=report.stalled_s,
            )
            at_s = operations[-1].time.end_s
        self._rows.add_links(self._cluster, counts_for, report.traffic, at_s)

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:  # noqa: ARG002  # the request knows
        self._probing[request.number] = step, request.peer.device

    def probed(self, message: protocol_out.Probed) -> None:
        step, target = self._probing.pop(message.number)
        for size_bytes, departure_s, arrival_s, _, waited_s in message.records:
            took_s = arrival_s - departure_s
            self._probed.append(Transit(message.source, target, size_bytes, 1, took_s - waited_s))
            sent = PathTraffic(message.source, target, 1, size_bytes, took_s)
            self._rows.add_links(self._cluster, step[:2], [sent], arrival_s)

    def to_replicas(self, traffic: Sequence[PathTraffic]) -> None:
        self._rows.add_links(self._cluster, OF_NO_STEP, traffic, self.now_s())

    def handled(self, transfers: Sequence[HandledTransfer]) -> None:
        self._rows.add_transfers(self._cluster, transfers)

    async def observe(self) -> list[StepMeasurement]:
        await self._reports.complete(self._unobserved)
        observed = [step.measurement for step in self._unobserved]
        self._unobserved.clear()
        if self._probed:
            observed.append(StepMeasurement([], self._probed))
            self._probed = []
        return observed

    def take_rows(self) -> StepRows:
        rows, self._rows = self._rows, StepRows()
        return rows

    def change(self, change: Change, at_s: float) -> None:
        self._cluster = self._cluster.changed(change, at_s)

    def ship(self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]) -> None: ...

    async def arrived_s(self, round_: MigrationRound) -> float | None:
        return round_.last_arrival_s if round_.complete else None

    async def wait_for(self, round_: MigrationRound, by_s: float | None) -> float | None:
        if not await round_.wait(self._left_s(by_s)):
            return None
        return round_.last_arrival_s if by_s is None or round_.last_arrival_s <= by_s else None

    def cancel(self) -> None: ...

    async def replicate(
        self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]
    ) -> None: ...

    def replicated(self, rounds: Sequence[MigrationRound], by_s: float) -> list[tuple[int, int]]:
        return [arrival for round_ in rounds for arrival in round_.take_arrivals(by_s)]

    def cancel_replicas(self) -> None: ...

    def end(self, reported: SentBytes) -> SentBytes:
        return reported
