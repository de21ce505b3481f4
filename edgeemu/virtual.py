"""One sequence at a time on the simulated timeline: run a step, ship a round, ask what has arrived. Knows no clock."""

from collections.abc import Mapping, Sequence

from edgeemu.blocks import Costs
from edgeemu.cluster import Change, Cluster
from edgeemu.errors import RunError
from edgeemu.migration import Shipment
from edgeemu.network import Transit
from edgeemu.routes import Program
from edgeemu.simulate import Duration, Execution, Round, Shipped, Simulator, Step, TokenTime


class VirtualTimeline:
    """The simulator, asked for one thing after the other."""

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        self._simulator = Simulator(cluster, costs, duration)
        self._round: Round | None = None
        self._awaited: set[int] = set()
        self._arrived_s = 0.0

    def step(self, step: Step, program: Program, at_s: float) -> float:
        """Runs a step that is released at an instant; returns when its token is sampled."""
        self._simulator.start(step, program, at_s)
        while True:
            outcome = self._simulator.advance()
            if isinstance(outcome, TokenTime):
                return outcome.sampled_s
            self._note(outcome)

    def change(self, change: Change, at_s: float) -> None:
        """Something happens at an instant, between two steps."""
        self._simulator.change(change, at_s)

    def transits(self) -> list[Transit]:
        """How long messages took since the last call."""
        return self._simulator.transits.take()

    def executions(self) -> list[Execution]:
        """What has run since the last call."""
        done = list(self._simulator.executions)
        self._simulator.executions.clear()
        return done

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
        """Begins a round of a migration at an instant."""
        self._awaited = {*(shipment.target for shipment in shipments), *flash_s}
        self._arrived_s = at_s
        self._round = self._simulator.ship(
            shipments, at_s, epoch=epoch, number=number, chunk_bytes=chunk_bytes, flash_s=flash_s
        )

    def arrived_s(self) -> float | None:
        """When all of the round had come, if it has by the last token."""
        return None if self._awaited else self._arrived_s

    def wait_for_round(self) -> float:
        """When all of the round will have come, with no step under way."""
        while self._awaited:
            self._note(self._simulator.advance())
        return self._arrived_s

    def cancel(self) -> None:
        """Nothing more comes of the round."""
        if self._round is not None:
            self._round.cancelled = True
        self._awaited.clear()

    def _note(self, outcome: Shipped | TokenTime | None) -> None:
        if not isinstance(outcome, Shipped):
            raise RunError(f"the timeline came to an end: {outcome}, with {sorted(self._awaited)} still to receive")
        self._awaited.discard(outcome.device)
        self._arrived_s = max(self._arrived_s, outcome.at_s)
