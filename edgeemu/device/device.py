"""One emulated device: events in, instructions out (as in dask.distributed's worker state machine).

Knows no sockets, no clock and no sleep: `process` has those, and carries the instructions out.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

from numpy.typing import NDArray

from edgeemu.cluster.devices import memory_left_bytes
from edgeemu.cluster.variation import scaled
from edgeemu.device.dataflow import Dataflow, ReadyOp
from edgeemu.device.executor import Executor
from edgeemu.device.held_messages import Held, HeldMessages
from edgeemu.device.instructions import (
    BeginTimeline,
    ChunkSent,
    Connect,
    Event,
    Instruction,
    Leave,
    OperationRan,
    RunOperation,
    SleepUntil,
    Tell,
    Tick,
    Woke,
)
from edgeemu.device.migration import DeviceMigration
from edgeemu.device.pacing import Pacer
from edgeemu.device.protocol_in import (
    Abort,
    Assign,
    Begin,
    ChangeDevice,
    Close,
    Commit,
    DeviceConfig,
    Expect,
    Follow,
    ForgetPeak,
    Halt,
    HoldReplicas,
    Open,
    Prepare,
    Probe,
    Rewind,
    Ship,
    Start,
    Status,
    Stop,
    ToDevice,
)
from edgeemu.device.protocol_out import Bye, DeviceStatus, Opened, Ready
from edgeemu.device.protocol_states import ProtocolStates
from edgeemu.device.sequences import SequenceState
from edgeemu.device.step_runner import DeviceTransfer, StepRunner
from edgeemu.device.transfers import DeviceTransfers
from edgeemu.links.messages import Data, ShipmentChunk
from edgeemu.placement.ledger import Ledger
from edgeemu.placement.program import MessageKind, held_parts
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.ready_queue import ReadyQueue
from edgeemu_kernels.sampling import Sampling
from edgeemu_kernels.weights.sources import open_source

_PROBE = MessageKind.PROBE


@dataclass(frozen=True, slots=True)
class _Assignment:
    """Parts of a device that exist since it was assigned blocks."""

    executor: Executor
    runner: StepRunner
    migration: DeviceMigration


class EmulatedDevice:
    """State of one device, from its start to its last message."""

    def __init__(self, config: DeviceConfig) -> None:
        self.ledger = Ledger(config.name, config.memory_bytes)
        self.states = ProtocolStates(config.name)
        self.pacer = Pacer(config)
        self._config = config
        self._dataflow = Dataflow()
        self._held = HeldMessages()
        self._transfers = DeviceTransfers(config, self.pacer, self.states, self._held.hold)
        self._memory_availability = config.memory_availability
        self._assignment: _Assignment | None = None
        self._ready: ReadyQueue[ReadyOp | DeviceTransfer] = ReadyQueue()

    def handle(self, event: Event) -> list[Instruction]:
        """Takes an event; returns what is to be done, in this order.

        Raises:
            OutOfMemoryError: the device cannot hold what the event brings.
            ProtocolError: the message is not legal now.
            EdgeemuError: a message is not what it should be; the device cannot go on.
        """
        match event:
            case Data():
                return self._take(event)
            case Tick():
                return self._tick(event.now_s)
            case OperationRan():
                end_s = self._assigned.runner.ran(event)
                if event.woke is None:
                    return [*self._assigned.migration.ship_until(end_s), SleepUntil(end_s)]
                return self._assigned.runner.woke(event.woke)
            case Woke():
                return self._assigned.runner.woke(event)
            case ChunkSent():
                return self._assigned.migration.sent(event.taken_s)
            case ShipmentChunk():
                return self._transfers.take_chunk(event)
            case _:
                return self._request(event)

    @property
    def executor(self) -> Executor:
        """The blocks that the device holds, and the open sequences' caches."""
        return self._assigned.executor

    def run(self, ready: ReadyOp) -> NDArray[Any]:
        """Executes the operation of a `RunOperation`, which takes as long as it takes; returns its result."""
        payloads = [each.payload for each in ready.inputs]
        return self._assigned.executor.run(ready.op, *ready.key, ready.inputs[0].position, payloads)

    # -- what the process waits for -------------------------------------------------------------------------------

    @property
    def has_ready(self) -> bool:
        """Whether the next `Tick` runs an operation."""
        return bool(self._ready)

    @property
    def is_stuck(self) -> bool:
        """Whether chunks are due whose receivers are too far behind: they are offered again at the next `Tick`."""
        return self._assignment is not None and self._assignment.migration.is_stuck

    @property
    def due_s(self) -> float | None:
        """The next instant at which a `Tick` has something to do; None: there is none."""
        held_s = self._held.due_s
        if self._assignment is None or not self._assignment.migration.sends:
            return held_s
        return min([due_s for due_s in (held_s, self._assignment.migration.due_s) if due_s is not None], default=None)

    def _tick(self, now_s: float) -> list[Instruction]:
        """Delivers what has arrived on the timeline (unpaced: all), ships what is due, and runs what is next.

        Chunks that are due before the operation ends leave before it: the interface does not wait for the kernel.
        """
        instructions = [each for message in self._held.take(now_s) for each in self._release(message, now_s)]
        if self._assignment is None:
            return instructions
        runner, migration = self._assignment.runner, self._assignment.migration
        if sends := migration.sends:
            migration.prepare_due(now_s)
        if not self._ready:
            return instructions + migration.ship_until(now_s) if sends else instructions
        ready, end_s = runner.run_next()
        if sends:
            instructions += migration.ship_until(now_s if end_s is None else max(now_s, end_s))
        if ready is not None:
            instructions.append(RunOperation(ready, end_s))
        elif end_s is not None:  # of a transfer, which nothing is executed for
            instructions.append(SleepUntil(end_s))
        return instructions

    def _release(self, message: Held, now_s: float) -> list[Instruction]:
        if isinstance(message, Data):
            if message.kind is _PROBE:
                return self._transfers.take_probe(message, now_s)
            self._assigned.runner.deliver(message)
            return []
        if isinstance(message, Start):
            return self._assigned.runner.start(message)
        self._transfers.due(message)
        return []

    # -- messages of devices --------------------------------------------------------------------------------------

    def _take(self, message: Data) -> list[Instruction]:
        if not self.states.takes_data():
            return []
        if message.kind is not _PROBE:
            if message.epoch < self._dataflow.epoch and self._dataflow.is_given_up(message.epoch):
                return []
            self._assigned.runner.take(message)
            if not self.pacer.paced:  # all is due
                self._assigned.runner.deliver(message)
                return []
        elif not self.pacer.paced:
            return self._release(message, inf)
        self._held.hold(message.arrival_s, message)
        return []

    # -- messages of the controller -------------------------------------------------------------------------------

    def _request(self, request: ToDevice) -> list[Instruction]:
        self.states.receive(request)
        match request:
            case Start():
                self._held.hold(request.at_s, request)
                return []
            case Assign():
                return self._assign(request)
            case Begin():
                return self._begin(request)
            case Open():
                return self._open(request)
            case Close():
                self._assigned.executor.close(request.sequence)
                self._assigned.migration.replicas.close(request.sequence)
                self._dataflow.forget(request.sequence)
                return []
            case Prepare() | HoldReplicas() | Ship() | Expect() | Commit() | Abort():
                return self._migrate(request)
            case Halt() | Rewind() | Follow():
                return self._go_on(request)
            case ChangeDevice():
                return self._change(request)
            case Probe():
                return self._transfers.probe(request)
            case Status():
                return [*self._transfers.told(), Tell(self._status(request.at_s))]
            case ForgetPeak():
                self.ledger.forget_peak()
                return [self._done("ForgetPeak")]
            case Stop():
                return [*self._transfers.told(), Leave(self._bye())]

    def _assign(self, request: Assign) -> list[Instruction]:
        self.ledger = Ledger(self._config.name, self._config.memory_bytes)
        executor = Executor(open_source(request.source), self.ledger)
        executor.load(request.ops)
        runner = StepRunner(self._config, self.pacer, self._dataflow, executor, self.ledger)
        migration = DeviceMigration(self._config, self.pacer, self.ledger, executor, runner)
        self._assignment = _Assignment(executor, runner, migration)
        self._ready = runner.ready
        self._transfers.assign(runner, migration)
        self._dataflow.install(request.epoch, request.ops)
        return [Connect(request.peers), self._done("Assign")]

    def _begin(self, request: Begin) -> list[Instruction]:
        self.pacer.begin(paced=request.paced)
        self._memory_availability = self._config.memory_availability
        self._assigned.runner.begin()
        clock = WallClock(request.start_s, request.dilation) if request.paced else None
        return [BeginTimeline(clock), self._done("Begin")]

    def _open(self, request: Open) -> list[Instruction]:
        sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
        opened = SequenceState(sampling, request.keep_logits)
        self._assigned.executor.open(request.sequence, request.prompt_tokens, request.total_tokens, opened)
        return [Tell(Opened(self._config.name, request.sequence, self.ledger.page()))]

    def _migrate(self, request: Prepare | HoldReplicas | Ship | Expect | Commit | Abort) -> list[Instruction]:
        migration = self._assigned.migration
        match request:
            case Prepare():
                prepared = migration.prepare(request, self._memory_left_bytes(request.at_s))
                if prepared.refusal:
                    self.states.refuse()
                return [Tell(prepared)]
            case HoldReplicas():
                migration.hold(request)
                return [self._done("HoldReplicas")]
            case Ship():
                return migration.ship(request)
            case Expect():
                return migration.expect(request)
            case Commit():
                return self._commit(request)
            case Abort():
                migration.abort()
                return [*self._transfers.told(), self._done("Abort")]

    def _commit(self, request: Commit) -> list[Instruction]:
        """Switches to the new placement: takes in what has arrived, and lets go of what is not needed any more."""
        self._dataflow.install(request.epoch, request.ops)
        arriving = self._assigned.migration.collect(held_parts(request.ops))
        self._assigned.executor.exchange(request.ops, arriving)
        return [Connect(request.peers), *self._transfers.told(), self._done("Commit")]

    def _go_on(self, request: Halt | Rewind | Follow) -> list[Instruction]:
        """Gives steps up, or what they have computed, or goes on with other operations, because a device was lost."""
        if isinstance(request, Follow):
            self._dataflow.install(request.epoch, request.ops)
            self._assigned.executor.charge_filling(request.rows, request.past)
            return [Connect(request.peers), self._done("Follow")]
        if isinstance(request, Halt):
            return [*self._assigned.runner.halt(request.epoch, self._held.drop_steps()), self._done("Halt")]
        self._assigned.executor.rewind(request.rows, request.layers, request.kept)
        self._assigned.migration.replicas.rewind(request)
        return [self._done("Rewind")]

    def _change(self, request: ChangeDevice) -> list[Instruction]:
        """Event or fault. What is held stays and grows, however little memory is left; what would come is refused."""
        self.pacer.steer(request.at_s, request.speed, request.still_until_s)
        if request.memory_bytes is not None:
            share = request.memory_bytes / self._config.memory_bytes
            self._memory_availability = scaled(self._memory_availability, request.at_s, share)
        return [Connect(request.peers), self._done("Change")]

    def _done(self, request: str) -> Tell:
        return Tell(Ready(self._config.name, request, self.ledger.page()))

    def _status(self, at_s: float) -> DeviceStatus:
        availability = self.pacer.availability_at(at_s)
        return DeviceStatus(self._config.name, availability, self._memory_left_bytes(at_s), self.ledger.used_bytes)

    def _bye(self) -> Bye:
        runner = self._assignment.runner if self._assignment is not None else None
        sent_bytes, traffic = (dict(runner.sent_bytes), runner.take_replica_traffic()) if runner else ({}, [])
        return Bye(self._config.name, self.ledger.page(), self.ledger.peak_bytes, sent_bytes, replica_traffic=traffic)

    def _memory_left_bytes(self, at_s: float) -> int:
        """Memory that other work leaves at an instant."""
        return memory_left_bytes(self._config.memory_bytes, self._memory_availability, at_s)

    @property
    def _assigned(self) -> _Assignment:
        assert self._assignment is not None, "nothing that needs blocks is legal before Assign"
        return self._assignment
