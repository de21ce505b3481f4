"""Discrete-event simulator of a run: the dataflow of every step, without processes and kernels. No wall clock.

It predicts a run, and it keeps the time of `mode: virtual`, where durations are those that the devices measured.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.cluster.variation import Variation
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.program import MessageKind, Op, Program
from edgeemu.placement.shipments import Shipment, chains, message_sizes
from edgeemu.timeline.clock import occupy
from edgeemu.timeline.network import DrawKey, Network, Transit, Transits
from edgeemu.timeline.ready_queue import ReadyQueue, Waiting
from edgeemu.timeline.steps import Duration, OperationRecord, Step, TokenTime
from edgeemu.timeline.traffic import StepTraffic
from edgeemu.timeline.wiring import Wiring

Flash = Mapping[int, float]
_Turn = tuple[float, int]  # instant of an event, and its number: events at one instant are in the order of their causes


@dataclass(slots=True)
class _Flow:
    """Step in flight. Operations are counted by their place in the program."""

    step: Step
    wiring: Wiring
    costs: Costs  # of this step
    missing: list[int]  # inputs that an operation waits for, which are not sent yet
    ready: list[_Turn]  # arrival of the last of those that are sent
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of a message, by its kind in the wiring


@dataclass(slots=True)
class _SimulatedDevice:
    availability: Variation | None
    free_s: float = 0.0
    busy: bool = False
    ready: ReadyQueue[tuple[Op, _Flow]] = field(default_factory=ReadyQueue)


class Shipped(NamedTuple):
    """Event: a device has received everything of a migration's round."""

    device: int
    at_s: float


Outcome = TokenTime | Shipped
# Instant, number, place in the program (one message can make several operations ready), and what happens.
_Event = tuple[float, int, int, Callable[[float], Outcome | None]]


@dataclass(slots=True)
class Round:
    """Chunks of a migration's round that are still to arrive, by receiver. A cancelled round delivers nothing more."""

    epoch: int
    number: int
    chunk_bytes: int
    missing: dict[int, int]
    cancelled: bool = False


class Simulator:
    """Event loop of the timeline: `start` steps and `ship` rounds, then `advance` to their outcomes.

    A step can be started while others are in flight; its start must not lie before the last event that was handled.
    """

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        self.costs = costs
        self.duration = duration
        self.executions: list[OperationRecord] = []
        self.transits = Transits()
        self.probed: list[Transit] = []  # test messages that have arrived
        self.traffic: StepTraffic | None = None  # set by who takes it
        self.sent_bytes: Counter[tuple[int, int]] = Counter()  # by sender and receiver, shipments included
        self._cluster = cluster
        self._network = Network(cluster.path, cluster.seed)
        self._devices = [_SimulatedDevice(device.availability) for device in cluster.devices]
        self._events: list[_Event] = []
        self._order = count()
        self._turn: _Turn = (0.0, -1)  # event that is being handled
        self._wiring: Wiring | None = None  # of the program that was started last

    def start(self, step: Step, program: Program, at_s: float) -> None:
        """Release a step at an instant: a prompt enters at the embedding, a token at the output matrix."""
        wiring = self._wired(program)
        missing = wiring.missing(step).copy()
        costs = self.costs.at_step(step.rows, step.past)
        flow = _Flow(step, wiring, costs, missing, [(0.0, -1)] * len(missing))
        if step.step == 0:
            self._at(at_s, partial(self._ready, flow, wiring.embed(step)))
        else:
            self._at(at_s, partial(self._send, flow, program.ops[-1]))

    def change(self, change: Change, at_s: float) -> None:
        """Change devices and links from an instant on, which must not lie before the last event."""
        self._cluster = self._cluster.changed(change, at_s)
        self._network.follow(self._cluster.path)
        for index in change.devices:
            self._devices[index].availability = self._cluster.devices[index].availability

    def ship(
        self, shipments: Sequence[Shipment], at_s: float, *, epoch: int, number: int, chunk_bytes: int, flash_s: Flash
    ) -> Round:
        """Ship a round of a migration from an instant on. `flash_s`: end of each receiver's read of its own storage."""
        targets = Counter(shipment.target for shipment in shipments)
        round_ = Round(epoch, number, chunk_bytes, dict(targets))
        for device, end_s in flash_s.items():
            round_.missing[device] = round_.missing.get(device, 0) + 1
            self._at(end_s, lambda now_s, device=device: self._shipment_arrived(round_, device, now_s))  # type: ignore[misc]
        for shipped in chains(shipments).values():
            sizes = [message_sizes(shipment, self.costs, chunk_bytes) for shipment in shipped]
            last_of_shipment = [index == len(chunks) - 1 for chunks in sizes for index in range(len(chunks))]
            messages = list(zip([size for chunks in sizes for size in chunks], last_of_shipment, strict=True))
            way = shipped[0].source, shipped[0].target
            self._at(at_s, lambda now_s, way=way, messages=messages: self._send_chunk(round_, way, messages, 0, now_s))  # type: ignore[misc]

        return round_

    def probe(
        self, way: tuple[int, int], number: int, sizes: Sequence[int], at_s: float, step: tuple[int, int]
    ) -> None:
        """Send test messages from one device to another at an instant; they count as traffic of a step."""
        self._at(at_s, lambda now_s: self._send_probes(way, number, sizes, now_s, step))

    def advance(self, until_s: float = math.inf) -> Outcome | None:
        """Handle events until a token is sampled or a device has received all of a round.

        None when there is no event left up to an instant.
        """
        while self._events and self._events[0][0] <= until_s:
            now_s, number, _, handle = heappop(self._events)
            self._turn = now_s, number
            outcome = handle(now_s)
            if outcome is not None:
                return outcome
        return None

    def next_token(self, by_s: float | None = None) -> TokenTime | None:
        """Handle events until a token is sampled; returns None if none is sampled by an instant."""
        while (outcome := self.advance(math.inf if by_s is None else by_s)) is not None:
            if isinstance(outcome, TokenTime):
                return outcome
        return None

    def tokens(self) -> Iterator[TokenTime]:
        """Handle events until none is left, yielding each sampled token. A consumer can start steps in between."""
        while (token := self.next_token()) is not None:
            yield token

    def _at(self, at_s: float, handle: Callable[[float], Outcome | None]) -> None:
        heappush(self._events, (at_s, next(self._order), -1, handle))

    def _send_chunk(
        self, round_: Round, way: tuple[int, int], messages: list[tuple[int, bool]], number: int, now_s: float
    ) -> None:
        """Send one message of a connection; the next one departs when the link has taken this one."""
        if round_.cancelled:
            return
        source, target = way
        size, last_of_shipment = messages[number]
        key = DrawKey(source, target, round_.epoch, round_.number, MessageKind.SHIPMENT, number)
        arrival_s = self._network.arrival_s(key, size, now_s)
        self.transits.passed(source, target, now_s, arrival_s)
        self.sent_bytes[way] += size
        if last_of_shipment:
            self._at(arrival_s, lambda at_s: self._shipment_arrived(round_, target, at_s))
        if number + 1 < len(messages):
            free_s = max(now_s, arrival_s - self._network.delay_s(source, target, now_s))
            self._at(free_s, lambda at_s: self._send_chunk(round_, way, messages, number + 1, at_s))

    def _send_probes(
        self, way: tuple[int, int], number: int, sizes: Sequence[int], now_s: float, step: tuple[int, int]
    ) -> None:
        """Send test messages at once; their times are known when all have arrived."""
        took: list[Transit] = []
        for index, size_bytes in enumerate(sizes):
            key = DrawKey(*way, number, index, MessageKind.PROBE, 0)
            arrival_s, waited_s = self._network.passage(key, size_bytes, now_s)
            self.transits.passed(*way, now_s, arrival_s)
            self.sent_bytes[way] += size_bytes
            if self.traffic is not None:
                self.traffic.add(step, way, size_bytes, arrival_s - now_s)
            took.append(Transit(*way, size_bytes, 1, arrival_s - now_s - waited_s))
        self._at(arrival_s, lambda _: self.probed.extend(took))

    @staticmethod
    def _shipment_arrived(round_: Round, device: int, now_s: float) -> Shipped | None:
        round_.missing[device] -= 1
        return None if round_.missing[device] or round_.cancelled else Shipped(device, now_s)

    def _wired(self, program: Program) -> Wiring:
        """Return the wiring of a program: one for all steps until another program starts."""
        if self._wiring is None or self._wiring.program is not program:
            self._wiring = Wiring(program)
        return self._wiring

    def _ready(self, flow: _Flow, op: Op, now_s: float) -> None:
        """Queue an operation whose last input is there, and run it if its device is idle."""
        device = self._devices[op.device]
        device.ready.push(Waiting(now_s, flow.step.sequence, flow.step.step, op.index), (op, flow))
        if not device.busy:
            self._run_next(device)

    def _run_next(self, device: _SimulatedDevice) -> None:
        if device.busy or not device.ready:
            return
        waiting, (op, flow) = device.ready.pop()
        time = occupy(device.free_s, waiting.ready_s, self.duration(op, flow.step), device.availability)
        device.free_s, device.busy = time.end_s, True
        self.executions.append(OperationRecord(op, flow.step, time))
        self._at(time.end_s, partial(self._finish, device, op, flow))

    def _finish(self, device: _SimulatedDevice, op: Op, flow: _Flow, now_s: float) -> TokenTime | None:
        device.busy = False
        token = None
        if op.kind is Kind.LM_HEAD:
            token = TokenTime(flow.step, now_s)
        else:
            self._send(flow, op, now_s)
        self._run_next(device)
        return token

    def _send(self, flow: _Flow, op: Op, now_s: float) -> None:
        """Send a result. Each arrival is known at once, so only the last input of an operation is an event."""
        wiring, missing, ready, turn = flow.wiring, flow.missing, flow.ready, self._turn
        kind = wiring.message_kinds[op.index]
        size = flow.sizes.get(kind)
        if size is None:
            size = flow.sizes[kind] = message_bytes(op, flow.step.rows, flow.costs)
        for target, consumers in wiring.consumers[op.index]:
            arrives = turn
            if target != op.device:
                arrives = self._sent(flow.step, op, target, size, now_s), next(self._order)
            for consumer in consumers:
                place = consumer.index
                missing[place] -= 1
                if arrives > ready[place]:
                    ready[place] = arrives
                if missing[place]:
                    continue
                at_s, number = last = ready[place]
                if last <= turn:
                    self._ready(flow, consumer, now_s)
                else:
                    event: _Event = (at_s, number, place, partial(self._ready, flow, consumer))
                    heappush(self._events, event)

    def _sent(self, step: Step, op: Op, target: int, size_bytes: int, now_s: float) -> float:
        """Send a message, and count it; return its arrival."""
        way = source, _ = op.device, target
        slot = op.emits
        key = source, target, step.sequence, step.step, slot.kind, slot.place
        arrival_s, waited_s = self._network.passage(key, size_bytes, now_s)
        self.transits.add(source, target, size_bytes, now_s, arrival_s, waited_s)
        if self.traffic is not None:
            self.traffic.add(step[:2], way, size_bytes, arrival_s - now_s)
        self.sent_bytes[way] = self.sent_bytes.get(way, 0) + size_bytes
        return arrival_s
