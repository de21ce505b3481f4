"""Steps of sequences that run one at a time: most steps of a token are computed in arrays, the others simulated.

A step that runs alone finds every device idle and every pipe free. Where nothing varies, no two paths share a pipe, and
each device takes its operations in the order of the step before, all instants follow from that order. A device does so
if its operations become ready in this order, one after the other: it takes what became ready first. Otherwise the
simulator runs the step, and later ones take its order.
"""

from collections.abc import Iterable

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Op, Program
from edgeemu.timeline.network import BookedConnection
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.step_levels import StepLevels
from edgeemu.timeline.steps import Duration, Step, TokenTime
from edgeemu.timeline.wiring import Wiring

LEAST_WIDTH = 16  # operations and messages of a level, on average: with fewer, events take less time than arrays


class LoneSteps:
    """Simulator without records of steps of which none starts before the one before it has its token."""

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        self._costs = costs
        self._duration = duration
        self._order: list[int] = []  # places of the operations that the simulator has executed, of the last step
        self._simulator = Simulator(cluster, costs, self._noted, records=False)
        self._repeats = all(device.availability is None for device in cluster.devices)  # steps can follow the last
        self._levels: StepLevels | None = None
        self._spared = 0  # steps that were not simulated, less the levels that were made
        self._token: TokenTime | None = None  # of the last step, if that was not simulated

    def start(self, step: Step, program: Program, at_s: float) -> None:
        """Run a step that is released at an instant, as `Simulator.start`."""
        levels = self._levels
        if step.step and levels is not None and levels.wiring.program is program:
            sampled_s = levels.sampled_s(step, at_s, self._duration)
            if sampled_s is not None:
                self._token = TokenTime(step, sampled_s)
                self._spared += 1
                return
            self._levels = None
        self._order.clear()
        self._simulator.start(step, program, at_s)

    def change(self, change: Change, at_s: float) -> None:
        """Change devices and links from an instant on. All later steps are simulated."""
        self._simulator.change(change, at_s)
        self._repeats, self._levels = False, None

    def next_token(self, by_s: float | None = None) -> TokenTime | None:
        """Return the token of the step that runs; None if none is sampled by an instant."""
        token = self._token
        if token is not None:
            if by_s is not None and token.sampled_s > by_s:
                return None
            self._token = None
            return token
        token = self._simulator.next_token(by_s)
        if token is not None and token.step.step and self._repeats and self._spared >= 0:
            self._learn()
        return token

    def _noted(self, op: Op, step: Step) -> float:
        self._order.append(op.index)
        return self._duration(op, step)

    def _learn(self) -> None:
        """Make the levels of the step that was simulated, if later ones can be computed in them, and faster."""
        wiring = self._simulator.wiring
        assert wiring is not None
        self._spared -= 1
        if _waits_for_nothing_else(wiring, self._order):
            self._levels = StepLevels(wiring, self._order, self._costs)
            if self._levels.width >= LEAST_WIDTH:
                return
        self._repeats, self._levels = False, None


def _waits_for_nothing_else(wiring: Wiring, order: Iterable[int]) -> bool:
    """Return whether messages wait for those of their connection alone, and operations for their turn alone."""
    connections: dict[int, BookedConnection] = {}
    for place in order:
        if wiring.sends[place]:
            return False  # before what became ready earlier
        connections |= {each.number: each for each, _ in wiring.deliveries[place] if each is not None}
    pipes = {each.pipe.pipe for each in connections.values() if each.pipe is not None and not each.disturbed}
    return len(pipes) == len(connections)
