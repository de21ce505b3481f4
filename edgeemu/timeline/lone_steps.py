"""Steps of sequences that run one at a time: most steps of a token are computed in arrays, the others simulated.

A step that runs alone finds every device idle and every pipe free. Where nothing varies, no two paths share a pipe, and
each device takes its operations in the order of the step before, all instants follow from that order. A device does so
if its operations become ready in this order, one after the other: it takes what became ready first. Otherwise the
simulator runs the step, and later ones take its order.
"""

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Change
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Op, Program
from edgeemu.timeline.known_levels import KnownLevels
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Duration, Step, TokenTime


class LoneSteps:
    """Simulator without records of steps of which none starts before the one before it has its token."""

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        self._duration = duration
        self._order: list[int] = []  # places of the operations that the simulator has executed, of the last step
        self._simulator = Simulator(cluster, costs, self._noted, records=False)
        self._known = KnownLevels(cluster, costs, duration)
        self._token: TokenTime | None = None  # of the last step, if that was not simulated

    def start(self, step: Step, program: Program, at_s: float) -> None:
        """Run a step that is released at an instant, as `Simulator.start`."""
        levels = self._known.of(step, program)
        if levels is not None:
            sampled_s = levels.sampled_s(step, at_s)
            if sampled_s is not None:
                self._token = TokenTime(step, sampled_s)
                self._known.spare()
                return
            self._known.forget()
        self._order.clear()
        self._simulator.start(step, program, at_s)

    def change(self, change: Change, at_s: float) -> None:
        """Change devices and links from an instant on. All later steps are simulated."""
        self._simulator.change(change, at_s)
        self._known.give_up()

    def next_token(self, by_s: float | None = None) -> TokenTime | None:
        """Return the token of the step that runs; None if none is sampled by an instant."""
        token = self._token
        if token is not None:
            if by_s is not None and token.sampled_s > by_s:
                return None
            self._token = None
            return token
        token = self._simulator.next_token(by_s)
        if token is not None and self._known.wants(token.step):
            assert self._simulator.wiring is not None
            self._known.learn(token.step, self._simulator.wiring, self._order)
        return token

    def _noted(self, op: Op, step: Step) -> float:
        self._order.append(op.index)
        return self._duration(op, step)
