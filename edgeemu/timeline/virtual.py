"""Virtual timeline: the simulator as a backend uses it, request by request. Knows no clock."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.errors import RunError
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.timeline.columns import Columns
from edgeemu.timeline.executed import Executed, ExecutedOps
from edgeemu.timeline.flow import Flow, record_of
from edgeemu.timeline.given_up import GivenUpSteps, GivenUpTraffic, StepKey
from edgeemu.timeline.network import Transit
from edgeemu.timeline.repeated_steps import RepeatedSteps
from edgeemu.timeline.shipping import TO_REPLICAS, Round, Shipped
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.step_records import StepRecord
from edgeemu.timeline.steps import Duration, Step, TokenTime
from edgeemu.timeline.traffic import Messages, PathTraffic, traffic_sums, transit_sums
from edgeemu.timeline.transfers import HandledTransfer


class VirtualTimeline:
    """Simulator that is driven by requests: start a step, get the next token, ship a round, get its arrival.

    Steps that run alone and like the step before are computed at once; nobody can tell by what is returned.
    """

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration, *, repeats: bool = False) -> None:
        """`repeats`: durations follow from operation and step alone, so that steps can be computed."""
        self._simulator = Simulator(cluster, costs, duration)
        self._round: Round | None = None
        self._awaited: set[int] = set()
        self._arrived_s = 0.0
        self._replicating: list[Round] = []
        self._replicated: list[Shipped] = []  # since they were taken
        self._flying: dict[StepKey, Step] = {}
        self._executed: dict[int, list[tuple[Flow, Executed]]] = defaultdict(list)  # by sequence, of its step in hand
        self.given_up = GivenUpSteps()
        self._repeated = RepeatedSteps(cluster, costs, duration) if repeats else None
        self._released: tuple[Step, Program, float] | None = None  # runs alone, so far, and is not simulated yet
        self._computed: StepRecord | None = None  # of the step that was sampled last, if it was computed
        self._measured: Messages | None = None  # its messages, until their transit times are taken

    def start(self, step: Step, program: Program, at_s: float) -> None:
        """Release a step at an instant, which must not lie before the last requested token or arrival."""
        self._simulate_released()
        self._flying[step[:2]] = step
        if self._repeated is not None and len(self._flying) == 1 and self._simulator.idle:
            self._released = step, program, at_s
        else:
            self._simulator.start(step, program, at_s)

    def _simulate_released(self) -> None:
        """Have the simulator run a step that does not run alone, or not like the step before."""
        if self._released is not None:
            self._simulator.start(*self._released)
            self._released = None

    def sampled(self, by_s: float | None = None) -> TokenTime | None:
        """Next token, or None if there is none by an instant."""
        until_s = math.inf if by_s is None else by_s
        self._computed = None
        if self._released is not None and self._repeated is not None and self._measured is None:
            self._computed = self._repeated.record(*self._released, until_s)
        if self._computed is not None:
            self._released, self._measured = None, self._computed.messages
            return TokenTime(self._computed.step, self._computed.sampled_s)
        self._simulate_released()
        while (outcome := self._simulator.advance(until_s)) is not None:
            if isinstance(outcome, TokenTime):
                return outcome
            self._note(outcome)
        if by_s is None:
            raise RunError(f"the timeline came to an end with {len(self._flying)} steps under way")
        return None

    def halt(self, counts_for: Callable[[Step], StepKey | None]) -> list[GivenUpTraffic]:
        """Give up all steps in flight, at an instant up to which all tokens have been taken.

        What they have executed is in `given_up`, as of the step that it `counts_for`; None: it is forgotten. Return
        what they have sent.
        """
        self._stop_repeating()
        self._simulator.halt()
        self._sort_executed()
        traffic = []
        for step in self._flying.values():
            executed, sent, key = self._executed[step.sequence], self.traffic(step), counts_for(step)
            self._executed[step.sequence] = [each for each in executed if each[0].step != step]
            if key is not None:
                self.given_up.add(key, [each for each in executed if each[0].step == step])
                traffic.append(GivenUpTraffic(key, sent))
        self._flying.clear()
        return traffic

    def end_device(self, index: int, at_s: float) -> None:
        """Take a device away at an instant, up to which all tokens have been taken."""
        self._stop_repeating()
        self._sort_executed()
        self.given_up.lose(index, at_s, chain.from_iterable(self._executed.values()))
        self._simulator.end_device(index)

    def restart_device(self, index: int, at_s: float) -> None:
        """Have a device that was taken away work again, from an instant on."""
        self._stop_repeating()
        self._simulator.restart_device(index, at_s)

    def change(self, change: Change, at_s: float) -> None:
        """Apply a change at an instant, between two steps."""
        self._stop_repeating()
        self._simulator.change(change, at_s)

    def _stop_repeating(self) -> None:
        """Simulate all steps, also one that was released: they are not as those before any more."""
        self._simulate_released()
        if self._repeated is not None:
            self._repeated.give_up()

    def executions(self, step: Step) -> ExecutedOps:
        """Take the records of the operations for the step of a sequence that was sampled last: it is over."""
        self._flying.pop(step[:2], None)
        if self._computed is not None:
            return self._computed.executed
        self._sort_executed()
        executed = self._executed.pop(step.sequence, [])
        if self._repeated is not None and self._simulator.idle:
            self._repeated.learn(step, executed)
        flows = {id(flow): flow for flow, _ in executed}
        if len(flows) != 1:  # some of an earlier step, too, which ended after its token
            return ExecutedOps.of([record_of(*one) for one in executed])
        (flow,) = flows.values()
        return ExecutedOps.of_step(flow.wiring.columns, flow.step, [each for _, each in executed])

    def _sort_executed(self) -> None:
        for one in self._simulator.take_executed():
            self._executed[one[0].step.sequence].append(one)

    def transits(self) -> Columns[Transit] | list[Transit]:
        """Transit times of messages since the last call, and of test messages that have arrived since."""
        probed, measured = self._simulator.take_probed(), self._measured
        if measured is None:
            transits = self._simulator.take_transits()
        else:
            transits, self._measured = transit_sums(measured, self._simulator.ends()), None
        return [*transits, *probed] if probed else transits

    def probe(self, way: tuple[int, int], number: int, sizes: Sequence[int], at_s: float, step: Step) -> None:
        """Send test messages from one device to another at an instant; they count as traffic of a step to come."""
        self._simulate_released()
        self._simulator.probe(way, number, sizes, at_s, step[:2])

    def traffic(self, step: Step) -> Columns[PathTraffic]:
        """Messages of the step of a sequence that was sampled last, by path."""
        if self._computed is not None:
            return traffic_sums(self._computed.messages, self._simulator.ends())
        return self._simulator.take_traffic(step[:2])

    def replica_traffic(self) -> Columns[PathTraffic]:
        """Chunks that were sent to replicas since the last call, by path."""
        return self._simulator.take_replica_traffic()

    def transfers(self) -> list[HandledTransfer]:
        """Transfers that have kept devices busy since the last call."""
        return self._simulator.take_transfers()

    def sent_bytes(self) -> dict[tuple[int, int], int]:
        """Bytes that each device has sent to each other device since the start."""
        sources, targets = self._simulator.ends().tolist()
        computed = {} if self._repeated is None else self._repeated.sent_bytes()
        sent_bytes = self._simulator.sent_bytes.items()
        return {(sources[n], targets[n]): size_bytes + computed.get(n, 0) for n, size_bytes in sent_bytes}

    def ship(
        self,
        shipments: Sequence[Shipment],
        at_s: float,
        *,
        epoch: int,
        number: int,
        chunk_bytes: int,
        flash_s: Mapping[int, float],
    ) -> None:
        """Start a round of a migration at an instant."""
        self._simulate_released()
        self._awaited = {*(shipment.target for shipment in shipments), *flash_s}
        self._arrived_s = at_s
        self._round = self._simulator.ship(
            shipments, at_s, epoch=epoch, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s
        )

    def arrived_s(self) -> float | None:
        """Arrival of the complete round, if it was by the last token; else None."""
        return None if self._awaited else self._arrived_s

    def wait_for_round(self, by_s: float | None = None) -> float | None:
        """Arrival of the complete round, with no step in flight; None if it is later than an instant."""
        self._simulate_released()
        while self._awaited:
            outcome = self._simulator.advance(math.inf if by_s is None else by_s)
            if outcome is None and by_s is not None:
                return None
            self._note(outcome)
        return self._arrived_s

    def cancel(self) -> None:
        """Cancel the round: nothing more of it arrives."""
        if self._round is not None:
            self._round.cancelled = True
        self._awaited.clear()

    def ship_replicas(
        self,
        shipments: Sequence[Shipment],
        at_s: float,
        *,
        number: int,
        chunk_bytes: int,
        flash_s: Mapping[int, float],
    ) -> None:
        """Start a round to replicas at an instant, whatever else is under way."""
        self._simulate_released()
        round_ = self._simulator.ship(
            shipments, at_s, epoch=TO_REPLICAS, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s
        )
        self._replicating = [each for each in self._replicating if any(each.missing.values())]
        self._replicating.append(round_)

    def replicated(self, by_s: float) -> list[tuple[int, int]]:
        """Return the devices that have had all of a round by an instant, each with its number, since the last call."""
        arrived = [(each.device, each.round.number) for each in self._replicated if each.at_s <= by_s]
        self._replicated = [each for each in self._replicated if each.at_s > by_s]
        return arrived

    def cancel_replicas(self) -> None:
        """Cancel all rounds to replicas."""
        for round_ in self._replicating:
            round_.cancelled = True
        self._replicating.clear()
        self._replicated.clear()

    def _note(self, outcome: Shipped | TokenTime | None) -> None:
        if not isinstance(outcome, Shipped):
            raise RunError(f"the timeline came to an end: {outcome}, with {sorted(self._awaited)} still to receive")
        if outcome.round is self._round:
            self._awaited.discard(outcome.device)
            self._arrived_s = max(self._arrived_s, outcome.at_s)
        else:
            self._replicated.append(outcome)
