"""How emulated time passes for device processes: paced by the wall clock, or kept by the simulator."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.device.link_probe import probe_bytes
from edgeemu.placement.program import Op, Program
from edgeemu.report.usage_rows import ACCOUNTS, StepRows
from edgeemu.run.backend import Instant, SampledToken, StepMeasurement
from edgeemu.run.plan import Plan
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.session import Session
from edgeemu.run.processes.step_reports import StepInFlight, StepReports, sampled_token
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.kernel_times import KernelTimes, relative_s
from edgeemu.timeline.network import Transit
from edgeemu.timeline.operation_sizes import ProgramSizes
from edgeemu.timeline.steps import Step, roofline_durations
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer
from edgeemu.timeline.virtual import VirtualTimeline

SentBytes = dict[tuple[int, int], int]


class EmulatedTime(Protocol):
    """Gives instants of the timeline to what device processes do. Its methods follow those of a backend."""

    def instant(self, emulated_s: float) -> Instant: ...

    async def start(self, step: Step, program: Program, at_s: float) -> None:
        """Note a step that a device was told to start at an instant."""
        ...

    async def next_token(self, by_s: float | None) -> SampledToken | None: ...

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None:
        """Take a device's report of a step."""
        ...

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:
        """Note a test message that a device was told to send before a step."""
        ...

    def probed(self, message: protocol_out.Probed) -> None:
        """Take the record of a test message that has arrived."""
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

    def wait_for(self, round_: MigrationRound) -> float:
        """Return when a round has arrived on the timeline; all of its bytes are at their receivers."""
        ...

    def cancel(self) -> None:
        """Forget the round in progress."""
        ...

    def sent_bytes(self, reported: SentBytes) -> SentBytes:
        """Return the bytes sent by sender and receiver, given those that the devices report."""
        ...


class PacedTime:
    """Time of devices that wait for their instants: they stamp what they do by the wall clock, which reads `now_s`."""

    def __init__(
        self, plan: Plan, clock: WallClock, now_s: Callable[[], float], session: Session, reports: StepReports
    ) -> None:
        self._clock = clock
        self._cluster = plan.cluster
        self._now_s = now_s
        self._session = session
        self._reports = reports
        self._rows = StepRows()
        self._sizes = ProgramSizes(plan.costs)
        self._unobserved: deque[StepInFlight] = deque(maxlen=_kept_steps(plan))
        self._probing: dict[int, tuple[Step, int]] = {}  # by number of a test message: its step and its receiver
        self._probed: list[Transit] = []  # of test messages, since the last call

    def instant(self, emulated_s: float) -> Instant:
        return Instant(emulated_s, self._clock.wall_s(emulated_s))

    async def start(self, step: Step, program: Program, at_s: float) -> None: ...

    async def next_token(self, by_s: float | None) -> SampledToken | None:
        token: protocol_out.Token | None
        if self._reports.tokens:
            token = self._reports.tokens.popleft()
        elif by_s is None:
            token = await self._session.receive(protocol_out.Token)
        else:
            limit_s = self._clock.wall_s(by_s) - self._now_s()
            token = await self._session.receive_within(protocol_out.Token, limit_s)
        if token is None:
            return None
        step = self._reports.latest(token.sequence)
        self._unobserved.append(step)
        return sampled_token(step.step, token, token.sampled_s)

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None:
        operations = step.add_operations(report)
        self._rows.add_operations(self._cluster, operations, self._sizes.of_program(step.program))
        self._rows.add_device(
            self._cluster,
            operations,
            report.held,
            peak_bytes=report.peak_bytes,
            reordered=report.reordered,
            stalled_s=report.stalled_s,
        )
        self._rows.add_links(self._cluster, step.step[:2], report.traffic, operations[-1].time.end_s)

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:  # noqa: ARG002
        self._probing[request.number] = step, request.peer.device

    def probed(self, message: protocol_out.Probed) -> None:
        step, target = self._probing.pop(message.number)
        for size_bytes, departure_s, arrival_s, _, waited_s in message.records:
            took_s = arrival_s - departure_s
            self._probed.append(Transit(message.source, target, size_bytes, 1, took_s - waited_s))
            sent = PathTraffic(message.source, target, 1, size_bytes, took_s)
            self._rows.add_links(self._cluster, step[:2], [sent], arrival_s)

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

    def wait_for(self, round_: MigrationRound) -> float:
        return round_.last_arrival_s

    def cancel(self) -> None: ...

    def sent_bytes(self, reported: SentBytes) -> SentBytes:
        return reported


class VirtualTime:
    """Time of devices that do not wait: they run one step after the other, and the simulator gives the instants."""

    def __init__(
        self,
        plan: Plan,
        now_s: Callable[[], float],
        session: Session,
        reports: StepReports,
        kernel_times: KernelTimes,
    ) -> None:
        self._plan = plan
        self._cluster = plan.cluster
        self._kernel_times = kernel_times
        self._now_s = now_s
        self._session = session
        self._reports = reports
        # Of devices relative to the host, the roofline is asked for messages only.
        computes = [
            each.compute or Compute(math.inf, math.inf, 0.0, each.message_overhead_s, each.byte_overhead_s)
            for each in plan.cluster.devices
        ]
        self._roofline = roofline_durations(computes, plan.costs)
        relative = any(device.compute is None for device in plan.cluster.devices)
        self._timeline = VirtualTimeline(plan.cluster, plan.costs, self._duration_s if relative else self._roofline)
        self._tokens: dict[int, protocol_out.Token] = {}  # by sequence, of its step in flight on the timeline
        self._rows = StepRows()
        self._sizes = ProgramSizes(plan.costs)
        self._observed: deque[StepMeasurement] = deque(maxlen=_kept_steps(plan))

    def instant(self, emulated_s: float) -> Instant:
        return Instant(emulated_s, self._now_s())

    async def start(self, step: Step, program: Program, at_s: float) -> None:
        """Wait until the devices have run the step, and put it on the timeline."""
        self._tokens[step.sequence] = await self._session.receive(protocol_out.Token)
        await self._reports.settle()
        self._timeline.start(step, program, at_s)

    async def next_token(self, by_s: float | None) -> SampledToken | None:
        timed = self._timeline.sampled(by_s)
        if timed is None:
            return None
        self._record(timed.step, timed.sampled_s)
        return sampled_token(timed.step, self._tokens.pop(timed.step.sequence), timed.sampled_s)

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None: ...

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:
        """Wait until the message has passed from device to device, and put it on the timeline."""
        await self._session.receive(protocol_out.Probed)
        assert request.at_s is not None, "it departs at an instant of the run"
        way = source, request.peer.device
        self._timeline.probe(way, request.number, probe_bytes(request), request.at_s, step)

    def probed(self, message: protocol_out.Probed) -> None: ...

    def handled(self, transfers: Sequence[HandledTransfer]) -> None: ...

    def _record(self, step: Step, sampled_s: float) -> None:
        """Record the operations of a step, at the instants that the timeline gave them."""
        executed = self._timeline.executions(step)
        self._observed.append(StepMeasurement(executed, self._timeline.transits()))
        latest = self._reports.latest(step.sequence)
        ops, reports = latest.program.ops, latest.reports
        indices, cpu_s = np.array([(each.place, each.cpu_s) for report in reports for each in report.operations]).T
        held = np.zeros((len(ACCOUNTS) + 1, len(self._cluster.devices)), np.int64)  # the last row: peaks
        for report in reports:
            device = ops[report.operations[0].place].device
            held[:, device] = [*(report.held.get(account, 0) for account in ACCOUNTS), report.peak_bytes]
        timed = executed.in_order_of(step, indices.astype(np.int64))
        self._rows.add_executed(self._cluster, timed, self._sizes.of(timed.about), held[:-1], held[-1], cpu_s)
        self._rows.add_transfers(self._cluster, self._timeline.transfers())
        self._rows.add_traffic(self._cluster, step[:2], self._timeline.traffic(step), sampled_s)

    async def observe(self) -> list[StepMeasurement]:
        observed = list(self._observed)
        self._observed.clear()
        return observed

    def take_rows(self) -> StepRows:
        rows, self._rows = self._rows, StepRows()
        return rows

    def change(self, change: Change, at_s: float) -> None:
        self._cluster = self._cluster.changed(change, at_s)
        self._timeline.change(change, at_s)

    def ship(self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]) -> None:
        epoch, number = round_.epoch, round_.number
        self._timeline.ship(
            round_.shipments, at_s, epoch=epoch, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s
        )

    async def arrived_s(self, round_: MigrationRound) -> float | None:
        """Wait for the bytes, whatever the timeline says: they must be there to be committed."""
        await round_.wait()
        return self._timeline.arrived_s()

    def wait_for(self, round_: MigrationRound) -> float:
        del round_
        return self._timeline.wait_for_round()

    def cancel(self) -> None:
        self._timeline.cancel()

    def sent_bytes(self, reported: SentBytes) -> SentBytes:
        del reported  # of the warm-up too
        return self._timeline.sent_bytes()

    def _duration_s(self, op: Op, step: Step) -> float:
        """Duration by the roofline; on a device relative to the host, by the measured times of its kernels."""
        device = self._plan.cluster.devices[op.device]
        if device.compute is not None or op.moves_message:
            return self._roofline(op, step)
        taken_s = self._kernel_times.add(op, step.rows, self._reports.latest(step.sequence).cpu_s[op.index])
        return relative_s(device, op, taken_s)


def _kept_steps(plan: Plan) -> int:
    """Steps of two decision intervals: measurements of older ones are dropped."""
    return 2 * plan.rules.interval_tokens * plan.concurrency
