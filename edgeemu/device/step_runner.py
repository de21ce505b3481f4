"""The steps under way on a device: which operation runs next, where its result goes, and the report when all have run.

Transfers (messages of no step) wait in the same queue, where they keep the device busy.

Pure: what has to be sent or told is returned as instructions.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeemu.device.dataflow import Dataflow, Input, ReadyOp, StepKey
from edgeemu.device.executor import Executor
from edgeemu.device.instructions import Instruction, OperationRan, Send, Tell, Woke
from edgeemu.device.pacing import Pacer
from edgeemu.device.protocol_in import DeviceConfig, Start
from edgeemu.device.protocol_out import ExecutedOperation, Report, Token
from edgeemu.links.messages import Data, ShipmentChunk, data_bytes
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES, Kind
from edgeemu.placement.ledger import MESSAGES, Ledger
from edgeemu.placement.operation_costs import message_bytes, op_s
from edgeemu.placement.program import Collective, MessageKind, Op, Slot
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.network import Transits
from edgeemu.timeline.ready_queue import NO_STEP, ReadyQueue, Waiting
from edgeemu.timeline.traffic import PathTraffic, StepTraffic
from edgeemu.timeline.transfers import HandledTransfer, Transfer

DeviceTransfer = Transfer[list[Instruction]]


class _Running(msgspec.Struct, eq=False):
    """The operation that occupies the device. `time` is None until it is known."""

    ready: ReadyOp
    time: Occupation | None
    result: NDArray[Any]
    cpu_s: float = 0.0


@dataclass(slots=True, eq=False)
class _RunningTransfer:
    """Transfer that occupies the device."""

    transfer: DeviceTransfer
    time: Occupation


_LM_HEAD, _SEND = Kind.LM_HEAD, Collective.SEND
_NO_STEP = (NO_STEP, NO_STEP)
_NO_RESULT: NDArray[Any] = np.empty(0)


class StepRunner:
    """Steps of the operations that a device was assigned. Every payload that it holds is charged to the ledger."""

    def __init__(
        self, config: DeviceConfig, pacer: Pacer, dataflow: Dataflow, executor: Executor, ledger: Ledger
    ) -> None:
        self.sent_bytes: Counter[int] = Counter()  # by receiver, since the timeline began
        self.transits = Transits()
        self._traffic, self._replica_traffic = StepTraffic(), StepTraffic()
        self._name, self._index = config.name, config.index
        self._pacer, self._dataflow, self._executor, self._ledger = pacer, dataflow, executor, ledger
        self.ready: ReadyQueue[ReadyOp | DeviceTransfer] = ReadyQueue()
        self._running: _Running | _RunningTransfer | None = None
        self._handled: list[HandledTransfer] = []
        self._executed: dict[StepKey, list[ExecutedOperation]] = {}
        ledger.steps_apart = not pacer.paced

    def begin(self) -> None:
        """A new timeline: nothing has been sent or has arrived on it."""
        self.transits = Transits()
        self.sent_bytes.clear()
        self._handled.clear()
        self._ledger.steps_apart = not self._pacer.paced

    def halt(self, epoch: int, taken_bytes: int) -> list[Instruction]:
        """Gives up all steps, none of whose operations is running; and `taken_bytes` that were taken, not delivered.

        What was done for them is told.
        """
        assert not isinstance(self._running, _Running), "a device handles messages between operations"
        self.ready.drop_steps()
        begun = sorted({*self._executed, *(StepKey(*step) for step in self._traffic.steps)})
        told: list[Instruction] = [Tell(self._report(key, given_up=True)) for key in begun]
        self._ledger.give_up_steps(taken_bytes + self._dataflow.halt(epoch))
        return told

    # -- inputs ---------------------------------------------------------------------------------------------------

    def take(self, message: Data) -> None:
        """Holds a message until it is delivered.

        Raises:
            OutOfMemoryError: its payload does not fit.
        """
        self._ledger.charge_step((message.sequence, message.step), MESSAGES, message.payload.nbytes)
        if self._pacer.paced:
            size_bytes = data_bytes(message.payload)
            instants = message.departure_s, message.arrival_s
            self.transits.add(message.source, self._index, size_bytes, *instants, message.waited_s)
            step, path = (message.sequence, message.step), (message.source, self._index)
            self._traffic.add(step, path, size_bytes, message.arrival_s - message.departure_s)

    def take_to_replica(self, chunk: ShipmentChunk) -> None:
        """Notes a chunk that has arrived for a replica: it is traffic of no step."""
        if self._pacer.paced:
            header, size_bytes = chunk.header, MESSAGE_HEADER_BYTES + len(chunk.payload)
            path, transit_s = (header.shipment.source, self._index), header.arrival_s - header.departure_s
            self._replica_traffic.add(_NO_STEP, path, size_bytes, transit_s)

    def take_replica_traffic(self) -> list[PathTraffic]:
        """The chunks for replicas that have arrived since the last call, by path."""
        return self._replica_traffic.take(_NO_STEP)

    def deliver(self, message: Data) -> None:
        """Hands a message that was taken to the operations that wait for it: its arrival has come."""
        key = StepKey(message.sequence, message.step)
        slot = Slot(message.kind, message.layer, message.source, message.part)
        arrived = Input(message.arrival_s, message.position, message.payload, 0, message.step_rows)
        self._deliver(message.epoch, key, slot, arrived)

    def start(self, request: Start) -> list[Instruction]:
        """Begins a step: ids enter at the embedding up to step 0; a token leaves for it from where it was sampled."""
        key = StepKey(request.sequence, request.step)
        ids = np.asarray(request.ids, dtype=np.int64)  # [t]
        if request.step <= 0:
            self._ledger.charge_step(key, MESSAGES, ids.nbytes)
            prompt = Input(request.at_s, request.position, ids, rows=len(ids))
            self._deliver(request.epoch, key, Slot(MessageKind.PROMPT, 0, -1), prompt)
            return []
        self._dataflow.check_epoch(request.epoch)
        return self._send(self._dataflow.only(Kind.LM_HEAD), key, request.position, len(ids), ids, request.at_s)

    def _deliver(self, epoch: int, key: StepKey, slot: Slot, arrived: Input) -> None:
        for ready in self._dataflow.deliver(epoch, key, slot, arrived):
            op = ready.op
            self.ready.push(Waiting(ready.ready_s, *key, op.index, op.kind is _SEND), ready)

    # -- operations -----------------------------------------------------------------------------------------------

    def queue(self, transfer: DeviceTransfer, ready_s: float, peer: int, number: int) -> None:
        """Has a transfer wait like an operation. `peer`, `number`: as `Transfer.waiting`."""
        self.ready.push(transfer.waiting(ready_s, peer, number), transfer)

    def run_next(self) -> tuple[ReadyOp | None, float | None]:
        """The operation that is to run now, None: a transfer; and its end on the timeline, where that is known."""
        waiting, ready = self.ready.pop()
        if isinstance(ready, Transfer):
            taken = self._pacer.book_message(waiting.ready_s, ready.size_bytes)
            assert taken is not None, "transfers have a time only where devices are paced"
            self._running = _RunningTransfer(ready, taken)
            return None, taken.end_s
        time = self._book(ready) if self._pacer.paced else None
        self._running = _Running(ready, time, _NO_RESULT)
        return ready, None if time is None else time.end_s

    def _book(self, ready: ReadyOp) -> Occupation | None:
        """The time of an operation, where it is known before its kernel has run."""
        op, costs, first = ready.op, self._executor.costs, ready.inputs[0]
        if op.moves_message:
            return self._pacer.book_message(ready.ready_s, message_bytes(op, first.rows, costs))
        return self._pacer.book(ready.ready_s, lambda speed: op_s(speed, op, first.rows, first.position, costs))

    def ran(self, event: OperationRan) -> float:
        """The kernel has run. Returns the operation's end on the timeline, when its result may be sent."""
        running = self._running
        assert isinstance(running, _Running), "the process answers each instruction to run once"
        running.result, running.cpu_s = event.result, event.cpu_s
        if running.time is None:
            ready = running.ready
            running.time = self._pacer.book_measured(ready.ready_s, ready.op, ready.inputs[0].rows, event.cpu_s)
        return running.time.end_s

    def woke(self, event: Woke) -> list[Instruction]:
        """The operation's end has come: its result leaves; after a step's last operation, so does the report."""
        if isinstance(self._running, _RunningTransfer):
            return self._transferred(self._running)
        running, self._running = self._running, None
        assert running is not None, "the process answers each instruction to run once"
        ready, time, result = running.ready, running.time, running.result
        assert time is not None, "its end was known before it woke"
        op, key, first = ready.op, ready.key, ready.inputs[0]
        overrun = event.overran and op.computes  # what takes no time on the timeline cannot keep to it
        executed = ExecutedOperation(op.index, *time, running.cpu_s, event.late_s, overrun, ready.last_input)
        self._executed.setdefault(key, []).append(executed)
        freed, step_done = self._dataflow.finish(ready)
        if freed:
            self._ledger.release(MESSAGES, sum([each.payload.nbytes for each in freed]))
        if op.kind is _LM_HEAD:
            instructions: list[Instruction] = [Tell(self._token(key, int(result[0]), time.end_s, event.wall_s))]
        else:
            instructions = self._send(op, key, first.position, first.rows, result, time.end_s)
        if step_done:
            instructions.append(Tell(self._report(key)))
        return instructions

    def _transferred(self, running: _RunningTransfer) -> list[Instruction]:
        self._running = None
        self._handled.append(HandledTransfer(self._index, running.transfer.sends, running.time))
        return running.transfer.then(running.time.end_s)

    def take_handled(self) -> list[HandledTransfer]:
        """The transfers that have kept the device busy since the last call."""
        taken, self._handled = self._handled, []
        return taken

    # -- results --------------------------------------------------------------------------------------------------

    def _send(
        self, op: Op, key: StepKey, position: int, rows: int, payload: NDArray[Any], departure_s: float
    ) -> list[Instruction]:
        """One result to all that need it. Their messages leave in the order of `op.to`, through one interface."""
        slot, epoch, targets = op.emits, self._dataflow.epoch, op.to
        if self._index in targets:
            self._ledger.charge_step(key, MESSAGES, payload.nbytes)
            self._deliver(epoch, key, slot, Input(departure_s, position, payload, 0, rows))
            targets = tuple([target for target in targets if target != self._index])
        if not targets:
            return []
        if self._pacer.paced:
            for target in targets:
                self.sent_bytes[target] += data_bytes(payload)
        kind, layer, part = slot.kind, slot.layer, slot.part
        instants = departure_s, departure_s
        message = Data(kind, layer, self._index, *key, epoch, position, *instants, payload, rows, part)
        return [Send(message, targets)]

    def _token(self, key: StepKey, token: int, sampled_s: float, wall_s: float) -> Token:
        kept = self._executor.last_logits
        return Token(self._name, *key, token, sampled_s, wall_s, b"" if kept is None else kept.tobytes())

    def _report(self, key: StepKey, *, given_up: bool = False) -> Report:
        """Report on a step. Times of messages for one that is given up are in the next report."""
        return Report(
            self._name,
            *key,
            self._dataflow.epoch,
            self._executed.pop(key, []),
            self._ledger.used_bytes,
            self._ledger.peak_bytes,
            transits=[] if given_up else self.transits.take(),
            held=self._ledger.page(),
            traffic=self._traffic.take((key.sequence, key.step)),
            replica_traffic=self.take_replica_traffic(),
            grown_bytes=self._ledger.take_growth(key),
        )
