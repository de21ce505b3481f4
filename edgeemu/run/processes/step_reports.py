"""Steps on device processes between their start and the last device's report."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from edgeemu.device import protocol_out
from edgeemu.placement.program import Program
from edgeemu.run.backend import NO_TOKEN, Instant, SampledToken, StepMeasurement
from edgeemu.run.processes.device_memory import StepMemory
from edgeemu.run.processes.session import Session
from edgeemu.run.resume.continuation import Continuation
from edgeemu.timeline.clock import Occupation, WallClock
from edgeemu.timeline.steps import OperationRecord, Step


class StepOutcome(Enum):
    """Outcome of a step."""

    OPEN = auto()
    FINISHED = auto()  # it has its token, or has filled caches
    GIVEN_UP = auto()  # at a fault


@dataclass(slots=True)
class StepInFlight:
    """A step that was started, and the reports of devices about it."""

    step: Step
    program: Program
    owed: set[int]  # devices whose reports are still to come
    cached_rows: int  # in caches of all open sequences after this step, and after all that were started before
    broken: bool = False  # a device that owed a report is gone
    reports: list[protocol_out.Report] = field(default_factory=list)
    executions: list[OperationRecord] = field(default_factory=list)  # in the reports, where devices are paced
    cpu_s: dict[int, float] = field(default_factory=dict)  # by operation
    memory: StepMemory | None = None  # when devices have run it, where they are not paced
    outcome: StepOutcome = StepOutcome.OPEN
    # Reports with their operations, of which no rows are made before the outcome is known, where devices are paced.
    unrecorded: list[tuple[protocol_out.Report, list[OperationRecord]]] = field(default_factory=list)

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

    def _record(self, executed: protocol_out.ExecutedOperation) -> OperationRecord:
        op, step = self.program.ops[executed.place], self.step
        time = Occupation(executed.ready_s, executed.start_s, executed.end_s)
        last = self.program.sender(op.device, op.inputs(step.step)[executed.last_input], step.rows)
        return OperationRecord(op, step, time, executed.cpu_s, executed.late_s, executed.overrun, last)


class StepReports:
    """Collects the reports of devices by step.

    `tokens` are those that have arrived and were not taken yet, `filled` the steps without a token that have ended.
    """

    def __init__(self, session: Session, resumed: Continuation | None) -> None:
        """`resumed`: the run whose open sequences are to be filled first."""
        self.tokens: deque[protocol_out.Token] = deque()
        self.filled: deque[StepInFlight] = deque()
        self._session, self._presence = session, session.presence
        self._in_flight: dict[tuple[int, int], StepInFlight] = {}  # by sequence and step
        self._latest: dict[int, StepInFlight] = {}  # by open sequence
        self._cached: dict[int, int] = {}  # by open sequence: rows in its caches, after the steps that were started
        # By open sequence: the last step that has a token.
        self._waiting = {due.step.sequence: due.step for due in resumed.waiting} if resumed else {}

    def started(self, step: Step, program: Program) -> StepInFlight:
        """Note a step on which the devices of a program will report; return it."""
        if step.step < 0:
            devices = {op.device for op in program.ops if op.runs_in(*step[1:3])}
        else:
            devices = {op.device for op in program.ops}
            self._waiting[step.sequence] = step
        self._cached[step.sequence] = step.past + step.rows
        cached_rows = sum(self._cached.values())
        started = StepInFlight(step, program, devices, cached_rows, not devices.isdisjoint(self._presence.gone))
        self._in_flight[step[:2]] = self._latest[step.sequence] = started
        return started

    def add(self, report: protocol_out.Report) -> StepInFlight:
        """Take a device's report; return its step."""
        step = self._in_flight[report.sequence, report.step]
        step.add(report)
        self._settle_debt(step, self._presence.number(report.name))
        if step.step.step < 0 and not step.owed and not step.broken:
            self.filled.append(step)
        return step

    def write_off(self, device: int) -> None:
        """Expect nothing more from a device that is gone."""
        for step in list(self._in_flight.values()):
            if device in step.owed:
                step.broken = True
                self._settle_debt(step, device)

    def give_up(self) -> None:
        """Forget all steps in flight; what devices have said of them is with us, and nothing more is expected."""
        for step in self._in_flight.values():
            step.owed.clear()
        self._in_flight.clear()
        self.tokens.clear()
        self.filled.clear()

    def rewound(self, kept: Mapping[int, int]) -> None:
        """Note that caches have these rows, by sequence, or are filled up to them."""
        self._cached.update(kept)

    def token_of(self, step: Step) -> protocol_out.Token | None:
        """Return the token of a step, if it has arrived."""
        return next((token for token in self.tokens if (token.sequence, token.step) == step[:2]), None)

    @property
    def any_fills(self) -> bool:
        """Whether a step is in flight that has no token."""
        return any(step < 0 for _, step in self._in_flight)

    def latest(self, sequence: int) -> StepInFlight:
        """Return the step of an open sequence that was started last."""
        return self._latest[sequence]

    def unfinished(self) -> list[StepInFlight]:
        """Return the steps of open sequences that were started last and have not come to an end."""
        return [step for step in self._latest.values() if step.outcome is StepOutcome.OPEN]

    def counts_for(self, step: Step) -> tuple[int, int]:
        """Return the sequence and step for which a step counts: one that fills caches, for the one that waits."""
        return self._waiting[step.sequence][:2] if step.step < 0 else step[:2]

    def close(self, sequence: int) -> None:
        """Forget a sequence that has ended."""
        del self._latest[sequence]
        self._waiting.pop(sequence, None)
        self._cached.pop(sequence, None)

    async def complete(self, steps: Iterable[StepInFlight]) -> None:
        """Wait for the reports about these steps of all devices that do not stand still, and not for others."""
        steps, moves = list(steps), self._presence.moves
        await self._session.handle_until(
            protocol_out.Report, lambda: not any(any(map(moves, step.owed)) for step in steps)
        )

    async def settle(self, alone: StepInFlight | None = None) -> None:
        """Wait for all reports about all steps, or about one alone, but for those that cannot go on."""
        answers, steps = self._presence.answers, self._in_flight

        def settled() -> bool:
            awaited = steps.values() if alone is None else (alone,)
            return not any(any(map(answers, step.owed)) for step in awaited if not step.broken)

        await self._session.handle_until(protocol_out.Report, settled)

    def _settle_debt(self, step: StepInFlight, device: int) -> None:
        step.owed.discard(device)
        if not step.owed:
            del self._in_flight[step.step[:2]]


def filled_step(step: StepInFlight, clock: WallClock) -> SampledToken:
    """Convert a step that has filled caches to what a backend returns of it: it ended with its last operation."""
    end_s = max(record.time.end_s for record in step.executions)
    return SampledToken(step.step, NO_TOKEN, Instant(end_s, clock.wall_s(end_s)))


def sampled_token(step: Step, token: protocol_out.Token, sampled_s: float) -> SampledToken:
    """Convert a device's message to the token of a step that was sampled at an instant."""
    logits = np.frombuffer(token.logits, dtype=np.float32) if token.logits else None  # [vocab]
    return SampledToken(step, token.token, Instant(sampled_s, token.wall_s), logits)
