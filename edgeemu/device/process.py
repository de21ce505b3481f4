"""The process of an emulated device: sockets, the clock, sleeping and real-time priority. One thread.

It hands events to `EmulatedDevice`, which decides, and carries out the instructions that it returns.
"""

import importlib
import math
import os
import resource
import time
from contextlib import suppress

import msgspec

from edgeemu.device import codec
from edgeemu.device.device import EmulatedDevice
from edgeemu.device.instructions import (
    BeginTimeline,
    ChunkSent,
    Connect,
    Event,
    Instruction,
    Leave,
    OperationRan,
    RunOperation,
    Send,
    SendChunk,
    SendProbes,
    SleepUntil,
    Tell,
    Tick,
    Woke,
)
from edgeemu.device.link_probe import probe_messages
from edgeemu.device.make_links import make_links
from edgeemu.device.protocol_in import DeviceConfig, Probe, Start, ToDevice
from edgeemu.device.protocol_out import Failure, FromDevice, Hello, Report
from edgeemu.errors import EdgeemuError
from edgeemu.host.namespaces import join_network_namespace, own_network_namespace
from edgeemu.host.privileges import drop_capabilities
from edgeemu.host.realtime import RealtimePriority
from edgeemu.links.framing import framed
from edgeemu.links.interface import LinkLostError
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.placement.ledger import OutOfMemoryError
from edgeemu.timeline.clock import WallClock
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.precision import number_format
from edgeemu_kernels.sampling import LogitsError

RETRY_S = 1e-3  # between two offers of a chunk to a receiver that has no room for it
LAST_MESSAGE_S = 2.0  # for the last message to get out


def prepare_kernels(asked: bytes) -> None:
    """Import and compile what devices share that are forked then: JSON [modules, names of number formats]."""
    modules, formats = msgspec.json.decode(asked, type=tuple[list[str], list[str]])
    for module in modules:
        importlib.import_module(module)
    if formats:
        from edgeemu_kernels.codecs.machine_code import prepare  # loads a compiler: only where a format needs it

        prepare(map(number_format, formats))


def run_device(config_bytes: bytes) -> None:
    """Entry of the forked process; returns when the controller sends `Stop`."""
    config = msgspec.msgpack.decode(config_bytes, type=DeviceConfig)
    if config.namespace:
        join_network_namespace(config.namespace)
    elif config.links != "stamped":
        own_network_namespace()
    drop_capabilities(config.reads)  # before there are threads, and before a model file is read
    process = DeviceProcess(config)
    try:
        process.serve()
    finally:
        process.close()


def resident_bytes() -> int:
    """Memory that the process holds now (proc(5), statm)."""
    with open("/proc/self/statm") as statm:  # noqa: PTH123  # pathlib would be the only use of it in a device
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """Most memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class DeviceProcess:
    """The loop of one device: receive, tick, wait."""

    def __init__(self, config: DeviceConfig) -> None:
        self.device = EmulatedDevice(config)
        self.clock: WallClock | None = None  # None: nothing is paced
        self.priority = RealtimePriority()
        self._name, self._index = config.name, config.index
        self._controller, self._control = config.control, UnixSockets(config.requests)
        self._requests: list[list[bytes]] = []  # that came while a message to the controller waited for room
        self._links = make_links(config)
        self.priority.lift_carriers(time.sleep, with_zeromq=config.links != "stamped")
        self._descriptor = self._control.fileno()
        self._running = True

    def serve(self) -> None:
        """Event loop; returns on `Stop`, or after reporting a failure."""
        self.tell(Hello(self._name, resident_bytes(), self.priority.described))
        try:
            while self._running:
                goes_on = self.device.has_ready
                if self.clock is not None or not goes_on:  # else it goes on with what it has: nothing is late
                    self._receive(goes_on=goes_on)
                if self._running:
                    self._handle(Tick(self._now_s()))
        except OutOfMemoryError as error:
            self.tell(Failure(self._name, "out of memory", str(error)))
        except MemoryError as error:  # of a limit on the process, where there are no groups
            held = ", ".join(f"{name} {size:,} B" for name, size in self.device.ledger.page().items()) or "nothing"
            why = f"the system gives it no more memory ({error}); its ledger holds {held}"
            self.tell(Failure(self._name, "out of memory", why))
        except (ModelFileError, LogitsError) as error:
            self.tell(Failure(self._name, "model file", str(error)))
        except LinkLostError as error:
            self.tell(Failure(self._name, "link", str(error)))
        except EdgeemuError as error:
            self.tell(Failure(self._name, "protocol", str(error)))

    def close(self) -> None:
        """Waits until the last message to the controller has left.

        Connections to other devices end with the process: ZeroMQ aborts it if a receiver dies just when a socket is
        closed with a message of several frames half sent (libzmq issue 3442), and that would be taken for the cause.
        """
        self._control.flush(LAST_MESSAGE_S)
        self._control.close()

    # -- events ---------------------------------------------------------------------------------------------------

    def _receive(self, *, goes_on: bool) -> None:
        """Takes all that has arrived; waits for a message or the next instant that is due, unless a step `goes_on`."""
        wait_s = 0.0 if self._requests or goes_on else self._wait_s()
        if self._links.wait(self._descriptor, wait_s) or self._requests:
            requests, self._requests = self._requests + self._control.take(), []
            for _, frame in requests:
                self.request(codec.decode_for_device(frame))
        for message in self._links.receive():
            self._handle(message)

    def request(self, request: ToDevice) -> None:
        """Handles a message from the controller. Only `Start` is urgent."""
        if not isinstance(request, Start):
            self.priority.relax()
        self._handle(request)

    def _handle(self, event: Event) -> None:
        """Hands an event to the device and carries out the instructions, and those that follow from their outcomes."""
        todo = self.device.handle(event)
        todo.reverse()  # the next is the last
        while todo:
            outcome = self._carry_out(todo.pop())
            if outcome is not None:
                todo += self.device.handle(outcome)[::-1]

    # -- instructions ---------------------------------------------------------------------------------------------

    def _carry_out(self, instruction: Instruction) -> Event | None:
        match instruction:
            case Send():
                self.send(instruction)
            case RunOperation():
                return self.run(instruction)
            case SleepUntil():
                assert self.clock is not None, "only a paced device has instants to wait for"
                return self._sleep_until(self.clock, instruction.end_s)
            case Tell():
                self.tell(instruction.message)
            case SendChunk(chunk, number, target, departure_s):
                return ChunkSent(self._links.send_chunk(chunk, number, target, departure_s))
            case Connect():
                self._links.connect(instruction.peers)
            case BeginTimeline():
                self.clock = instruction.clock
                self._links.begin(instruction.clock)
            case SendProbes():
                self._send_probes(instruction.request)
            case Leave():
                self.tell(msgspec.structs.replace(instruction.message, resident_bytes=peak_resident_bytes()))
                self._running = False
        return None

    def run(self, instruction: RunOperation) -> OperationRan:
        """Runs a kernel without real-time priority, measures its thread time, and sleeps to its end if it is known."""
        self.priority.relax()
        cpu_before_s = time.thread_time()
        result = self.device.run(instruction.ready)
        cpu_s = time.thread_time() - cpu_before_s
        if self.clock is None:
            return OperationRan(result, cpu_s, Woke(0.0, False, time.monotonic()))
        end_s = instruction.end_s
        return OperationRan(result, cpu_s, None if end_s is None else self._sleep_until(self.clock, end_s))

    def send(self, instruction: Send) -> None:
        """Sends a message of a step to other devices."""
        for target in instruction.targets:
            self._links.send(instruction.message, target)

    def tell(self, message: FromDevice) -> None:
        """Sends a message to the controller. A report's `reordered` and `stalled_s` are known to the links alone."""
        if isinstance(message, Report):
            reordered, stalled_s = self._links.reordered, self._links.take_stalled_s()
            if reordered or stalled_s:
                message = msgspec.structs.replace(message, reordered=reordered, stalled_s=stalled_s)
        with suppress(LinkLostError):  # the controller has ended, and all processes of the run are ended
            self._requests += self._control.push(self._controller, framed([b"", codec.encode(message)]))

    def _send_probes(self, request: Probe) -> None:
        at_s = self._now_s() if request.at_s is None else request.at_s
        for message in probe_messages(request, self._index, at_s):
            self._links.send(message, request.peer.device)

    # -- time -----------------------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        """Now on the timeline; without a clock everything is due."""
        return math.inf if self.clock is None else self.clock.emulated_s(time.monotonic())

    def _sleep_until(self, clock: WallClock, end_s: float) -> Woke:
        self.priority.urge()
        end_wall_s = clock.wall_s(end_s)
        remaining_s = end_wall_s - time.monotonic()
        if remaining_s > 0:
            time.sleep(remaining_s)
        wall_s = time.monotonic()
        return Woke((wall_s - end_wall_s) / clock.dilation, remaining_s < 0, wall_s)

    def _wait_s(self) -> float | None:
        """Seconds of the wall clock until something is due; None: nothing is, until a message comes."""
        if self.clock is not None:
            self.priority.urge()
        due_s, is_stuck = self.device.due_s, self.device.is_stuck
        if due_s is None:
            return RETRY_S if is_stuck else None
        until_s = 0.0 if self.clock is None else max(0.0, self.clock.wall_s(due_s) - time.monotonic())
        return min(until_s, RETRY_S) if is_stuck else until_s
