"""Emulated time of device processes that do not wait: the simulator keeps it."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.device.link_probe import probe_bytes
from edgeemu.placement.program import Op, Program
from edgeemu.placement.step_memory import StepPeaks
from edgeemu.report.usage_rows import OF_NO_STEP, StepRows
from edgeemu.run.backend import NO_TOKEN, Instant, SampledToken, StepMeasurement
from edgeemu.run.plan import Plan
from edgeemu.run.processes.device_memory import DeviceMemory
from edgeemu.run.processes.emulated_time import SentBytes, kept_steps
from edgeemu.run.processes.migration_round import MigrationRound
from edgeemu.run.processes.session import Session
from edgeemu.run.processes.step_reports import StepInFlight, StepReports, sampled_token
from edgeemu.timeline.kernel_times import KernelTimes, relative_s
from edgeemu.timeline.operation_sizes import ProgramSizes
from edgeemu.timeline.steps import Step, TokenTime, roofline_durations
from edgeemu.timeline.traffic import PathTraffic
from edgeemu.timeline.transfers import HandledTransfer
from edgeemu.timeline.virtual import VirtualTimeline


class VirtualTime:
    """Time of devices that do not wait: the simulator gives the instants of what they do.

    They begin a step when the timeline does, and their results are awaited when the timeline has its token. So what
    they have to do at the same time is what the timeline has at the same time, and nothing that it gives depends on
    how fast they are.
    """

    def __init__(
        self,
        plan: Plan,
        now_s: Callable[[], float],
        session: Session,
        reports: StepReports,
        kernel_times: KernelTimes,
        peak_bytes: dict[str, int],
        *,
        one_by_one: bool = False,
    ) -> None:
        """`peak_bytes` gets the most memory that devices have held, by name.

        `one_by_one`: devices run one step after the other, so that they can be measured. It is so where they are
        relative to the host: what kernels have taken gives the timeline.
        """
        self._plan = plan
        self._cluster = plan.cluster
        self._kernel_times = kernel_times
        self._wall_s = now_s
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
        self._one_by_one = one_by_one or relative
        self._started: deque[StepInFlight] = deque()  # whose results were not awaited yet, in the order of their start
        self._memory, self._peak_bytes = DeviceMemory(len(plan.cluster.devices)), peak_bytes
        self._step_peaks = StepPeaks(plan.costs, len(plan.cluster.devices))
        self._rows = StepRows()
        self._sizes = ProgramSizes(plan.costs)
        self._observed: deque[StepMeasurement] = deque(maxlen=kept_steps(plan))
        self._probed = 0  # test messages that have arrived
        self._sampled_s = 0.0  # when the last token was, or caches were filled
        self._latest_s = 0.0  # instant that the timeline has come to, as far as anybody has asked
        self._given_up: dict[tuple[int, int], StepInFlight] = {}  # last attempt at each step, or at filling for it
        for device in session.presence.gone:
            self._timeline.end_device(device, 0.0)

    def instant(self, emulated_s: float) -> Instant:
        return Instant(emulated_s, self._wall_s())

    @property
    def clock(self) -> None:
        return None

    def now_s(self) -> float:
        return self._latest_s

    async def reach(self, at_s: float) -> None:
        self._latest_s = max(self._latest_s, at_s)

    async def start(self, step: Step, program: Program, at_s: float) -> None:
        """Put a step on the timeline; not if a device that runs it is lost. Those that fill caches run alone."""
        started = self._reports.latest(step.sequence)
        self._started.append(started)
        if self._one_by_one or step.step < 0:
            await self._run_until(started)
        self._latest_s = max(self._latest_s, at_s)
        if not started.broken:
            self._timeline.start(step, program, at_s)
        self._reports.filled.clear()

    async def complete(self) -> None:
        if self._started:
            await self._run_until(self._started[-1])

    async def _run_until(self, last: StepInFlight) -> None:
        """Wait until devices have run all steps up to this one, in the order of their start, or cannot go on."""
        while last.memory is None:
            started = self._started.popleft()
            await self._session.handle_until(protocol_out.Token, partial(self._has_token, started))
            await self._reports.settle(started)
            self._count(started)

    def _has_token(self, started: StepInFlight) -> bool:
        step = started.step
        return started.broken or step.step < 0 or self._reports.token_of(step) is not None

    def _count(self, started: StepInFlight) -> None:
        """Count what devices held for a step."""
        ops, step = started.program.ops, started.step
        own_bytes = self._step_peaks.of(started.program, step.step, step.rows)
        reports = [(ops[report.operations[0].place].device, report) for report in started.reports]
        alone = self._one_by_one or step.step < 0
        started.memory = self._memory.after(reports, step.rows, own_bytes, None if alone else started.cached_rows)
        self._peak_bytes |= {report.name: int(started.memory.peak_bytes[device]) for device, report in reports}

    async def next_token(self, by_s: float | None) -> SampledToken | None:
        while not self._session.losses and (timed := self._next(by_s)) is not None:
            started = self._reports.latest(timed.step.sequence)
            await self._run_until(started)
            if not started.broken:
                return self._sampled(timed)
        return None

    def _next(self, by_s: float | None) -> TokenTime | None:
        """Return the next token of the timeline, where devices may be behind."""
        timed = self._timeline.sampled(by_s)
        if timed is not None:
            self._latest_s = max(self._latest_s, timed.sampled_s)
        return timed

    def _sampled(self, timed: TokenTime) -> SampledToken:
        step, sampled_s = timed
        self._record(step, sampled_s)
        if step.step < 0:
            return SampledToken(step, NO_TOKEN, self.instant(sampled_s))
        token = self._reports.token_of(step)
        assert token is not None, "devices have run the step"
        self._reports.tokens.remove(token)
        return sampled_token(step, token, sampled_s)

    def halt(self, at_s: float) -> list[SampledToken]:
        tokens, latest = [], self._reports.latest
        while (timed := self._next(at_s)) is not None:
            if not latest(timed.step.sequence).broken:
                tokens.append(self._sampled(timed))
        for step, traffic in self._timeline.halt(self._counts_for):
            self._rows.add_traffic(self._cluster, step, traffic, at_s)
            self._given_up[step] = latest(step[0])
        self._record_given_up(at_s)
        return tokens

    def _counts_for(self, step: Step) -> tuple[int, int] | None:
        """Return the step for which a step counts that is given up; None: a device is lost that had not run it."""
        return None if self._reports.latest(step.sequence).broken else self._reports.counts_for(step)

    def end_device(self, device: int, at_s: float) -> None:
        self._timeline.end_device(device, at_s)

    def restart_device(self, device: int, at_s: float) -> None:
        self._memory.restarted(device)
        self._timeline.restart_device(device, at_s)

    def reported(self, step: StepInFlight, report: protocol_out.Report) -> None: ...

    async def probe(self, source: int, request: protocol_in.Probe, step: Step) -> None:
        """Wait until the message has passed from device to device, and put it on the timeline."""
        way = source, request.peer.device
        session, seen = self._session, self._probed
        await session.handle_until(
            protocol_out.Probed, lambda: self._probed > seen or not all(map(session.presence.answers, way))
        )
        assert request.at_s is not None, "it departs at an instant of the run"
        self._timeline.probe(way, request.number, probe_bytes(request), request.at_s, step)

    def probed(self, message: protocol_out.Probed) -> None:  # noqa: ARG002  # the timeline has its time
        self._probed += 1

    def to_replicas(self, traffic: Sequence[PathTraffic]) -> None: ...
    def handled(self, transfers: Sequence[HandledTransfer]) -> None: ...

    def _record(self, step: Step, sampled_s: float) -> None:
        """Record the operations of a step, at the instants that the timeline gave them."""
        executed = self._timeline.executions(step)
        measured = StepMeasurement(executed, self._timeline.transits())
        if step.step >= 0:  # those that fill caches are observed nowhere, as of devices that are paced
            self._observed.append(measured)
        latest = self._reports.latest(step.sequence)
        operations = [each for report in latest.reports for each in report.operations]
        indices, cpu_s = np.array([(each.place, each.cpu_s) for each in operations]).T
        assert latest.memory is not None, "devices have run it"
        held, peak_bytes = latest.memory
        timed = executed.in_order_of(step, indices.astype(np.int64))
        sizes, counts_for = self._sizes.of(timed.about), self._reports.counts_for(step)
        waiting = counts_for if step.step < 0 else None
        self._rows.add_executed(self._cluster, timed, sizes, held, peak_bytes, cpu_s, waiting)
        self._rows.add_transfers(self._cluster, self._timeline.transfers())
        self._rows.add_traffic(self._cluster, counts_for, self._timeline.traffic(step), sampled_s)
        self._rows.add_traffic(self._cluster, OF_NO_STEP, self._timeline.replica_traffic(), sampled_s)
        self._record_given_up(sampled_s)
        self._sampled_s = sampled_s

    def _record_given_up(self, by_s: float, *, cut: bool = False) -> None:
        """Record operations of steps that were given up, as far as they had ended by an instant; `cut`: all of them."""
        for step, executed, done in self._timeline.given_up.take(by_s, cut=cut):
            attempt, sizes = self._given_up[step], self._sizes.of(executed.about)
            assert attempt.memory is not None, "devices have run it"
            (held, peak_bytes), places = attempt.memory, executed.about.index[executed.place]
            cpu_s = np.array([attempt.cpu_s.get(place, 0.0) for place in places.tolist()])
            self._rows.add_executed(self._cluster, executed, sizes, held, peak_bytes, cpu_s, step, done)

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
        return self._timeline.arrived_s() if await round_.wait() else None

    async def wait_for(self, round_: MigrationRound, by_s: float | None) -> float | None:
        if not await round_.wait():
            return None
        arrived_s = self._timeline.wait_for_round(by_s)
        self._latest_s = max(self._latest_s, arrived_s or 0.0)
        return arrived_s

    def cancel(self) -> None:
        self._timeline.cancel()

    async def replicate(
        self, round_: MigrationRound, at_s: float, chunk_bytes: int, flash_s: Mapping[int, float]
    ) -> None:
        """Wait for the bytes, which must be there when the timeline says so; not if a device is lost meanwhile."""
        if await round_.wait():
            self._timeline.ship_replicas(
                round_.shipments, at_s, number=round_.number, chunk_bytes=chunk_bytes, flash_s=flash_s
            )

    def replicated(self, rounds: Sequence[MigrationRound], by_s: float) -> list[tuple[int, int]]:
        for round_ in rounds:
            round_.take_arrivals(math.inf)
        return self._timeline.replicated(by_s)

    def cancel_replicas(self) -> None:
        self._timeline.cancel_replicas()

    def end(self, reported: SentBytes) -> SentBytes:
        del reported  # of the warm-up too
        self._rows.add_traffic(self._cluster, OF_NO_STEP, self._timeline.replica_traffic(), self._sampled_s)
        self._record_given_up(self._sampled_s, cut=True)
        return self._timeline.sent_bytes()

    def _duration_s(self, op: Op, step: Step) -> float:
        """Duration by the roofline; on a device relative to the host, by the measured times of its kernels."""
        device = self._plan.cluster.devices[op.device]
        if device.compute is not None or op.moves_message:
            return self._roofline(op, step)
        taken_s = self._kernel_times.add(op, step.rows, self._reports.latest(step.sequence).cpu_s[op.index])
        return relative_s(device, op, taken_s)
