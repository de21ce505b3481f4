"""Devices as processes: launched, paced or not, stepped, migrated, measured. The real backend of a run."""

import asyncio
import os
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.host.fleet import Fleet
from edgeemu.host.memory_caps import MemoryCaps
from edgeemu.links.interface import Peer
from edgeemu.links.self_test import LinkTest
from edgeemu.links.stamped import create_shared_pipes
from edgeemu.placement.blocks import Block
from edgeemu.placement.ledger import WEIGHTS
from edgeemu.placement.migration import MigrationProtocol, flash_ends, needs
from edgeemu.placement.operation_costs import op_s
from edgeemu.placement.program import Op, Program
from edgeemu.placement.shipments import Shipment, chains
from edgeemu.report.rows import OperationRow, operation_row
from edgeemu.run.backend import DeviceState, Instant, RunMeasurements, SampledToken, StepMeasurement
from edgeemu.run.choose_links import STAMPED, LinkChoice
from edgeemu.run.plan import Plan
from edgeemu.run.processes.launch import DEFAULT_LAUNCH, LaunchSettings
from edgeemu.run.processes.link_self_test import test_links
from edgeemu.run.processes.link_setup import LinkSetup
from edgeemu.run.processes.session import Aside, Session
from edgeemu.run.processes.step_reports import Flight, sampled_at
from edgeemu.run.processes.warm_up import WarmUpSpeed, smallest_dilation, warm_up
from edgeemu.run.requests import Request
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.steps import Step
from edgeemu.timeline.virtual import VirtualTimeline

LEAD_S = 0.05  # from the word to begin to the timeline's zero: time for every device to hear it
_FLOAT_BYTES = 4


class ProcessBackend:
    """A process for every device of a plan. With pacing the devices stamp what they do; without, the simulator does."""

    def __init__(
        self,
        plan: Plan,
        on_phase: Callable[[str, int, int], None],
        on_facts: Callable[[dict[str, str]], None] = lambda _: None,
        *,
        keep_logits: bool = False,
        launch: LaunchSettings = DEFAULT_LAUNCH,
        links: LinkChoice = STAMPED,
    ) -> None:
        self.plan = plan
        self._launch = launch
        self.links = links
        self.facts: dict[str, str] = {}  # what the host let us do, for meta.json
        self._on_facts = on_facts
        self.measured = RunMeasurements()
        self.dilation = 1.0
        self._on_phase = on_phase
        self._keep_logits = keep_logits
        self.cluster = plan.cluster
        self._told: dict[int, set[int]] = defaultdict(set)  # by device: to whom it knows the way
        self._session: Session
        self._cabling: LinkSetup
        self._program = plan.program
        self.epoch = 0
        self._aborted_epoch = 0  # parcels up to this epoch are dropped by devices, so it is not used again
        self._clock: WallClock | None = None  # None: not paced
        self._virtual: VirtualTimeline
        self._flights: dict[tuple[int, int], Flight] = {}  # by sequence and step
        self._last: dict[int, Flight] = {}  # by open sequence, the last that was started
        self._tokens: deque[protocol_out.Token] = deque()  # that have come
        self._opening: dict[int, int] = {}  # by sequence: devices that have not opened it yet
        self._unrecorded: list[OperationRow] = []
        self._receivers: set[int] = set()  # of the migration's round under way, and whose arrivals have come
        self._came: list[protocol_out.Arrived] = []
        self._unobserved: deque[Flight] = deque()  # sampled since `observe` was called
        self._observed: deque[StepMeasurement] = deque()  # the same in virtual mode

    @property
    def mode(self) -> str:
        return self.plan.scenario.time.mode

    # -- beginning and end --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        cluster = self.plan.cluster
        started_s = time.monotonic()
        pipes_fd = create_shared_pipes(cluster.n_pipes)
        try:
            self._on_phase("start devices", 0, len(cluster.devices))
            async with Fleet(self._launch.entry, (pipes_fd,), user_namespace=self.links.rootless) as fleet:
                caps = MemoryCaps(fleet.directory, os.getpid(), self._launch.cap_means)
                async with Session(cluster, fleet, pipes_fd, self._on_aside, caps) as self._session:
                    self._cabling = LinkSetup(self.links, cluster, fleet, self._session)
                    await self._session.start_devices(
                        self.links.kind, lambda n, of: self._on_phase("start devices", n, of)
                    )
                    dilation = self.plan.scenario.time.dilation
                    await self._cabling.build(dilation if isinstance(dilation, float) else 1.0)
                    self.facts |= {"memory_cap": caps.described, "scheduling": self._session.scheduling}
                    self._on_facts(self.facts)
                    self.measured.limitations = self._limitations(caps)
                    self.measured.baseline_bytes = self._session.resident_bytes
                    self.measured.ready_in_s = time.monotonic() - started_s
                    yield
        finally:
            os.close(pipes_fd)

    def _limitations(self, caps: MemoryCaps) -> list[str]:
        """What this host does not let us do as well as we can."""
        slow = self.plan.scenario.time.mode == "realtime" and "no real-time priority" in self._session.scheduling
        found = [caps.weaker, "devices wait without real-time priority" if slow else ""]
        return [text for text in found if text]

    async def assign(self, plan: Plan) -> None:
        self.plan, self.cluster = plan, plan.cluster
        self._unobserved = deque(maxlen=2 * plan.rules.interval_tokens * plan.concurrency)
        self._observed = deque(maxlen=2 * plan.rules.interval_tokens * plan.concurrency)
        self.epoch = max(self.epoch, self._aborted_epoch) + 1
        self._program = plan.program
        began_s = time.monotonic()
        self._on_phase("load weights", 0, len(plan.cluster.devices))
        requests = [
            protocol_in.Assign(self.epoch, plan.model.spec, plan.program.on(at), self._peers(plan.program, at))
            for at in range(len(plan.cluster.devices))
        ]
        await self._session.ask_all(requests, lambda n, of: self._on_phase("load weights", n, of))
        self.measured.loaded_in_s = time.monotonic() - began_s

    async def begin(self) -> Instant:
        """Warms up, chooses the dilation, and starts the timeline."""
        asked = self.plan.scenario.time
        relative = any(device.host_fraction is not None for device in self.plan.cluster.devices)
        tempo = await self._warm_up() if asked.mode == "realtime" or relative else []
        self._unrecorded.clear()
        self._unobserved.clear()
        self._observed.clear()
        await self._everyone(protocol_in.ForgetPeak())
        self._virtual = self._new_timeline()
        if asked.mode == "virtual":
            return Instant(0.0, time.monotonic())
        self.dilation = (
            asked.dilation
            if isinstance(asked.dilation, float)
            else smallest_dilation(tempo[0], tempo[1:], real_links=self._cabling.shaped)
        )
        await self._cabling.shape(self.dilation)
        if self._cabling.shaped:
            await self.test_links()
        self._clock = await self._start_timeline()
        await self._cabling.follow(self._clock)
        return Instant(0.0, self._clock.start_s)

    async def test_links(self) -> list[LinkTest]:
        """Measures the ways that the routes take, on a timeline of its own, as the devices have them now."""
        clock = await self._start_timeline()
        await asyncio.sleep(clock.start_s - time.monotonic())  # nothing departs before the timeline's zero
        ways = [(source, target) for source, told in self._told.items() for target in told]
        self.measured.link_tests = await test_links(
            self._session,
            self.cluster,
            ways,
            self.plan.costs.shape.d_model * _FLOAT_BYTES,
            self.dilation,
            self._peer,
            lambda n, of: self._on_phase("test links", n, of),
            real_packets=self._cabling.shaped,
        )
        return self.measured.link_tests

    async def _start_timeline(self) -> WallClock:
        """Everyone is at its zero, with nothing under way."""
        self._session.pipes.reset()
        clock = WallClock(time.monotonic() + LEAD_S, self.dilation)
        await self._everyone(protocol_in.Begin(clock.start_s, self.dilation, paced=True))
        return clock

    async def end(self) -> None:
        self.measured.group_peak_bytes = self._session.caps.peaks_bytes()
        last_words = await self._session.stop_devices()
        self.measured.weights_bytes = {bye.name: bye.ledger.get(WEIGHTS, 0) for bye in last_words}
        self.measured.resident_bytes = {bye.name: bye.resident_bytes for bye in last_words}
        await self._cabling.end()
        if self._clock is None:
            self.measured.sent_bytes = self._virtual.sent_bytes()
            return
        numbers = {device.name: device.index for device in self.cluster.devices}
        self.measured.sent_bytes = {
            (numbers[bye.name], target): size for bye in last_words for target, size in bye.sent_bytes.items()
        }

    async def _warm_up(self) -> list[WarmUpSpeed]:
        """A few tokens without pacing: they touch all memory, and show how fast this host can go."""
        self._clock = None
        await self._everyone(protocol_in.Begin(0.0, 1.0, paced=False))
        self._virtual = self._new_timeline()
        longest = sorted(self.plan.requests, key=lambda request: -len(request.ids))[: self.plan.concurrency]
        cores = len(os.sched_getaffinity(0))
        return await warm_up(self, longest, len(self.plan.requests), cores, self._on_phase)

    # -- steps --------------------------------------------------------------------------------------------------

    def instant(self, emulated_s: float) -> Instant:
        wall_s = time.monotonic() if self._clock is None else self._clock.wall_s(emulated_s)
        return Instant(emulated_s, wall_s)

    async def open(self, sequence: int, request: Request) -> None:
        """Tells all devices; whether they have it open is awaited when it starts."""
        sampling = self.plan.scenario.workload.sampling
        self._opening[sequence] = len(self.cluster.devices)
        for device in range(len(self.cluster.devices)):
            opened = protocol_in.Open(
                sequence=sequence,
                prompt_tokens=len(request.ids),
                total_tokens=request.total_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=request.seed,
                keep_logits=self._keep_logits,
            )
            await self._session.tell(device, opened)

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:
        """A prompt starts at the embedding, a token where it was sampled: it crosses the link back by itself."""
        while self._opening.get(step.sequence, 0):
            self._on_aside(await self._session.receive(protocol_out.Opened))
        program = self._program
        flight = Flight(step, program, owed=len({op.device for op in program.ops}))
        self._flights[step[:2]] = self._last[step.sequence] = flight
        device = program.embed_device if step.step == 0 else program.lm_head_device
        await self._session.tell(device, protocol_in.Start(*step[:2], self.epoch, at_s, step.past, ids))
        if self._clock is None:  # its kernels run now, and then it goes on the timeline
            flight.token = await self._session.receive(protocol_out.Token)
            await self.settle()
            self._virtual.start(step, program, at_s)

    async def sampled(self, by_s: float | None = None) -> SampledToken | None:
        if self._clock is None:
            timed = self._virtual.sampled(by_s)
            if timed is None:
                return None
            token = self._last[timed.step.sequence].token
            assert token is not None
            self._record_unpaced(self._last[timed.step.sequence])
            return sampled_at(timed.step, token, timed.sampled_s)
        if not self._tokens:
            limit_s = None if by_s is None else self._clock.wall_s(by_s) - time.monotonic()
            came = await self._session.receive_within(protocol_out.Token, limit_s)
            if came is None:
                return None
            self._tokens.append(came)
        token = self._tokens.popleft()
        flight = self._last[token.sequence]
        self._unobserved.append(flight)
        return sampled_at(flight.step, token, token.sampled_s)

    async def close(self, sequence: int) -> None:
        for device in range(len(self.cluster.devices)):
            await self._session.tell(device, protocol_in.Close(sequence))
        del self._last[sequence]

    async def settle(self) -> None:
        while self._flights:
            self._on_aside(await self._session.receive(protocol_out.Report))

    def _record_unpaced(self, flight: Flight) -> None:
        """The operations of a step, at the times that the timeline gave them."""
        observed = StepMeasurement(self._virtual.executions(flight.step), self._virtual.transits())
        self._observed.append(observed)
        times = {done.op.index: done.time for done in observed.executions}
        for report in flight.reports:
            for record in report.operations:
                timed = record._replace(time=times[record.op.index])
                self._unrecorded.append(operation_row(report.name, timed))

    async def change(self, change: Change, at_s: float) -> None:
        before, asked = self.cluster, 0
        self.cluster = before.changed(change, at_s)
        if change.links:
            await self._cabling.change(self.cluster)
        concerned = range(len(before.devices)) if change.links else sorted(set(change.devices))
        for device in concerned:
            ways = [way for way in sorted(self._told[device]) if before.crosses(device, way, change)]
            mine = device in change.devices
            if mine or ways:
                speed, memory_bytes = (change.speed, change.memory_bytes) if mine else (None, None)
                peers = [self._peer(device, target) for target in ways]
                await self._session.tell(device, protocol_in.ChangeDevice(at_s, speed, memory_bytes, peers))
                asked += 1
        for _ in range(asked):
            await self._session.receive(protocol_out.Ready)
        if self._clock is None:
            self._virtual.change(change, at_s)

    async def observe(self) -> list[StepMeasurement]:
        while any(flight.owed for flight in self._unobserved):  # and not for what is in flight still
            self._on_aside(await self._session.receive(protocol_out.Report))
        observed = [*self._observed, *map(self._as_reported, self._unobserved)]
        self._unobserved.clear()
        self._observed.clear()
        return observed

    @staticmethod
    def _as_reported(flight: Flight) -> StepMeasurement:
        executions = [record for report in flight.reports for record in report.operations]
        return StepMeasurement(executions, [transit for report in flight.reports for transit in report.transits])

    async def states(self, at_s: float) -> list[DeviceState]:
        for device in range(len(self.cluster.devices)):
            await self._session.tell(device, protocol_in.Status(at_s))
        answers = [await self._session.receive(protocol_out.DeviceStatus) for _ in self.cluster.devices]
        by_name = {answer.name: DeviceState(answer.availability, answer.memory_bytes) for answer in answers}
        return [by_name[device.name] for device in self.cluster.devices]

    def take_ops(self) -> list[OperationRow]:
        rows, self._unrecorded = self._unrecorded, []
        return rows

    # -- migration ----------------------------------------------------------------------------------------------

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        held, costs = self.plan.usages(migration.old), self.plan.costs
        receivers = list(needs(migration, held, sum(rows.values()), last_rows, costs))
        for target, moved, reserve_bytes, growth_bytes in receivers:
            blocks = [move.block for move in moved]
            prepare = protocol_in.Prepare(migration.epoch, blocks, reserve_bytes, growth_bytes, at_s)
            await self._session.tell(target, prepare)
        answers = [await self._session.receive(protocol_out.Prepared) for _ in receivers]
        refusals = {answer.name: answer.refusal for answer in answers if answer.refusal}
        return "; ".join(refusals[device.name] for device in self.cluster.devices if device.name in refusals)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        epoch, number, rules = migration.epoch, migration.round, self.plan.rules
        chunk_bytes = rules.chunk_bytes
        flash_s = flash_ends(migration, at_s, rules.flash_bytes_per_s, self.plan.costs)
        self._receivers = {shipment.target for shipment in shipments}
        self._came.clear()
        for target in sorted(self._receivers):
            parcels = sum(shipment.target == target for shipment in shipments)
            expect = protocol_in.Expect(epoch, number, parcels, target in flash_s, flash_s.get(target, 0.0))
            await self._session.tell(target, expect)
        by_source: dict[int, list[Shipment]] = defaultdict(list)
        for (source, _), shipped in chains(shipments).items():
            by_source[source] += shipped
        for source, shipped in by_source.items():
            peers = [self._peer(source, target) for target in sorted({s.target for s in shipped})]
            ship = protocol_in.Ship(epoch, number, at_s, chunk_bytes, shipped, peers)
            await self._session.tell(source, ship)
        if self._clock is None:
            self._virtual.ship(shipments, at_s, epoch=epoch, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s)

    async def arrived(self, migration: MigrationProtocol, by_s: float | None) -> float | None:
        """Without pacing the bytes are waited for whatever the timeline says: they must be there to be committed."""
        paced = self._clock is not None
        while len(self._came) < len(self._receivers) and (by_s is None or not paced):
            self._on_aside(await self._session.receive(protocol_out.Arrived))
        if len(self._came) < len(self._receivers):
            return None
        if paced:
            arrived_s: float | None = max(arrived.at_s for arrived in self._came)
        else:
            arrived_s = self._virtual.wait_for_round() if by_s is None else self._virtual.arrived_s()
        if arrived_s is None or (by_s is not None and arrived_s > by_s):
            return None
        for arrived in self._came:
            migration.arrived(arrived.device, arrived.number)
        return arrived_s

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        leaving: dict[int, list[Block]] = defaultdict(list)
        for move in migration.moves:
            leaving[move.source].append(move.block)
        await self._session.ask_all(
            [
                protocol_in.Commit(
                    migration.epoch,
                    program.on(at),
                    leaving[at],
                    self._peers(program, at),
                )
                for at in range(len(self.plan.cluster.devices))
            ]
        )
        self.epoch = migration.epoch
        self._program = program

    async def abort(self, migration: MigrationProtocol) -> None:
        if self._clock is None:
            self._virtual.cancel()
        self._aborted_epoch = migration.epoch
        await self._everyone(protocol_in.Abort(migration.epoch))

    # -- talk ---------------------------------------------------------------------------------------------------

    def _on_aside(self, message: Aside) -> None:
        """What comes while something else is waited for."""
        match message:
            case protocol_out.Arrived():
                self._came.append(message)
            case protocol_out.Token():
                self._tokens.append(message)
            case protocol_out.Opened():
                self._opening[message.sequence] -= 1
            case protocol_out.Report():
                self._on_report(message)

    def _on_report(self, report: protocol_out.Report) -> None:
        flight = self._flights[report.sequence, report.step]
        flight.reports.append(report)
        flight.cpu_s |= {done.op.index: done.cpu_s for done in report.operations}
        flight.owed -= 1
        if not flight.owed:
            del self._flights[report.sequence, report.step]
        if self._clock is not None:
            self._unrecorded += [operation_row(report.name, record) for record in report.operations]
        self.measured.reordered[report.name] = report.reordered
        self.measured.peak_bytes[report.name] = report.peak_bytes

    async def _everyone(self, request: protocol_in.ToDevice) -> None:
        await self._session.ask_all([request] * len(self.plan.cluster.devices))

    def _peers(self, program: Program, device: int) -> list[Peer]:
        """All devices that this one sends to."""
        targets = {target for op in program.on(device) for target in op.to}
        return [self._peer(device, target) for target in sorted(targets - {device})]

    def _peer(self, source: int, target: int) -> Peer:
        self._told[source].add(target)
        return Peer(target, self._cabling.address(target), self.cluster.path(source, target))

    def _new_timeline(self) -> VirtualTimeline:
        return VirtualTimeline(self.plan.cluster, self.plan.costs, self._duration_s)

    def _duration_s(self, op: Op, step: Step) -> float:
        device = self.plan.cluster.devices[op.device]
        if device.compute is not None:
            return op_s(device.compute, op, step.rows, step.past, self.plan.costs)
        assert device.host_fraction is not None
        cpu_s = self._last[step.sequence].cpu_s[op.index]
        return cpu_s / device.host_fraction + (device.overhead_s if op.starts_kernel else 0.0)
