"""The device's process: receives, holds, computes, paces, sends.

One thread. A message is held until its emulated arrival, an operation until all its inputs are there; its real kernel
runs, and the process sleeps until the operation's end on the timeline has come. Where and when are decided by
`Dataflow` and `Pacer`; this file only waits and moves bytes.
"""

import os
import resource
import select
import time
from collections import Counter
from heapq import heappop, heappush
from itertools import count
from typing import Any

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from edgeemu.cluster.devices import memory_left_bytes
from edgeemu.cluster.variation import steered
from edgeemu.device import codec, protocol_in, protocol_out
from edgeemu.device.dataflow import Dataflow, Input, ReadyOp, StepKey
from edgeemu.device.executor import Executor, SequenceState
from edgeemu.device.link_probe import LinkProbe, probe_message
from edgeemu.device.make_links import make_links
from edgeemu.device.migration import DeviceMigration
from edgeemu.device.pacing import Pacer
from edgeemu.errors import EdgeemuError
from edgeemu.host.namespaces import own_network_namespace
from edgeemu.host.realtime import RealtimePriority
from edgeemu.links import messages
from edgeemu.links.interface import LinkLostError
from edgeemu.placement.blocks import Kind
from edgeemu.placement.ledger import MESSAGES, Ledger, OutOfMemoryError
from edgeemu.placement.operation_costs import op_s
from edgeemu.placement.program import MessageKind, Op, Slot
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.network import Transits
from edgeemu.timeline.ready_queue import ReadyQueue, Waiting
from edgeemu.timeline.steps import OperationRecord, Step
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.sampling import Sampling
from edgeemu_kernels.weights.sources import open_source

RETRY_S = 1e-3  # until parcels are offered again to a receiver that had no room for them


def run_device(spec_bytes: bytes) -> None:
    """Entry of the forked process; returns when the controller says stop."""
    spec = msgspec.msgpack.decode(spec_bytes, type=protocol_in.DeviceConfig)
    if spec.links != "stamped":
        own_network_namespace()
    device = DeviceProcess(spec)
    try:
        device.serve()
    finally:
        device.close()


def resident_bytes() -> int:
    """What the process holds in memory now (proc(5), statm)."""
    with open("/proc/self/statm") as statm:  # noqa: PTH123  # pathlib would be the only use of it in a device
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class DeviceProcess:
    """State of one device, and the loop over what comes to it."""

    def __init__(self, spec: protocol_in.DeviceConfig) -> None:
        self.spec = spec
        self._urgency = RealtimePriority()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._context.socket(zmq.DEALER)
        self._control.setsockopt(zmq.IDENTITY, str(spec.index).encode())
        self._control.setsockopt(zmq.LINGER, 2000)  # the last word must get out
        self._control.connect(spec.control)
        self._links = make_links(spec, self._context)
        self._urgency.lift_carriers()
        self._ledger = Ledger(spec.name, spec.memory_bytes)
        self._dataflow = Dataflow()
        self._compute: Executor | None = None
        self._pacer = Pacer(spec, self._urgency)
        self._memory_availability = spec.memory_availability
        self._transits = Transits()
        self._sent_bytes: Counter[int] = Counter()  # by receiver
        self._held: list[tuple[float, int, messages.Data | protocol_in.Start]] = []
        self._migration: DeviceMigration | None = None
        self._probing = LinkProbe(spec.name)
        self._stuck = False  # parcels are due, and their receivers too far behind to take them
        self._ready: ReadyQueue[ReadyOp] = ReadyQueue()
        self._records: dict[StepKey, list[OperationRecord]] = {}
        self._order = count()
        self._running = True

    def serve(self) -> None:
        """Until `Stop`, or a failure that is reported before it ends."""
        self._tell(protocol_out.Hello(self.spec.name, resident_bytes(), self._urgency.described))
        try:
            while self._running:
                self._receive()
                self._release_held()
                self._ship_until(self._pacer.now_s())
                if self._ready:
                    self._execute(self._ready.pop()[1])
                elif self._running:
                    self._wait()
        except OutOfMemoryError as error:
            self._tell(protocol_out.Failure(self.spec.name, "out of memory", str(error)))
        except MemoryError as error:  # of a limit on the process, where there are no groups
            held = ", ".join(f"{name} {size:,} B" for name, size in self._ledger.page().items()) or "nothing"
            why = f"the system gives it no more memory ({error}); its ledger holds {held}"
            self._tell(protocol_out.Failure(self.spec.name, "out of memory", why))
        except ModelFileError as error:
            self._tell(protocol_out.Failure(self.spec.name, "model file", str(error)))
        except LinkLostError as error:
            self._tell(protocol_out.Failure(self.spec.name, "link", str(error)))
        except EdgeemuError as error:
            self._tell(protocol_out.Failure(self.spec.name, "protocol", str(error)))

    def close(self) -> None:
        self._links.close()
        self._control.close()
        self._context.term()

    # -- receiving ----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until something comes or the next held message is due; select(2) counts microseconds, poll(2) does not."""
        if self._links.waiting or int(self._control.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return  # what was sent since the last look may have used up the edge that announced it (zmq_getsockopt(3))
        waits_s = []
        if self._held and self._pacer.clock is not None:
            waits_s.append(self._pacer.until_s(self._held[0][0]))
        if self._stuck:
            waits_s.append(RETRY_S)
        elif self._migration is not None and self._migration.due_s is not None:
            waits_s.append(self._pacer.until_s(self._migration.due_s))
        if self._pacer.clock is not None:
            self._urgency.urge()
        select.select([int(self._control.FD), self._links.fileno()], [], [], min(waits_s, default=None))

    def _receive(self) -> None:
        """All that has come. Both sockets are read until they are empty: their descriptors signal edges only."""
        while True:
            try:
                self._handle(codec.decode_for_device(self._control.recv(zmq.NOBLOCK)))
            except zmq.Again:
                break
        for message in self._links.receive():
            if isinstance(message, messages.ShipmentChunk):
                self._transits.passed(message.header.shipment.source, self.spec.index, 0.0, message.header.arrival_s)
                # Not held: nothing waits for it here, and its arrival is told with it.
                self._migrating().take_chunk(message)
                continue
            if message.stage is MessageKind.PROBE:
                self._hold(message.arrival_s, message)
                continue
            self._ledger.charge(MESSAGES, message.payload.nbytes)
            if self._pacer.clock is not None:
                size_bytes = messages.data_bytes(message.payload)
                way = message.source, self.spec.index
                self._transits.add(*way, size_bytes, message.departure_s, message.arrival_s)
            self._hold(message.arrival_s, message)

    def _handle(self, request: protocol_in.ToDevice) -> None:
        if not isinstance(request, protocol_in.Start):
            self._urgency.relax()
        match request:
            case protocol_in.Assign():
                self._assign(request)
            case protocol_in.Begin():
                self._begin(request)
            case protocol_in.Open():
                sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
                opened = SequenceState(sampling, request.keep_logits)
                self._loaded().open(request.sequence, request.prompt_tokens, request.total_tokens, opened)
                self._tell(protocol_out.Opened(self.spec.name, request.sequence, self._ledger.page()))
            case protocol_in.Close():
                self._loaded().close(request.sequence)
                self._dataflow.forget(request.sequence)
            case protocol_in.Start():
                self._hold(request.at_s, request)
            case protocol_in.Prepare():
                self._migrating().prepare(request, self._memory_left_bytes(request.at_s))
            case protocol_in.Ship():
                self._migrating().ship(request)
            case protocol_in.Expect():
                self._migrating().expect(request)
            case protocol_in.Commit():
                self._commit(request)
            case protocol_in.Abort():
                self._migrating().abort(request)
                self._done("Abort")
            case protocol_in.ChangeDevice():
                self._change(request)
            case protocol_in.Probe():
                self._links.connect([request.peer])
                for step in range(request.messages):
                    now_s = self._pacer.now_s()
                    self._links.send(probe_message(request, self.spec.index, step, now_s), request.peer.device)
            case protocol_in.Status():
                self._tell_state(request.at_s)
            case protocol_in.ForgetPeak():
                self._ledger.forget_peak()
                self._done("ForgetPeak")
            case protocol_in.Stop():
                page, peak_bytes = self._ledger.page(), self._ledger.peak_bytes
                sent = dict(self._sent_bytes)
                self._tell(protocol_out.Bye(self.spec.name, peak_resident_bytes(), page, peak_bytes, sent))
                self._running = False

    def _assign(self, request: protocol_in.Assign) -> None:
        self._ledger = Ledger(self.spec.name, self.spec.memory_bytes)
        self._links.connect(request.peers)
        self._compute = Executor(open_source(request.source), self._ledger)
        self._compute.load(request.ops)
        aborted_epoch = self._migration.aborted_epoch if self._migration is not None else -1
        self._migration = DeviceMigration(
            self.spec, self._ledger, self._compute, self._links, self._tell, aborted_epoch, self._sent_bytes
        )
        self._dataflow.install(request.epoch, request.ops)
        self._done("Assign")

    def _begin(self, request: protocol_in.Begin) -> None:
        self._pacer.begin(WallClock(request.start_s, request.dilation) if request.paced else None)
        self._memory_availability = self.spec.memory_availability
        self._links.begin(self._pacer.clock)
        self._transits = Transits()
        self._sent_bytes.clear()
        self._done("Begin")

    def _change(self, request: protocol_in.ChangeDevice) -> None:
        """An event. What is held stays and grows, however little memory is left; what would come is refused."""
        if request.speed is not None:
            self._pacer.steer(request.at_s, request.speed)
        if request.memory_bytes is not None:
            share = request.memory_bytes / self.spec.memory_bytes
            self._memory_availability = steered(self._memory_availability, request.at_s, share)
        self._links.connect(request.peers)
        self._done("Change")

    # -- holding ------------------------------------------------------------------------------------------------

    def _hold(self, due_s: float, message: messages.Data | protocol_in.Start) -> None:
        heappush(self._held, (due_s, next(self._order), message))

    def _release_held(self) -> None:
        """Delivers what has arrived on the timeline; without pacing, all."""
        now_s = self._pacer.now_s()
        while self._held and self._held[0][0] <= now_s:
            message = heappop(self._held)[-1]
            if isinstance(message, protocol_in.Start):
                self._start(message)
            elif message.stage is MessageKind.PROBE:
                if probed := self._probing.take(message, now_s):
                    self._tell(probed)
            else:
                key = StepKey(message.sequence, message.step)
                slot = Slot(message.stage, message.layer, message.source, message.part)
                arrived = Input(message.arrival_s, message.position, message.payload, rows=message.step_rows)
                self._deliver(message.epoch, key, slot, arrived)

    def _start(self, request: protocol_in.Start) -> None:
        """A prompt enters at the embedding; a token leaves for the embedding from where it was sampled."""
        key = StepKey(request.sequence, request.step)
        ids = np.asarray(request.ids, dtype=np.int64)  # [t]
        if request.step == 0:
            self._ledger.charge(MESSAGES, ids.nbytes)
            self._deliver(
                request.epoch,
                key,
                Slot(MessageKind.PROMPT, 0, -1),
                Input(request.at_s, request.position, ids, rows=len(ids)),
            )
            return
        self._dataflow.check_epoch(request.epoch)
        self._send(self._dataflow.only(Kind.LM_HEAD), key, request.position, len(ids), ids, request.at_s)

    def _deliver(self, epoch: int, key: StepKey, slot: Slot, arrived: Input) -> None:
        for ready in self._dataflow.deliver(epoch, key, slot, arrived):
            self._ready.push(Waiting(ready.ready_s, key.sequence, key.step, ready.op.index), ready)

    # -- computing ----------------------------------------------------------------------------------------------

    def _execute(self, ready: ReadyOp) -> None:
        op, key, position, rows = ready.op, ready.key, ready.inputs[0].position, ready.inputs[0].rows
        payloads = [i.payload for i in ready.inputs]
        when = self._pacer.book(ready.ready_s, lambda speed: op_s(speed, op, rows, position, self._loaded().costs))
        if when is not None:
            self._ship_until(when.end_s)  # what leaves while the kernel runs; the interface does not wait for it
        self._urgency.relax()
        cpu_before_s = time.thread_time()
        result = self._loaded().run(op, key.sequence, key.step, position, payloads)
        cpu_s = time.thread_time() - cpu_before_s
        if when is None:
            when = self._pacer.book_measured(ready.ready_s, cpu_s, starts_kernel=op.starts_kernel)
            self._ship_until(when.end_s)
        late_s, overrun = self._pacer.sleep_until(when.end_s)
        overrun &= op.computes  # what takes no time on the timeline cannot keep to it
        record = OperationRecord(op, Step(*key, rows, position), when, cpu_s, late_s, overrun)
        self._records.setdefault(key, []).append(record)
        freed, step_done = self._dataflow.finish(ready)
        self._ledger.release(MESSAGES, sum(i.payload.nbytes for i in freed))
        if op.kind is Kind.LM_HEAD:
            self._tell_token(key, int(result[0]), when.end_s)
        else:
            self._send(op, key, position, rows, result, when.end_s)
        if step_done:
            self._report(key)

    def _send(self, op: Op, key: StepKey, position: int, rows: int, payload: NDArray[Any], departure_s: float) -> None:
        """One result to all that need it. Their messages leave in the order of `op.to`, through the same interface."""
        slot, epoch = op.emits, self._dataflow.epoch
        for target in op.to:
            if target == self.spec.index:
                self._ledger.charge(MESSAGES, payload.nbytes)
                self._deliver(epoch, key, slot, Input(departure_s, position, payload, rows=rows))
                continue
            if self._pacer.clock is not None:
                self._sent_bytes[target] += messages.data_bytes(payload)
            message = messages.Data(
                slot.stage,
                slot.layer,
                self.spec.index,
                *key,
                epoch,
                position,
                departure_s,
                departure_s,
                payload,
                rows,
                slot.part,
            )
            self._links.send(message, target)

    # -- migrating ----------------------------------------------------------------------------------------------

    def _commit(self, request: protocol_in.Commit) -> None:
        """Takes in what has come, lets go of what has left, and switches the routes."""
        arriving = self._migrating().collect()
        self._links.connect(request.peers)
        self._loaded().exchange(request.ops, request.leaving, arriving)
        self._dataflow.install(request.epoch, request.ops)
        self._done("Commit")

    def _ship_until(self, now_s: float) -> None:
        """Parcels that are due by an instant."""
        if self._migration is not None:
            self._stuck = not self._migration.ship_until(now_s)

    def _migrating(self) -> DeviceMigration:
        if self._migration is None:
            raise EdgeemuError(f"{self.spec.name} has no blocks yet")
        return self._migration

    # -- telling ------------------------------------------------------------------------------------------------

    def _tell(self, message: protocol_out.FromDevice) -> None:
        self._control.send(codec.encode(message))

    def _done(self, request: str) -> None:
        self._tell(protocol_out.Ready(self.spec.name, request, self._ledger.page()))

    def _tell_token(self, key: StepKey, token: int, sampled_s: float) -> None:
        kept = self._loaded().last_logits
        logits = b"" if kept is None else kept.tobytes()
        self._tell(protocol_out.Token(self.spec.name, *key, token, sampled_s, time.monotonic(), logits))

    def _tell_state(self, at_s: float) -> None:
        availability = self._pacer.availability_at(at_s)
        memory_bytes = self._memory_left_bytes(at_s)
        self._tell(protocol_out.DeviceStatus(self.spec.name, availability, memory_bytes, self._ledger.used_bytes))

    def _memory_left_bytes(self, at_s: float) -> int:
        """What other work leaves of the memory at an instant."""
        return memory_left_bytes(self.spec.memory_bytes, self._memory_availability, at_s)

    def _report(self, key: StepKey) -> None:
        ledger = self._ledger
        self._tell(
            protocol_out.Report(
                self.spec.name,
                *key,
                self._dataflow.epoch,
                self._records.pop(key),
                ledger.used_bytes,
                ledger.peak_bytes,
                self._links.reordered,
                self._transits.take(),
                ledger.page(),
            )
        )

    def _loaded(self) -> Executor:
        if self._compute is None:
            raise EdgeemuError(f"{self.spec.name} has no blocks yet")
        return self._compute
