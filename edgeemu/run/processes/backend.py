"""The backend of device processes: launched, paced or not, stepped, measured, migrated."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.cluster.variation import share_at
from edgeemu.device import protocol_in, protocol_out
from edgeemu.host.load import CpuTimes, cpu_times, load_between
from edgeemu.links.self_test import LinkTest
from edgeemu.placement.ledger import WEIGHTS
from edgeemu.run.backend import DeviceState, Instant, RunMeasurements
from edgeemu.run.choose_links import STAMPED, LinkChoice
from edgeemu.run.plan import Plan
from edgeemu.run.processes.emulated_time import EmulatedTime
from edgeemu.run.processes.failures import ProcessFailures
from edgeemu.run.processes.forwarding import ForwardsFailures, ForwardsMigrations, ForwardsReplicas, ForwardsTime
from edgeemu.run.processes.installed_program import InstalledProgram
from edgeemu.run.processes.launch import DEFAULT_LAUNCH, LaunchedDevices, LaunchSettings, launch_devices
from edgeemu.run.processes.link_self_test import test_links
from edgeemu.run.processes.migration import ProcessMigration
from edgeemu.run.processes.openings import Openings
from edgeemu.run.processes.paced_time import PacedTime
from edgeemu.run.processes.replicas import ProcessReplicas
from edgeemu.run.processes.session import Unasked
from edgeemu.run.processes.step_reports import StepReports
from edgeemu.run.processes.trial import TRIALS, asking, passing_in_trial
from edgeemu.run.processes.virtual_time import VirtualTime
from edgeemu.run.processes.warm_up import WarmUpSpeed, smallest_dilation, warm_up
from edgeemu.run.requests import Request
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.kernel_times import KernelTimes
from edgeemu.timeline.steps import Step
from edgeemu_kernels.weights.sources import files_of

LEAD_S = 0.05  # from the message to begin to the timeline's zero: time for every device to receive it
_FLOAT_BYTES = 4


class ProcessBackend(ForwardsMigrations, ForwardsReplicas, ForwardsFailures, ForwardsTime):
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
        self._time: EmulatedTime  # from the assignment of blocks on
        # From the launch on:
        self.installed: InstalledProgram
        self._devices: LaunchedDevices
        self._openings: Openings
        self._reports: StepReports
        self._began_with: CpuTimes | None = None  # when a paced timeline began

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
        on_progress, model = self._progress("start devices"), self.plan.model
        reads, shape = files_of(model.spec), model.shape
        async with launch_devices(
            cluster, self.links, self._launch, reads, shape, self._on_unasked, on_progress, survives=self._survives
        ) as self._devices:
            devices, dilation = self._devices, time_spec.dilation
            await devices.links.build(dilation if isinstance(dilation, float) else 1.0, devices.pids)
            self._openings, self._reports = Openings(devices.session), StepReports(devices.session, self.plan.resumed)
            self.installed = InstalledProgram(self.plan, devices.links.address)
            self._on_facts(devices.facts)
            self.measured.limitations = devices.limitations(realtime=time_spec.mode == "realtime")
            self.measured.baseline_bytes = devices.baseline_bytes
            self.measured.ready_in_s = time.monotonic() - started_s
            yield

    async def assign(self, plan: Plan) -> None:
        self.plan, self.installed.cluster = plan, plan.cluster
        self._replicas = ProcessReplicas(plan, self._devices.session, self.installed)
        program, epoch = plan.program, self.installed.next_epoch()
        self.installed.install(program, epoch)
        began_s = time.monotonic()
        (on_progress := self._progress("load weights"))(0, len(plan.cluster.devices))
        requests = {
            at: protocol_in.Assign(epoch, plan.model.spec, program.on(at), self.installed.peers(program, at))
            for at in self._devices.session.presence.answering()
        }
        await self._devices.session.ask(requests, on_progress)
        self._keep_time(self._virtual_time(one_by_one=True))  # until the timeline begins
        self.measured.loaded_in_s = time.monotonic() - began_s

    async def begin(self, at_s: float = 0.0) -> Instant:
        """Warm up, choose the dilation, and start the timeline at an instant."""
        asked, links = self.plan.scenario.time, self._devices.links
        relative = any(device.host_fraction is not None for device in self.plan.cluster.devices)
        speeds = await self._warm_up() if asked.mode == "realtime" or relative else []
        self.measured.kernel_times = self._kernel_times.copy()
        await self._devices.session.ask_all(protocol_in.ForgetPeak())
        if asked.mode == "virtual":
            self._on_facts(self._devices.facts)
            self._keep_time(self._virtual_time(), for_the_run=True)
            return self.instant(at_s)
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
        clock = await self._start_timeline(at_s)
        paced = PacedTime(self.plan, clock, time.monotonic, self._devices.session, self._reports, self.measured)
        self._keep_time(paced, for_the_run=True)
        await links.follow(clock)
        self._began_with = self._cpu_times()
        return self.instant(at_s)

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
        await self._failures.end()
        last_messages = await self._devices.session.stop_devices()
        self.measured.weights_bytes = {bye.name: bye.ledger.get(WEIGHTS, 0) for bye in last_messages}
        self.measured.resident_bytes = {bye.name: bye.resident_bytes for bye in last_messages}
        await self._devices.links.end()
        numbers = {device.name: device.index for device in self.cluster.devices}
        reported = {(numbers[bye.name], to): size for bye in last_messages for to, size in bye.sent_bytes.items()}
        for bye in last_messages:
            self._time.to_replicas(bye.replica_traffic)
        self.measured.sent_bytes = self._time.end(reported)

    def _cpu_times(self) -> CpuTimes:
        return cpu_times([os.getpid(), *self.process_ids.values()])

    async def _warm_up(self) -> list[WarmUpSpeed]:
        """Run a few tokens without pacing: they touch all memory, and show how fast this host can go."""
        await self._devices.session.ask_all(protocol_in.Begin(0.0, 1.0, paced=False))
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
        self._on_phase(f"dilation {self.dilation:g}: seconds by the clock for one of the timeline", 1, 1)

    @property
    def _longest(self) -> list[Request]:
        """As many requests as are in flight at once, those with the longest prompts."""
        return sorted(self.plan.requests, key=lambda request: -len(request.ids))[: self.plan.concurrency]

    async def _start_timeline(self, at_s: float = 0.0) -> WallClock:
        """Put every device at an instant of a timeline, with nothing in flight."""
        self._devices.pipes.reset()
        self._devices.spare_collections()
        clock = WallClock(time.monotonic() + LEAD_S - self.dilation * at_s, self.dilation)
        await self._devices.session.ask_all(protocol_in.Begin(clock.start_s, self.dilation, paced=True))
        return clock

    def _virtual_time(self, *, one_by_one: bool = False) -> VirtualTime:
        """Return the time of devices that do not wait; what it learns of kernels is kept."""
        given = self._devices.session, self._reports, self._kernel_times, self.measured.peak_bytes
        return VirtualTime(self.plan, time.monotonic, *given, one_by_one=one_by_one)

    def _keep_time(self, emulated: EmulatedTime, *, for_the_run: bool = False) -> None:
        devices, installed = self._devices, self.installed
        self._time = emulated
        self._migration = ProcessMigration(self.plan, devices.session, installed, emulated)
        self._replicas.time = emulated
        self._failures = ProcessFailures(
            self.plan, devices, installed, emulated, self._reports, self._openings, self._replicas
        )
        if for_the_run and self._survives:
            self._failures.note_losses(self.dilation, self.measured.standstills)

    @property
    def _survives(self) -> bool:
        """Whether the run goes on without devices that are lost."""
        return self.plan.rules.recovery.caches != "none"

    def _progress(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self._on_phase(phase, done, total)

    # -- steps --------------------------------------------------------------------------------------------------

    def instant(self, emulated_s: float) -> Instant:
        return self._time.instant(emulated_s)

    async def open(self, sequence: int, request: Request) -> None:
        """Have all devices open a sequence; whether they have is awaited when it starts."""
        sampling = self.plan.scenario.workload.sampling
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
        await self._time.complete()
        await self._openings.open(opened)

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:
        """Start a prompt at the embedding, and a token where it was sampled: it crosses the link back by itself."""
        session, program = self._devices.session, self.installed.program
        await self._openings.wait(step.sequence)
        self._reports.started(step, program)
        device = program.embed_device if step.enters_at_embedding else program.lm_head_device
        await session.send(device, protocol_in.Start(*step[:2], self.installed.epoch, at_s, step.past, ids))
        await self._time.start(step, program, at_s)

    async def close(self, sequence: int) -> None:
        await self._time.complete()
        self._openings.close(sequence)
        await self._devices.session.send_all(protocol_in.Close(sequence))
        self._reports.close(sequence)

    async def settle(self) -> None:
        await self._reports.settle()

    async def change(self, change: Change, at_s: float) -> None:
        messages = self.installed.change(change, at_s)
        if change.links:
            await self._devices.links.change(self.cluster)
        await self._devices.session.ask(self._failures.told(messages))
        self._time.change(change, at_s)

    # -- measurements -------------------------------------------------------------------------------------------

    async def states(self, at_s: float) -> list[DeviceState]:
        """Ask devices; one that is gone has no memory, and one that stands still what it would have."""
        session, devices = self._devices.session, self.cluster.devices
        moving = [device.index for device in devices if session.presence.moves(device.index)]
        for device in moving:
            await session.send(device, protocol_in.Status(at_s))
        answers = await session.answers(protocol_out.DeviceStatus, moving)
        states = {at: DeviceState(answer.availability, answer.memory_bytes) for at, answer in answers.items()}
        gone = session.presence.gone
        return [
            states.get(at) or DeviceState(share_at(each.availability, at_s), 0 if at in gone else each.memory_at(at_s))
            for at, each in enumerate(devices)
        ]

    async def probe(self, pairs: Sequence[tuple[int, int]], step: Step, at_s: float) -> None:
        for source, target in pairs:
            await self._devices.session.send(source, request := self.installed.probe(source, target, at_s))
            await self._time.probe(source, request, step)

    def _on_unasked(self, message: Unasked) -> None:
        match message:
            case protocol_out.Arrived():
                if not self._replicas.on_arrived(message):
                    self._migration.on_arrived(message)
            case protocol_out.Token():
                self._reports.tokens.append(message)
            case protocol_out.Probed():
                self._time.probed(message)
            case protocol_out.TransfersHandled():
                self._time.handled(message.transfers)
            case protocol_out.Opened():
                self._openings.opened(message)
            case protocol_out.Report():
                self._time.reported(self._reports.add(message), message)
                self.measured.reordered[message.name] = message.reordered
                if self._time.clock is not None:
                    self.measured.peak_bytes[message.name] = message.peak_bytes
