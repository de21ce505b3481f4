"""The backend of device processes: launched, paced or not, stepped, measured, migrated."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.device import protocol_in, protocol_out
from edgeemu.host.load import CpuTimes, cpu_times, load_between
from edgeemu.links.self_test import LinkTest
from edgeemu.placement.ledger import WEIGHTS
from edgeemu.placement.migration import MigrationProtocol
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.report.usage_rows import StepRows
from edgeemu.run.backend import DeviceState, Instant, RunMeasurements, SampledToken, StepMeasurement
from edgeemu.run.choose_links import STAMPED, LinkChoice
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import EmulatedTime, PacedTime, VirtualTime
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.launch import DEFAULT_LAUNCH, LaunchedDevices, LaunchSettings, launch_devices
from edgeemu.run.processes.link_self_test import test_links
from edgeemu.run.processes.migration import ProcessMigration
from edgeemu.run.processes.session import Unasked
from edgeemu.run.processes.step_reports import StepReports
from edgeemu.run.processes.trial import TRIALS, asking, passing_in_trial
from edgeemu.run.processes.warm_up import WarmUpSpeed, smallest_dilation, warm_up
from edgeemu.run.requests import Request
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.kernel_times import KernelTimes
from edgeemu.timeline.steps import Step
from edgeemu_kernels.weights.sources import files_of

LEAD_S = 0.05  # from the message to begin to the timeline's zero: time for every device to receive it
_FLOAT_BYTES = 4


class ProcessBackend:
    """A process for every device of a plan. How time passes, paced or virtual, is chosen when the timeline begins."""

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
        self.links = links
        self.measured = RunMeasurements()
        self.dilation = 1.0
        self._launch = launch
        self._keep_logits = keep_logits
        self._on_phase = on_phase
        self._on_facts = on_facts
        self._kernel_times = KernelTimes()
        self._opening: dict[int, int] = {}  # by sequence: devices that have not opened it yet
        # From the launch on:
        self.installed: InstalledProgram
        self._devices: LaunchedDevices
        self._reports: StepReports
        self._began_with: CpuTimes | None = None  # when a paced timeline began
        # From the beginning of the timeline on:
        self._time: EmulatedTime
        self._migration: ProcessMigration

    @property
    def mode(self) -> str:
        return self.plan.scenario.time.mode

    @property
    def cluster(self) -> Cluster:
        return self.installed.cluster

    @property
    def process_ids(self) -> Mapping[str, int]:
        """Processes that run, by name: those of the devices, and that of the network if links are the kernel's."""
        return self._devices.fleet.alive

    # -- beginning and end --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        cluster, time_spec = self.plan.cluster, self.plan.scenario.time
        started_s = time.monotonic()
        on_progress, reads = self._progress("start devices"), files_of(self.plan.model.spec)
        async with launch_devices(
            cluster, self.links, self._launch, reads, self.plan.model.shape, self._on_unasked, on_progress
        ) as self._devices:
            devices, dilation = self._devices, time_spec.dilation
            await devices.links.build(dilation if isinstance(dilation, float) else 1.0, devices.pids)
            self._reports = StepReports(devices.session)
            self.installed = InstalledProgram(cluster, self.plan.program, devices.links.address)
            self._on_facts(devices.facts)
            self.measured.limitations = devices.limitations(realtime=time_spec.mode == "realtime")
            self.measured.baseline_bytes = devices.baseline_bytes
            self.measured.ready_in_s = time.monotonic() - started_s
            yield

    async def assign(self, plan: Plan) -> None:
        self.plan, self.installed.cluster = plan, plan.cluster
        program, epoch = plan.program, self.installed.next_epoch()
        self.installed.install(program, epoch)
        began_s = time.monotonic()
        (on_progress := self._progress("load weights"))(0, len(plan.cluster.devices))
        requests = {
            at: protocol_in.Assign(epoch, plan.model.spec, program.on(at), self.installed.peers(program, at))
            for at in range(len(plan.cluster.devices))
        }
        await self._devices.session.ask(requests, on_progress)
        self.measured.loaded_in_s = time.monotonic() - began_s

    async def begin(self) -> Instant:
        """Warm up, choose the dilation, and start the timeline."""
        asked, links = self.plan.scenario.time, self._devices.links
        relative = any(device.host_fraction is not None for device in self.plan.cluster.devices)
        speeds = await self._warm_up() if asked.mode == "realtime" or relative else []
        self.measured.kernel_times = self._kernel_times.copy()
        await self._devices.session.ask_all(protocol_in.ForgetPeak())
        if asked.mode == "virtual":
            self._on_facts(self._devices.facts)
            self._keep_time(self._virtual_time())
            return self.instant(0.0)
        self.dilation = (
            asked.dilation
            if isinstance(asked.dilation, float)
            else smallest_dilation(speeds[0], speeds[1:], real_links=links.shaped)
        )
        await links.shape(self.dilation)
        if not isinstance(asked.dilation, float):
            await self._try_dilation()
        if links.shaped:
            await self.test_links()
        self._on_facts(self._devices.facts)  # now, and not while the timeline runs
        clock = await self._start_timeline()
        self._keep_time(PacedTime(self.plan, clock, time.monotonic, self._devices.session, self._reports))
        await links.follow(clock)
        self._began_with = self._cpu_times()
        return self.instant(0.0)

    async def test_links(self) -> list[LinkTest]:
        """Measure the paths that messages take, on a timeline of its own, as the devices have them now."""
        clock = await self._start_timeline()
        await asyncio.sleep(clock.start_s - time.monotonic())  # nothing departs before the timeline's zero
        self.measured.link_tests = await test_links(
            self._devices.session,
            self.installed,
            self.plan.costs.shape.d_model * _FLOAT_BYTES,
            self.dilation,
            self._progress("test links"),
            real_packets=self._devices.links.shaped,
        )
        return self.measured.link_tests

    async def end(self) -> None:
        if self._began_with is not None:
            self.measured.host_load = load_between(self._began_with, self._cpu_times())
        self.measured.group_peak_bytes = self._devices.caps.peaks_bytes()
        last_messages = await self._devices.session.stop_devices()
        self.measured.weights_bytes = {bye.name: bye.ledger.get(WEIGHTS, 0) for bye in last_messages}
        self.measured.resident_bytes = {bye.name: bye.resident_bytes for bye in last_messages}
        await self._devices.links.end()
        numbers = {device.name: device.index for device in self.cluster.devices}
        reported = {(numbers[bye.name], to): size for bye in last_messages for to, size in bye.sent_bytes.items()}
        self.measured.sent_bytes = self._time.sent_bytes(reported)

    def _cpu_times(self) -> CpuTimes:
        return cpu_times([os.getpid(), *self.process_ids.values()])

    async def _warm_up(self) -> list[WarmUpSpeed]:
        """Run a few tokens without pacing: they touch all memory, and show how fast this host can go."""
        await self._devices.session.ask_all(protocol_in.Begin(0.0, 1.0, paced=False))
        self._keep_time(self._virtual_time())
        longest, cores = self._longest, len(os.sched_getaffinity(0))
        return await warm_up(self, longest, len(self.plan.requests), cores, self._on_phase)

    async def _try_dilation(self) -> None:
        """Raise the dilation until a few paced tokens would pass."""
        on_progress, least = self._progress("try the dilation"), self.dilation
        for trial in range(TRIALS):
            on_progress(trial, TRIALS)
            clock = await self._start_timeline()
            self._keep_time(PacedTime(self.plan, clock, time.monotonic, self._devices.session, self._reports))
            first = len(self.plan.requests) + (1 + trial) * self.plan.concurrency
            passing = await passing_in_trial(self, self._longest, first, self.dilation, least, asking(self.plan, self))
            if passing <= self.dilation:
                break
            self.dilation = passing
            await self._devices.links.shape(self.dilation)
        on_progress(TRIALS, TRIALS)

    @property
    def _longest(self) -> list[Request]:
        """As many requests as are in flight at once, those with the longest prompts."""
        return sorted(self.plan.requests, key=lambda request: -len(request.ids))[: self.plan.concurrency]

    async def _start_timeline(self) -> WallClock:
        """Put every device at the zero of a timeline, with nothing in flight."""
        self._devices.pipes.reset()
        self._devices.spare_collections()
        clock = WallClock(time.monotonic() + LEAD_S, self.dilation)
        await self._devices.session.ask_all(protocol_in.Begin(clock.start_s, self.dilation, paced=True))
        return clock

    def _virtual_time(self) -> VirtualTime:
        """Return the time of devices that do not wait; what it learns of kernels is kept."""
        return VirtualTime(self.plan, time.monotonic, self._devices.session, self._reports, self._kernel_times)

    def _keep_time(self, emulated: EmulatedTime) -> None:
        self._time = emulated
        self._migration = ProcessMigration(self.plan, self._devices.session, self.installed, emulated)

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self._on_phase(phase, done, total)

    # -- steps --------------------------------------------------------------------------------------------------

    def instant(self, emulated_s: float) -> Instant:
        return self._time.instant(emulated_s)

    async def open(self, sequence: int, request: Request) -> None:
        """Have all devices open a sequence; whether they have is awaited when it starts."""
        sampling = self.plan.scenario.workload.sampling
        self._opening[sequence] = len(self.cluster.devices)
        await self._devices.session.send_all(
            protocol_in.Open(
                sequence=sequence,
                prompt_tokens=len(request.ids),
                total_tokens=request.total_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                seed=request.seed,
                keep_logits=self._keep_logits,
            )
        )

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:
        """Start a prompt at the embedding, and a token where it was sampled: it crosses the link back by itself."""
        session, program = self._devices.session, self.installed.program
        while self._opening.get(step.sequence, 0):
            await session.handle_next(protocol_out.Opened)
        self._reports.started(step, program)
        device = program.embed_device if step.step == 0 else program.lm_head_device
        await session.send(device, protocol_in.Start(*step[:2], self.installed.epoch, at_s, step.past, ids))
        await self._time.start(step, program, at_s)

    async def next_token(self, by_s: float | None = None) -> SampledToken | None:
        return await self._time.next_token(by_s)

    async def close(self, sequence: int) -> None:
        self._opening.pop(sequence, None)
        await self._devices.session.send_all(protocol_in.Close(sequence))
        self._reports.close(sequence)

    async def settle(self) -> None:
        await self._reports.settle()

    async def change(self, change: Change, at_s: float) -> None:
        messages = self.installed.change(change, at_s)
        if change.links:
            await self._devices.links.change(self.cluster)
        await self._devices.session.ask(messages)
        self._time.change(change, at_s)

    def take_rows(self) -> StepRows:
        return self._time.take_rows()

    # -- measurements -------------------------------------------------------------------------------------------

    async def observe(self) -> list[StepMeasurement]:
        return await self._time.observe()

    async def states(self, at_s: float) -> list[DeviceState]:
        session, devices = self._devices.session, self.cluster.devices
        await session.send_all(protocol_in.Status(at_s))
        answers = [await session.receive(protocol_out.DeviceStatus) for _ in devices]
        by_name = {answer.name: DeviceState(answer.availability, answer.memory_bytes) for answer in answers}
        return [by_name[device.name] for device in devices]

    async def probe(self, pairs: Sequence[tuple[int, int]], step: Step, at_s: float) -> None:
        for source, target in pairs:
            await self._devices.session.send(source, request := self.installed.probe(source, target, at_s))
            await self._time.probe(source, request, step)

    def _on_unasked(self, message: Unasked) -> None:
        match message:
            case protocol_out.Arrived():
                self._migration.on_arrived(message)
            case protocol_out.Token():
                self._reports.tokens.append(message)
            case protocol_out.Probed():
                self._time.probed(message)
            case protocol_out.TransfersHandled():
                self._time.handled(message.transfers)
            case protocol_out.Opened():
                self._opening[message.sequence] -= 1
            case protocol_out.Report():
                self._time.reported(self._reports.add(message))
                self.measured.reordered[message.name] = message.reordered
                self.measured.peak_bytes[message.name] = message.peak_bytes

    # -- migrations ---------------------------------------------------------------------------------------------

    def next_epoch(self) -> int:
        return self._migration.next_epoch()

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        return await self._migration.prepare(migration, rows, last_rows, at_s)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        await self._migration.ship(migration, shipments, at_s)

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        return await self._migration.arrived(migration, by_s)

    async def wait(self, migration: MigrationProtocol) -> float:
        return await self._migration.wait(migration)

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        await self._migration.commit(migration, program)

    async def abort(self, migration: MigrationProtocol) -> None:
        await self._migration.abort(migration)
