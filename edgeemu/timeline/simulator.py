"""Discrete-event simulator of a run: the dataflow of every step, without processes and kernels. No wall clock.

It predicts a run, and it keeps the time of `mode: virtual`, where durations are those that the devices measured.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from itertools import count

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.cluster.variation import finish
from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.timeline.clock import occupy
from edgeemu.timeline.columns import Columns
from edgeemu.timeline.events import Event, Outcome, without_ends_on, without_steps
from edgeemu.timeline.executed import Executed
from edgeemu.timeline.flow import Flow, Turn, record_of
from edgeemu.timeline.network import BookedConnection, Network, Transit
from edgeemu.timeline.ready_queue import ReadyQueue, Waiting
from edgeemu.timeline.shipping import Flash, Round, ShippedTransfer, Shipping, ShippingTimeline
from edgeemu.timeline.simulated_device import SimulatedDevice
from edgeemu.timeline.steps import Duration, OperationRecord, Step, TokenTime
from edgeemu.timeline.traffic import NOT_ALONE, Message, PathTraffic, traffic_sums, transit_sums
from edgeemu.timeline.transfers import HandledTransfer, Transfer
from edgeemu.timeline.wiring import Wiring


class Simulator:
    """Event loop of the timeline: `start` steps and `ship` rounds, then `advance` to their outcomes.

    A step can be started while others are in flight; its start must not lie before the last event that was handled.
    """

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration, *, records: bool = True) -> None:
        """With `records`, operations and messages are kept until they are taken."""
        self.costs = costs
        self.duration = duration
        self._records = records
        self._executed: list[tuple[Flow, Executed]] = []
        self._messages: list[Message] = []  # of all steps
        self._step_messages: dict[tuple[int, int], list[Message]] = defaultdict(list)  # by sequence and step
        self.sent_bytes: Counter[int] = Counter()  # by number of a connection, shipments included
        self._cluster = cluster
        self._network = Network(cluster.path, cluster.seed)
        self._devices = [
            SimulatedDevice(device.index, device.availability, device.message_overhead_s, device.byte_overhead_s)
            for device in cluster.devices
        ]
        self._events: list[Event] = []
        self._order = count()
        self._transfers: list[HandledTransfer] = []
        timeline = ShippingTimeline(self._network, self.sent_bytes, self._at, self._messages_cost, self._queue_transfer)
        self._shipping = Shipping(timeline, costs)
        self._turn: Turn = (0.0, -1)  # event that is being handled
        self.wiring: Wiring | None = None  # of the program that was started last

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, so that nothing happens before something is started."""
        return not self._events

    def start(self, step: Step, program: Program, at_s: float) -> None:
        """Release a step at an instant: a prompt enters at the embedding, a token at the output matrix."""
        wiring = self._wired(program)
        missing = wiring.missing(step).copy()
        costs = self.costs.at_step(step.rows, step.past)
        messages = self._step_messages[step[:2]] if self._records else []
        n_ops = len(missing)
        flow = Flow(step, wiring, costs, missing, [(0.0, -1)] * n_ops, [-1] * n_ops, messages)
        flow.left = wiring.count(step) if step.step < 0 else 0
        begin = (
            partial(self._ready, wiring.embed(step), flow)
            if step.enters_at_embedding
            else partial(self._send, wiring.lm_head, flow)
        )
        heappush(self._events, (at_s, next(self._order), 0, flow, begin))

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
        return self._shipping.ship(
            shipments, at_s, epoch=epoch, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s
        )

    def probe(
        self, way: tuple[int, int], number: int, sizes: Sequence[int], at_s: float, step: tuple[int, int]
    ) -> None:
        """Send test messages from one device to another at an instant; they count as traffic of a step."""
        self._shipping.probe(way, number, sizes, at_s, self._step_messages[step] if self._records else None)

    def advance(self, until_s: float = math.inf) -> Outcome | None:
        """Handle events until a token is sampled or a device has received all of a round.

        None when there is no event left up to an instant.
        """
        events = self._events
        while events and events[0][0] <= until_s:
            now_s, number, place, flow, handle = heappop(events)
            self._turn = now_s, number
            if handle is not None:
                if (outcome := handle(now_s)) is not None:
                    return outcome
            elif flow is not None:
                if place >= 0:
                    self._ready(place, flow, now_s)
                elif (token := self._ended(-1 - place, flow, now_s)) is not None:
                    return token
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
        heappush(self._events, (at_s, next(self._order), 0, None, handle))

    def _wired(self, program: Program) -> Wiring:
        """Return the wiring of a program: one for all steps until another program starts."""
        if self.wiring is None or self.wiring.program is not program:
            self.wiring = Wiring(program, self._network.connection)
        return self.wiring

    def _ready(self, place: int, flow: Flow, now_s: float) -> None:
        """Run an operation whose last input is there if its device is idle, or queue it."""
        device, step = self._devices[flow.wiring.devices[place]], flow.step
        if not device.busy and not device.ready:
            device.ready.bypass(step.sequence, step.step)
            self._run(device, place, flow, now_s)
            return
        waiting = Waiting(now_s, step.sequence, step.step, place, flow.wiring.sends[place])
        device.ready.push(waiting, (place, flow))
        if not device.busy:
            self._run_next(device)

    def _run_next(self, device: SimulatedDevice) -> None:
        waiting, item = device.ready.pop()
        if isinstance(item, Transfer):
            self._run_transfer(device, item, waiting.ready_s)
        else:
            self._run(device, *item, waiting.ready_s)

    def _run(self, device: SimulatedDevice, place: int, flow: Flow, ready_s: float) -> None:
        """Run an operation on its device, which is idle."""
        start_s = max(device.free_s, ready_s)
        duration_s = self.duration(flow.wiring.program.ops[place], flow.step)
        end_s = finish(device.availability, start_s, duration_s)
        device.free_s, device.busy = end_s, True
        if self._records:
            self._executed.append((flow, (place, ready_s, start_s, end_s, flow.last[place])))
        heappush(self._events, (end_s, next(self._order), -1 - place, flow, None))

    def _queue_transfer(self, index: int, waiting: Waiting, transfer: ShippedTransfer) -> None:
        """Send or take in a transfer if its device is idle, or queue it."""
        device = self._devices[index]
        device.ready.push(waiting, transfer)
        if not device.busy:
            self._run_next(device)

    def _run_transfer(self, device: SimulatedDevice, transfer: ShippedTransfer, ready_s: float) -> None:
        duration_s = device.message_s + device.byte_s * transfer.size_bytes
        time = occupy(device.free_s, ready_s, duration_s, device.availability)
        device.free_s, device.busy = time.end_s, True
        if self._records:
            self._transfers.append(HandledTransfer(device.index, transfer.sends, time))
        self._at(time.end_s, partial(self._transfer_ended, device, transfer))

    def _transfer_ended(self, device: SimulatedDevice, transfer: ShippedTransfer, now_s: float) -> Outcome | None:
        device.busy = False
        outcome = transfer.then(now_s)
        if device.ready and not device.busy:
            self._run_next(device)
        return outcome

    def _messages_cost(self, index: int) -> bool:
        device = self._devices[index]
        return device.message_s > 0 or device.byte_s > 0

    def _ended(self, place: int, flow: Flow, now_s: float) -> TokenTime | None:
        """Send the result of an operation, and run what its device has ready."""
        device = self._devices[flow.wiring.devices[place]]
        device.busy = False
        token = None
        if flow.wiring.program.ops[place].kind is Kind.LM_HEAD:
            token = TokenTime(flow.step, now_s)
        else:
            self._send(place, flow, now_s)
        if flow.left:
            flow.left -= 1
            token = None if flow.left else TokenTime(flow.step, now_s)
        if device.ready and not device.busy:
            self._run_next(device)
        return token

    def _send(self, place: int, flow: Flow, now_s: float) -> None:
        """Send a result. Each arrival is known at once, so only the last input of an operation is an event."""
        wiring, missing, ready, turn = flow.wiring, flow.missing, flow.ready, self._turn
        size = 0
        for connection, waiting in wiring.deliveries[place]:
            arrives = turn
            if connection is not None:
                size = size or flow.sizes.get(wiring.message_kinds[place]) or self._size(place, flow)
                arrives = self._sent(connection, flow, wiring.slots[place], size, now_s), next(self._order)
            for consumer in waiting:
                missing[consumer] -= 1
                if arrives > ready[consumer]:
                    ready[consumer] = arrives
                    flow.last[consumer] = place
                if missing[consumer]:
                    continue
                at_s, number = last = ready[consumer]
                if last <= turn:
                    self._ready(consumer, flow, now_s)
                else:
                    heappush(self._events, (at_s, number, consumer, flow, None))

    @staticmethod
    def _size(place: int, flow: Flow) -> int:
        """Compute the size of a message with the result of an operation, once in a step for all alike."""
        size = message_bytes(flow.wiring.program.ops[place], flow.step.rows, flow.costs)
        flow.sizes[flow.wiring.message_kinds[place]] = size
        return size

    def _sent(
        self, connection: BookedConnection, flow: Flow, slot: tuple[int, int], size_bytes: int, now_s: float
    ) -> float:
        """Send a message, and note it; return its arrival."""
        last_s = connection.last_arrival_s
        arrival_s, waited_s = self._network.book(connection, flow.step, slot, size_bytes, now_s)
        number = connection.number
        self.sent_bytes[number] += size_bytes
        if self._records:
            message = number, size_bytes, arrival_s - now_s, waited_s if now_s >= last_s else NOT_ALONE
            self._messages.append(message)
            flow.messages.append(message)
        return arrival_s

    # -- devices that fail ---------------------------------------------------------------------------------------

    def end_device(self, index: int) -> None:
        """Take a device away, after the last event that was handled: what it does, and what comes to it, is lost."""
        gone = self._devices[index]
        self._devices[index] = replace(gone, busy=True, ready=ReadyQueue())  # it takes what comes, and does nothing
        self._events = without_ends_on(gone, self._events)

    def restart_device(self, index: int, at_s: float) -> None:
        """Have a device that was taken away work again, from an instant on."""
        self._devices[index] = replace(self._devices[index], free_s=at_s, busy=False, ready=ReadyQueue())

    def halt(self) -> None:
        """Give up all steps in flight. Operations that run go on, and their results go nowhere; transfers go on.

        Records of what they have executed and sent can still be taken.
        """
        self._events = without_steps(self._events, lambda index: partial(self._freed, self._devices[index]))
        for device in self._devices:
            device.ready.drop_steps()

    def _freed(self, device: SimulatedDevice, _: float) -> None:
        """Run what a device has ready, after an operation of a step that was given up."""
        device.busy = False
        if device.ready:
            self._run_next(device)

    # -- what has happened ---------------------------------------------------------------------------------------

    @property
    def executions(self) -> list[OperationRecord]:
        """Records of the operations that were not taken yet."""
        return [record_of(*one) for one in self._executed]

    def take_executed(self) -> list[tuple[Flow, Executed]]:
        """Return the operations that were executed since the last call, each with its step in flight."""
        taken, self._executed = self._executed, []
        return taken

    def take_transfers(self) -> list[HandledTransfer]:
        """Return the transfers that have kept devices busy since the last call."""
        taken, self._transfers = self._transfers, []
        return taken

    def take_probed(self) -> list[Transit]:
        """Return the test messages that have arrived since the last call."""
        taken, self._shipping.probed = self._shipping.probed, []
        return taken

    def take_transits(self) -> Columns[Transit]:
        """Return sums of the transit times of messages since the last call, without test messages."""
        taken, self._messages = self._messages, []
        return transit_sums(taken, self.ends())

    def take_traffic(self, step: tuple[int, int]) -> Columns[PathTraffic]:
        """Return sums of the messages of a step (sequence and number), by path."""
        return traffic_sums(self._step_messages.pop(step, []), self.ends())

    def take_replica_traffic(self) -> Columns[PathTraffic]:
        """Return sums of the chunks that were sent to replicas since the last call, by path."""
        taken, self._shipping.to_replicas = self._shipping.to_replicas, []
        return traffic_sums(taken, self.ends())

    def ends(self) -> IntArray:
        """Sources and targets of connections, by their number: [2, n_connections]."""
        return self._network.ends()
