"""The simulated backend of a run: no process and no kernel, for clusters that no host can emulate.

Every token is -1, because no model runs.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np

from edgeemu.cluster.links import Change
from edgeemu.cluster.variation import share_at
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.ledger import INCOMING, OutOfMemoryError, between_steps
from edgeemu.placement.memory import usages
from edgeemu.placement.migration import MigrationProtocol, flash_ends, needs
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.replica_copies import ReplicaRound, read_ends
from edgeemu.placement.replicas import Replica, bytes_beside
from edgeemu.placement.shipments import Shipment
from edgeemu.report.usage_rows import OF_NO_STEP, StepRows
from edgeemu.run.backend import (
    NO_TOKEN,
    PROBE_PAYLOAD_BYTES,
    DeviceState,
    Instant,
    Loss,
    RunMeasurements,
    SampledToken,
    StepMeasurement,
)
from edgeemu.run.plan import Plan
from edgeemu.run.requests import Request
from edgeemu.timeline.executed import ExecutedOps
from edgeemu.timeline.operation_sizes import ProgramSizes
from edgeemu.timeline.steps import Step
from edgeemu.timeline.virtual import VirtualTimeline


class SimulatedBackend:
    """Simulates a plan's operations as events. Memory is as planned; a migration is refused as a device would."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.dilation = 1.0
        self._last_epoch = plan.resumed.epoch if plan.resumed else 0
        self._probes = 0
        self._program = plan.program
        self._open: dict[int, Request] = {}
        self._timeline: VirtualTimeline
        self._rows = StepRows()
        self._sizes = ProgramSizes(plan.costs)
        n_devices = len(plan.cluster.devices)
        self._held_bytes: IntArray = np.zeros((4, n_devices), np.int64)  # by account of the memory ledger
        self._reserved_bytes = np.zeros(n_devices, np.int64)  # by receivers, for the migration in progress
        self._replicas: frozenset[Replica] = frozenset()
        self._replica_bytes = np.zeros(n_devices, np.int64)
        self._peak_bytes = np.zeros(n_devices, np.int64)  # with what migrations reserve
        self._observed: deque[StepMeasurement] = deque()  # since the last call
        self._started: dict[int, Step] = {}  # the last step of each sequence
        self._gone = set(plan.cluster.faults.absent)
        self._latest_s = 0.0  # when the last token was sampled
        self.cluster = plan.cluster
        self.measured = RunMeasurements()

    @property
    def mode(self) -> str:
        return "simulated"

    @asynccontextmanager
    async def launched(self) -> AsyncIterator[None]:
        yield

    async def assign(self, plan: Plan) -> None:
        self.plan, self._program, self.cluster = plan, plan.program, plan.cluster
        self._observed = deque(maxlen=2 * plan.rules.interval_tokens * plan.concurrency)
        self._last_epoch += 1
        self._holds(plan.placement)

    async def begin(self, at_s: float = 0.0) -> Instant:
        self._timeline = VirtualTimeline(self.plan.cluster, self.plan.costs, self.plan.durations, repeats=True)
        for device in self._gone:
            self._timeline.end_device(device, at_s)
        self._started = {due.step.sequence: due.step for due in self.plan.resumed.waiting} if self.plan.resumed else {}
        return self.instant(at_s)

    async def open(self, sequence: int, request: Request) -> None:
        self._open[sequence] = request

    async def start(self, step: Step, ids: list[int], at_s: float) -> None:  # noqa: ARG002
        if step.step >= 0:
            self._started[step.sequence] = step
        self._timeline.start(step, self._program, at_s)

    async def next_token(self, by_s: float | None = None) -> SampledToken | None:
        await asyncio.sleep(0)  # for the event loop: it knows of a signal that ends the run
        return self._next_sampled(by_s)

    def _next_sampled(self, by_s: float | None) -> SampledToken | None:
        token = self._timeline.sampled(by_s)
        if token is None:
            return None
        executed = self._timeline.executions(token.step)
        measured = StepMeasurement(executed, self._timeline.transits())
        if token.step.step >= 0:
            self._observed.append(measured)
        self._record(token.step, executed, token.sampled_s)
        return SampledToken(token.step, NO_TOKEN, self.instant(token.sampled_s))

    async def close(self, sequence: int) -> None:
        del self._open[sequence]
        self._started.pop(sequence, None)

    async def settle(self) -> None: ...

    async def change(self, change: Change, at_s: float) -> None:
        self.cluster = self.cluster.changed(change, at_s)
        self._timeline.change(change, at_s)

    async def end_device(self, device: int, at_s: float) -> None:
        self._gone.add(device)
        self._replicas = frozenset(replica for replica in self._replicas if replica.holder != device)
        self._replica_bytes[device] = 0
        self._timeline.end_device(device, at_s)

    async def stop_device(self, device: int, at_s: float, until_s: float) -> None:  # its speed says so
        ...

    async def continue_device(self, device: int) -> None: ...

    async def restart_device(self, device: int, at_s: float) -> None:
        self._gone.discard(device)
        self._timeline.restart_device(device, at_s)

    def take_losses(self) -> list[Loss]:
        return []

    async def halt(self, at_s: float) -> list[SampledToken]:
        tokens = []
        while (token := self._next_sampled(at_s)) is not None:
            tokens.append(token)
        for step, traffic in self._timeline.halt(self._counts_for):
            self._rows.add_traffic(self.cluster, step, traffic, at_s)
        self._record_given_up(at_s)
        return tokens

    async def rewind(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> None: ...

    async def follow(self, program: Program, rows: int = 0, past: int = 0) -> None:  # noqa: ARG002  # no ledger
        self._program = program

    async def observe(self) -> list[StepMeasurement]:
        observed = list(self._observed)
        self._observed.clear()
        return observed

    async def states(self, at_s: float) -> list[DeviceState]:
        return [
            DeviceState(share_at(d.availability, at_s), 0 if d.index in self._gone else d.memory_at(at_s))
            for d in self.cluster.devices
        ]

    async def probe(self, pairs: Sequence[tuple[int, int]], step: Step, at_s: float) -> None:
        for way in pairs:
            self._probes += 1
            sizes = [MESSAGE_HEADER_BYTES + size_bytes for size_bytes in PROBE_PAYLOAD_BYTES]
            self._timeline.probe(way, self._probes, sizes, at_s, step)

    async def end(self) -> None:
        self._rows.add_traffic(self.cluster, OF_NO_STEP, self._timeline.replica_traffic(), self._latest_s)
        self._record_given_up(self._latest_s, cut=True)
        self.measured.sent_bytes = self._timeline.sent_bytes()
        self._rows.add_transfers(self.cluster, self._timeline.transfers())

    def next_epoch(self) -> int:
        self._last_epoch += 1
        return self._last_epoch

    async def prepare(self, migration: MigrationProtocol, rows: Mapping[int, int], last_rows: int, at_s: float) -> str:
        """Reserve memory for blocks to come, in addition to what receivers hold until the commit."""
        refusals, costs, n_devices = [], self.plan.costs, len(self.cluster.devices)
        star = self.plan.view.star
        by_sequence = [
            usages(migration.left, costs, n_devices, len(asked.ids), asked.total_tokens, star=star)
            for asked in self._open.values()
        ]
        held, rows_now = self.plan.usages(migration.left), sum(rows.values())
        for target, moved, reserve_bytes, growth_bytes in needs(migration, held, rows_now, last_rows, costs):
            device = self.cluster.devices[target]
            mine = [by_device[target] for by_device in by_sequence]
            ledger = between_steps(device.name, device.memory_bytes, mine, rows_now)
            try:
                left_bytes = device.memory_at(at_s) if moved else None
                ledger.charge(INCOMING, int(self._replica_bytes[target]))
                ledger.charge(INCOMING, reserve_bytes, left_bytes, growth_bytes)
            except OutOfMemoryError as error:
                refusals.append(str(error))
            else:
                self._note_peaks(target, ledger.used_bytes + growth_bytes)
                self._reserved_bytes[target] = reserve_bytes
        return "; ".join(refusals)

    async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
        rules = self.plan.rules
        flash_s = flash_ends(migration, at_s, rules.flash_bytes_per_s, self.plan.costs)
        self._timeline.ship(
            shipments,
            at_s,
            epoch=migration.epoch,
            number=migration.round,
            chunk_bytes=rules.chunk_bytes,
            flash_s=flash_s,
        )
        self._receivers = {shipment.target for shipment in shipments} | flash_s.keys()

    async def arrived(self, migration: MigrationProtocol, by_s: float) -> float | None:
        arrived_s = self._timeline.arrived_s()
        if arrived_s is None or arrived_s > by_s:
            return None
        self._all_arrived(migration)
        return arrived_s

    async def wait(self, migration: MigrationProtocol, by_s: float | None = None) -> float | None:
        arrived_s = self._timeline.wait_for_round(by_s)
        if arrived_s is not None:
            self._all_arrived(migration)
        return arrived_s

    def _all_arrived(self, migration: MigrationProtocol) -> None:
        for target in sorted(self._receivers):
            migration.arrived(target, migration.round)

    async def commit(self, migration: MigrationProtocol, program: Program) -> None:
        self._timeline.cancel_replicas()
        self._program = program
        self._holds(migration.new)

    async def abort(self, migration: MigrationProtocol) -> None:  # noqa: ARG002
        self._reserved_bytes[:] = 0
        self._timeline.cancel()

    async def hold_replicas(self, epoch: int, replicas: frozenset[Replica], *, load: bool) -> None:
        del epoch  # rounds that are given up deliver nothing
        self._replicas = replicas
        if not load:
            self._timeline.cancel_replicas()
        self._holds(self._placement)

    async def replicate(self, round_: ReplicaRound, at_s: float) -> None:
        rules, costs = self.plan.rules, self.plan.costs
        flash_s = read_ends(round_, at_s, rules.flash_bytes_per_s, costs)
        self._timeline.ship_replicas(
            round_.shipments,
            at_s,
            number=round_.number,
            chunk_bytes=rules.chunk_bytes,
            flash_s=flash_s,
        )

    async def replicated(self, by_s: float) -> list[tuple[int, int]]:
        return self._timeline.replicated(by_s)

    async def stop_replicating(self) -> None:
        self._timeline.cancel_replicas()

    def take_rows(self) -> StepRows:
        rows, self._rows = self._rows, StepRows()
        return rows

    def _record(self, step: Step, executed: ExecutedOps, sampled_s: float) -> None:
        """Record a step. Memory is what devices hold at their fullest under the placement in force."""
        incoming_bytes = self._reserved_bytes + self._replica_bytes
        held = np.vstack([self._held_bytes, incoming_bytes])  # [n_accounts, n_devices]
        sizes, counts_for = self._sizes.of(executed.about), self._counts_for(step)
        waiting = counts_for if step.step < 0 else None
        self._rows.add_executed(self.cluster, executed, sizes, held, self._peak_bytes, waiting=waiting)
        self._rows.add_transfers(self.cluster, self._timeline.transfers())
        self._rows.add_traffic(self.cluster, counts_for, self._timeline.traffic(step), sampled_s)
        self._rows.add_traffic(self.cluster, OF_NO_STEP, self._timeline.replica_traffic(), sampled_s)
        self._record_given_up(sampled_s)
        self._latest_s = sampled_s

    def _record_given_up(self, by_s: float, *, cut: bool = False) -> None:
        """Record operations of steps that were given up, as far as they had ended by an instant; `cut`: all of them."""
        held = np.vstack([self._held_bytes, self._reserved_bytes + self._replica_bytes])  # [n_accounts, n_devices]
        for step, executed, done in self._timeline.given_up.take(by_s, cut=cut):
            sizes = self._sizes.of(executed.about)
            self._rows.add_executed(self.cluster, executed, sizes, held, self._peak_bytes, waiting=step, given_up=done)

    def _counts_for(self, step: Step) -> tuple[int, int]:
        """Return the sequence and step for which a step counts: one that fills caches, for the one that waits."""
        return self._started[step.sequence][:2] if step.step < 0 else step[:2]

    def _holds(self, placement: Placement) -> None:
        """Note that devices hold their blocks under a placement."""
        self._reserved_bytes[:] = 0
        self._placement, usages_now = placement, self.plan.usages(placement)
        pages = [usage.page() for usage in usages_now]
        self._held_bytes = np.array([tuple(page) for page in pages], np.int64).T
        self._replica_bytes[:] = 0
        for holder, size_bytes in bytes_beside(placement, self._replicas, usages_now).items():
            self._replica_bytes[holder] = size_bytes
        page_bytes = np.array([page.total_bytes for page in pages], np.int64)
        self._note_peaks(slice(None), page_bytes + self._replica_bytes)

    def _note_peaks(self, devices: int | slice, used_bytes: IntArray | int) -> None:
        self._peak_bytes[devices] = np.maximum(self._peak_bytes[devices], used_bytes)
        names = (device.name for device in self.cluster.devices)
        self.measured.peak_bytes = dict(zip(names, self._peak_bytes.tolist(), strict=True))

    @staticmethod
    def instant(emulated_s: float) -> Instant:
        """Return a moment; the wall clock of a simulation is the timeline."""
        return Instant(emulated_s, emulated_s)
