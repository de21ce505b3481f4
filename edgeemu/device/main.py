"""The device's process: receives, holds, computes, paces, sends. The only place below the controller with a clock.

One thread. A message is held until its emulated arrival, an operation until all its inputs are there; its real kernel
runs, and the process sleeps until the operation's end on the timeline has come. Where and when are decided by
`Dataflow` and `timeline`; this file only waits and moves bytes.
"""

import os
import resource
import select
import time
from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from edgeemu import control, wire
from edgeemu.blocks import MESSAGE_HEADER_BYTES, Kind
from edgeemu.cluster import Compute as Speed
from edgeemu.cluster import memory_left_bytes
from edgeemu.device.compute import Compute, OpenSequence, ProtocolError
from edgeemu.device.dataflow import Dataflow, Input, ReadyOp, StepKey
from edgeemu.device.moving import Receiving, block_of, by_target, outgoing
from edgeemu.device.urgency import Urgency
from edgeemu.errors import EdgeemuError
from edgeemu.links.stamped import SharedPipes, StampedLinks
from edgeemu.memory import INCOMING, MESSAGES, Ledger, OutOfMemoryError
from edgeemu.network import Transits
from edgeemu.opcosts import op_s
from edgeemu.program import Op, Slot, Stage
from edgeemu.timeline import DrawKey, Occupation, ReadyQueue, Waiting, WallClock, occupy
from edgeemu.variation import share_at, steered
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.sampling import Sampling
from edgeemu_kernels.weights import open_source

UNPACED_CHUNKS = 100  # that a device sends before it looks what has come


def run_device(spec_bytes: bytes) -> None:
    """Entry of the forked process; returns when the controller says stop."""
    spec = msgspec.msgpack.decode(spec_bytes, type=control.DeviceSpec)
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

    def __init__(self, spec: control.DeviceSpec) -> None:
        self.spec = spec
        self._urgency = Urgency()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._context.socket(zmq.DEALER)
        self._control.setsockopt(zmq.IDENTITY, str(spec.index).encode())
        self._control.setsockopt(zmq.LINGER, 2000)  # the last word must get out
        self._control.connect(spec.control)
        self._data = self._context.socket(zmq.PULL)
        self._urgency.lift_carriers()
        self._data.bind(spec.address)
        pipes = SharedPipes(spec.pipes_fd, spec.n_pipes)
        self._links = StampedLinks(self._context, spec.seed, pipes)
        self._ledger = Ledger(spec.name, spec.memory_bytes)
        self._dataflow = Dataflow()
        self._compute: Compute | None = None
        self._clock: WallClock | None = None  # None: not paced
        self._free_s = 0.0
        self._availability = spec.availability
        self._memory_availability = spec.memory_availability
        self._transits = Transits()
        self._sent_bytes: Counter[int] = Counter()  # by receiver
        self._held: list[tuple[float, int, wire.Data | control.Start]] = []
        self._shipping: list[tuple[float, int, int, int, Iterator[wire.ParcelChunk]]] = []  # due, …, target, chunks
        self._receiving: Receiving | None = None
        self._aborted_epoch = -1
        self._ready: ReadyQueue[ReadyOp] = ReadyQueue()
        self._records: dict[StepKey, list[control.OpRecord]] = {}
        self._order = count()
        self._running = True
        self._speed: Speed | None = None
        if spec.flops_per_s is not None and spec.mem_bytes_per_s is not None:
            self._speed = Speed(spec.flops_per_s, spec.mem_bytes_per_s, spec.overhead_s)

    def serve(self) -> None:
        """Until `Stop`, or a failure that is reported before it ends."""
        self._tell(control.Hello(self.spec.name, resident_bytes(), self._urgency.described))
        try:
            while self._running:
                self._receive()
                self._release_held()
                self._ship_until(self._now_s())
                if self._ready:
                    self._execute(self._ready.pop()[1])
                elif self._running:
                    self._wait()
        except OutOfMemoryError as error:
            self._tell(control.Failure(self.spec.name, "out of memory", str(error)))
        except MemoryError as error:  # of a limit on the process, where there are no groups
            held = ", ".join(f"{name} {size:,} B" for name, size in self._ledger.page().items()) or "nothing"
            why = f"the system gives it no more memory ({error}); its ledger holds {held}"
            self._tell(control.Failure(self.spec.name, "out of memory", why))
        except ModelFileError as error:
            self._tell(control.Failure(self.spec.name, "model file", str(error)))
        except EdgeemuError as error:
            self._tell(control.Failure(self.spec.name, "protocol", str(error)))

    def close(self) -> None:
        self._links.close()
        self._data.close(linger=0)
        self._control.close()
        self._context.term()

    # -- receiving ----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until something comes or the next held message is due; select(2) counts microseconds, poll(2) does not."""
        if any(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN for socket in (self._control, self._data)):
            return  # what was sent since the last look may have used up the edge that announced it (zmq_getsockopt(3))
        if self._shipping and self._clock is None:
            return
        timeout_s = None
        if (self._held or self._shipping) and self._clock is not None:
            due_s = min(queue[0][0] for queue in (self._held, self._shipping) if queue)
            timeout_s = max(0.0, self._clock.wall_s(due_s) - time.monotonic())
        if self._clock is not None:
            self._urgency.urge()
        select.select([self._control.FD, self._data.FD], [], [], timeout_s)

    def _receive(self) -> None:
        """All that has come. Both sockets are read until they are empty: their descriptors signal edges only."""
        while True:
            try:
                self._handle(control.decode_for_device(self._control.recv(zmq.NOBLOCK)))
            except zmq.Again:
                break
        while True:
            try:
                frames = self._data.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            message = wire.decode_frames(frames)
            if isinstance(message, wire.ParcelChunk):
                self._transits.passed(message.header.source, self.spec.index, 0.0, message.header.arrival_s)
                self._take_chunk(message)  # not held: nothing waits for it here, and its arrival is told with it
                continue
            self._ledger.charge(MESSAGES, message.payload.nbytes)
            if self._clock is not None:
                size_bytes = wire.data_bytes(message.payload)
                way = message.source, self.spec.index
                self._transits.add(*way, size_bytes, message.departure_s, message.arrival_s)
            self._hold(message.arrival_s, message)

    def _handle(self, request: control.ToDevice) -> None:
        if not isinstance(request, control.Start):
            self._urgency.relax()
        match request:
            case control.Assign():
                self._assign(request)
            case control.Begin():
                self._begin(request)
            case control.Open():
                sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
                opened = OpenSequence(sampling, request.keep_logits)
                self._loaded().open(request.sequence, request.prompt_tokens, request.total_tokens, opened)
                self._tell(control.Opened(self.spec.name, request.sequence, self._ledger.page()))
            case control.Close():
                self._loaded().close(request.sequence)
                self._dataflow.forget(request.sequence)
            case control.Start():
                self._hold(request.at_s, request)
            case control.Prepare():
                self._prepare(request)
            case control.Ship():
                self._ship(request)
            case control.Expect():
                self._tell_arrived(request.number, self._migrating().expect(request, self._loaded()))
            case control.Commit():
                self._commit(request)
            case control.Abort():
                self._abort(request)
            case control.Change():
                self._change(request)
            case control.Status():
                self._tell_state(request.at_s)
            case control.ForgetPeak():
                self._ledger.forget_peak()
                self._done("ForgetPeak")
            case control.Stop():
                page, peak_bytes = self._ledger.page(), self._ledger.peak_bytes
                sent = dict(self._sent_bytes)
                self._tell(control.Bye(self.spec.name, peak_resident_bytes(), page, peak_bytes, sent))
                self._running = False

    def _assign(self, request: control.Assign) -> None:
        ops = [control.op_from_spec(spec) for spec in request.ops]
        self._ledger = Ledger(self.spec.name, self.spec.memory_bytes)
        self._links.connect(request.paths)
        self._compute = Compute(open_source(request.source), self._ledger)
        self._compute.load(ops)
        self._dataflow.install(request.epoch, ops)
        self._done("Assign")

    def _begin(self, request: control.Begin) -> None:
        self._clock = WallClock(request.start_s, request.dilation) if request.paced else None
        self._free_s = 0.0
        self._availability, self._memory_availability = self.spec.availability, self.spec.memory_availability
        self._links.reset()
        self._transits = Transits()
        self._sent_bytes.clear()
        self._done("Begin")

    def _change(self, request: control.Change) -> None:
        """An event. What is held stays and grows, however little memory is left; what would come is refused."""
        if request.speed is not None:
            self._availability = steered(self._availability, request.at_s, request.speed)
        if request.memory_bytes is not None:
            share = request.memory_bytes / self.spec.memory_bytes
            self._memory_availability = steered(self._memory_availability, request.at_s, share)
        self._links.connect(request.paths)
        self._done("Change")

    # -- holding ------------------------------------------------------------------------------------------------

    def _hold(self, due_s: float, message: wire.Data | control.Start) -> None:
        heappush(self._held, (due_s, next(self._order), message))

    def _now_s(self) -> float:
        """Now on the timeline; without pacing everything is due."""
        return self._clock.emulated_s(time.monotonic()) if self._clock is not None else float("inf")

    def _release_held(self) -> None:
        """Delivers what has arrived on the timeline; without pacing, all."""
        now_s = self._now_s()
        while self._held and self._held[0][0] <= now_s:
            message = heappop(self._held)[-1]
            if isinstance(message, control.Start):
                self._start(message)
            else:
                key = StepKey(message.sequence, message.step)
                slot = Slot(message.stage, message.layer, message.source, message.part)
                arrived = Input(message.arrival_s, message.position, message.payload, rows=message.step_rows)
                self._deliver(message.epoch, key, slot, arrived)

    def _start(self, request: control.Start) -> None:
        """A prompt enters at the embedding; a token leaves for the embedding from where it was sampled."""
        key = StepKey(request.sequence, request.step)
        ids = np.asarray(request.ids, dtype=np.int64)  # [t]
        if request.step == 0:
            self._ledger.charge(MESSAGES, ids.nbytes)
            self._deliver(
                request.epoch, key, Slot(Stage.PROMPT, 0, -1), Input(request.at_s, request.position, ids, rows=len(ids))
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
        when = self._book(op, ready.ready_s, rows, position)
        if when is not None:
            self._ship_until(when.end_s)  # what leaves while the kernel runs; the interface does not wait for it
        self._urgency.relax()
        cpu_before_s = time.thread_time()
        result = self._loaded().run(op, key.sequence, key.step, position, payloads)
        cpu_s = time.thread_time() - cpu_before_s
        when = when or self._book_measured(op, ready.ready_s, cpu_s)
        late_s, overrun = self._sleep_until(when.end_s)
        overrun &= op.computes  # what takes no time on the timeline cannot keep to it
        record = control.OpRecord(op.index, rows, when.ready_s, when.start_s, when.end_s, cpu_s, late_s, overrun)
        self._records.setdefault(key, []).append(record)
        freed, step_done = self._dataflow.finish(ready)
        self._ledger.release(MESSAGES, sum(i.payload.nbytes for i in freed))
        if op.kind is Kind.LM_HEAD:
            self._tell_token(key, int(result[0]), when.end_s)
        else:
            self._send(op, key, position, rows, result, when.end_s)
        if step_done:
            self._report(key)

    def _book(self, op: Op, ready_s: float, rows: int, past: int) -> Occupation | None:
        """The operation's time, where it is known before it runs."""
        if self._clock is None or self._speed is None:
            return None
        return self._occupy(ready_s, op_s(self._speed, op, rows, past, self._loaded().costs))

    def _book_measured(self, op: Op, ready_s: float, cpu_s: float) -> Occupation:
        """The time of an operation on a device relative to the host; unpaced, the controller keeps the timeline."""
        if self._clock is None:
            return Occupation(0.0, 0.0, 0.0)
        assert self.spec.host_fraction is not None
        when = self._occupy(
            ready_s, cpu_s / self.spec.host_fraction + (self.spec.overhead_s if op.starts_kernel else 0.0)
        )
        self._ship_until(when.end_s)
        return when

    def _occupy(self, ready_s: float, duration_s: float) -> Occupation:
        when = occupy(self._free_s, ready_s, duration_s, self._availability)
        self._free_s = when.end_s
        return when

    def _sleep_until(self, end_s: float) -> tuple[float, bool]:
        """Until an instant of the timeline. Returns how late it has become, and whether it was so before the sleep."""
        if self._clock is None:
            return 0.0, False
        self._urgency.urge()
        remaining_s = self._clock.wall_s(end_s) - time.monotonic()
        if remaining_s > 0:
            time.sleep(remaining_s)
        return (time.monotonic() - self._clock.wall_s(end_s)) / self._clock.dilation, remaining_s < 0

    def _send(self, op: Op, key: StepKey, position: int, rows: int, payload: NDArray[Any], departure_s: float) -> None:
        """One result to all that need it. Their messages leave in the order of `op.to`, through the same interface."""
        slot, epoch = op.emits, self._dataflow.epoch
        for target in op.to:
            if target == self.spec.index:
                self._ledger.charge(MESSAGES, payload.nbytes)
                self._deliver(epoch, key, slot, Input(departure_s, position, payload, rows=rows))
                continue
            arrival_s = departure_s
            if self._clock is not None:
                draw = DrawKey(self.spec.index, target, *key, slot.stage, slot.place)
                size_bytes = wire.data_bytes(payload)
                arrival_s = self._links.arrival_s(draw, size_bytes, departure_s)
                self._sent_bytes[target] += size_bytes
            message = wire.Data(
                slot.stage,
                slot.layer,
                self.spec.index,
                *key,
                epoch,
                position,
                departure_s,
                arrival_s,
                payload,
                rows,
                slot.part,
            )
            self._links.send(wire.encode_data(message), target)

    # -- migrating ----------------------------------------------------------------------------------------------

    def _prepare(self, request: control.Prepare) -> None:
        """Reserves memory for what is to come, or says why not. The routes stay as they are."""
        refusal = ""
        try:
            left_bytes = self._memory_left_bytes(request.at_s)
            self._ledger.charge(INCOMING, request.reserve_bytes, left_bytes, request.growth_bytes)
        except OutOfMemoryError as error:
            refusal = str(error)
        else:
            self._receiving = Receiving(request.epoch, [block_of(incoming) for incoming in request.incoming])
        self._tell(control.Prepared(self.spec.name, request.epoch, refusal))

    def _ship(self, request: control.Ship) -> None:
        self._links.connect(request.paths)
        for target, specs in by_target(request):
            chunks = outgoing(request, specs, self.spec.index, self._loaded())
            heappush(self._shipping, (request.at_s, next(self._order), 0, target, chunks))

    def _ship_until(self, now_s: float) -> None:
        """Sends the chunks that are due. The next of a connection is due when the link has taken the one before.

        Without pacing all are due, and two devices that only sent would wait for each other's queues for ever.
        """
        sent = 0
        while self._shipping and self._shipping[0][0] <= now_s and (self._clock is not None or sent < UNPACED_CHUNKS):
            sent += 1
            due_s, _, number, target, chunks = heappop(self._shipping)
            chunk = next(chunks, None)
            if chunk is None:
                continue
            next_due_s = due_s
            if self._clock is not None:
                header = chunk.header
                draw = DrawKey(self.spec.index, target, header.epoch, header.number, Stage.PARCEL, number)
                size_bytes = MESSAGE_HEADER_BYTES + len(chunk.payload)
                arrival_s = self._links.arrival_s(draw, size_bytes, due_s)
                self._sent_bytes[target] += size_bytes
                next_due_s = max(due_s, arrival_s - self._links.delay_s(target, due_s))
                chunk = wire.ParcelChunk(msgspec.structs.replace(header, arrival_s=arrival_s), chunk.payload)
            self._links.send(wire.encode_chunk(chunk), target)
            heappush(self._shipping, (next_due_s, next(self._order), number + 1, target, chunks))

    def _commit(self, request: control.Commit) -> None:
        """Takes in what has come, lets go of what has left, and switches the routes."""
        arriving = self._receiving.collect(self._loaded()) if self._receiving is not None else {}
        self._receiving = None
        self._ledger.release(INCOMING)
        ops = [control.op_from_spec(spec) for spec in request.ops]
        leaving = [block_of(incoming) for incoming in request.leaving]
        self._links.connect(request.paths)
        self._loaded().exchange(ops, leaving, arriving)
        self._dataflow.install(request.epoch, ops)
        self._done("Commit")

    def _abort(self, request: control.Abort) -> None:
        """Forgets a migration. Parcels of it that are still on their way are dropped when they come."""
        self._aborted_epoch = request.epoch
        self._receiving = None
        self._shipping.clear()
        self._ledger.release(INCOMING)
        self._done("Abort")

    def _take_chunk(self, chunk: wire.ParcelChunk) -> None:
        if chunk.header.epoch > self._aborted_epoch:
            self._tell_arrived(chunk.header.number, self._migrating().add(chunk))

    def _migrating(self) -> Receiving:
        if self._receiving is None:
            raise ProtocolError(f"{self.spec.name} was not told of a migration")
        return self._receiving

    def _tell_arrived(self, number: int, at_s: float | None) -> None:
        """A round is complete, if it is."""
        if at_s is not None:
            epoch = self._migrating().epoch
            self._tell(control.Arrived(self.spec.name, self.spec.index, epoch, number, at_s))

    # -- telling ------------------------------------------------------------------------------------------------

    def _tell(self, message: control.FromDevice) -> None:
        self._control.send(control.encode(message))

    def _done(self, request: str) -> None:
        self._tell(control.Ready(self.spec.name, request, self._ledger.page()))

    def _tell_token(self, key: StepKey, token: int, sampled_s: float) -> None:
        kept = self._loaded().last_logits
        logits = b"" if kept is None else kept.tobytes()
        self._tell(control.Token(self.spec.name, *key, token, sampled_s, time.monotonic(), logits))

    def _tell_state(self, at_s: float) -> None:
        availability = share_at(self._availability, at_s)
        memory_bytes = self._memory_left_bytes(at_s)
        self._tell(control.State(self.spec.name, availability, memory_bytes, self._ledger.used_bytes))

    def _memory_left_bytes(self, at_s: float) -> int:
        """What other work leaves of the memory at an instant."""
        return memory_left_bytes(self.spec.memory_bytes, self._memory_availability, at_s)

    def _report(self, key: StepKey) -> None:
        ledger = self._ledger
        transits = [control.TransitRecord(t.source, t.size_bytes, t.messages, t.sum_s) for t in self._transits.take()]
        self._tell(
            control.Report(
                self.spec.name,
                *key,
                self._dataflow.epoch,
                self._records.pop(key),
                ledger.used_bytes,
                ledger.peak_bytes,
                self._links.reordered,
                transits,
                ledger.page(),
            )
        )

    def _loaded(self) -> Compute:
        if self._compute is None:
            raise EdgeemuError(f"{self.spec.name} has no blocks yet")
        return self._compute
