"""Steps on device processes between their start and the last device's report."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edgeemu.device import protocol_out
from edgeemu.placement.program import Program
from edgeemu.run.backend import Instant, SampledToken, StepMeasurement
from edgeemu.run.processes.session import Session
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.steps import OperationRecord, Step


@dataclass(slots=True)
class StepInFlight:
    """A step that was started, and the reports of devices about it."""

    step: Step
    program: Program
    owed: int  # reports that are still to come
    reports: list[protocol_out.Report] = field(default_factory=list)
    executions: list[OperationRecord] = field(default_factory=list)  # in the reports, where devices are paced
    cpu_s: dict[int, float] = field(default_factory=dict)  # by operation

    @property
    def measurement(self) -> StepMeasurement:
        """Measurement of the step, as far as devices have reported it."""
        return StepMeasurement(self.executions, [transit for report in self.reports for transit in report.transits])

    def add_operations(self, report: protocol_out.Report) -> list[OperationRecord]:
        """Make the records of the operations in a device's report, and keep them as executions."""
        records = [self._record(each) for each in report.operations]
        self.executions += records
        return records

    def add(self, report: protocol_out.Report) -> None:
        """Take a device's report."""
        self.reports.append(report)
        self.cpu_s |= {each.place: each.cpu_s for each in report.operations}
        self.owed -= 1

    def _record(self, executed: protocol_out.ExecutedOperation) -> OperationRecord:
        op, step = self.program.ops[executed.place], self.step
        time = Occupation(executed.ready_s, executed.start_s, executed.end_s)
        last = self.program.sender(op.device, op.inputs(step.step)[executed.last_input], step.rows)
        return OperationRecord(op, step, time, executed.cpu_s, executed.late_s, executed.overrun, last)


class StepReports:
    """Collects the reports of devices by step. `tokens` are those that have arrived and were not taken yet."""

    def __init__(self, session: Session) -> None:
        self.tokens: deque[protocol_out.Token] = deque()
        self._session = session
        self._in_flight: dict[tuple[int, int], StepInFlight] = {}  # by sequence and step
        self._latest: dict[int, StepInFlight] = {}  # by open sequence

    def started(self, step: Step, program: Program) -> None:
        """Note a step on which the devices of a program will report."""
        devices = len({op.device for op in program.ops})
        self._in_flight[step[:2]] = self._latest[step.sequence] = StepInFlight(step, program, devices)

    def add(self, report: protocol_out.Report) -> StepInFlight:
        """Take a device's report; return its step."""
        step = self._in_flight[report.sequence, report.step]
        step.add(report)
        if not step.owed:
            del self._in_flight[report.sequence, report.step]
        return step

    def latest(self, sequence: int) -> StepInFlight:
        """Return the step of an open sequence that was started last."""
        return self._latest[sequence]

    def close(self, sequence: int) -> None:
        """Forget a sequence that has ended."""
        del self._latest[sequence]

    async def complete(self, steps: Iterable[StepInFlight]) -> None:
        """Wait for all reports about these steps, and not for those about others."""
        while any(step.owed for step in steps):
            await self._session.handle_next(protocol_out.Report)

    async def settle(self) -> None:
        """Wait for all reports about all steps."""
        while self._in_flight:
            await self._session.handle_next(protocol_out.Report)


def sampled_token(step: Step, token: protocol_out.Token, sampled_s: float) -> SampledToken:
    """Convert a device's message to the token of a step that was sampled at an instant."""
    logits = np.frombuffer(token.logits, dtype=np.float32) if token.logits else None  # [vocab]
    return SampledToken(step, token.token, Instant(sampled_s, token.wall_s), logits)
