"""Levels of the steps of a program that run alone: when they are made, and when that pays. Pure."""

from collections.abc import Iterable, Sequence

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.costs import Costs
from edgeemu.placement.program import Program
from edgeemu.timeline.network import BookedConnection
from edgeemu.timeline.step_levels import StepLevels
from edgeemu.timeline.steps import Duration, Step
from edgeemu.timeline.wiring import Wiring

LEAST_WIDTH = 16  # operations and messages of a level, on average: with fewer, events take less time than arrays


class KnownLevels:
    """Levels of the last program, as long as its steps can be computed in them, and that is faster than simulating."""

    def __init__(self, cluster: Cluster, costs: Costs, duration: Duration) -> None:
        self._costs = costs
        self._duration = duration
        self._levels: StepLevels | None = None
        self._rows = 0  # of a step for which they are
        self._repeats = all(device.availability is None for device in cluster.devices)  # steps can follow the last
        self._spared = 0  # steps that were not simulated, less the levels that were made

    def of(self, step: Step, program: Program) -> StepLevels | None:
        """Return the levels of a step; None: it has to be simulated."""
        levels, has_token = self._levels, step.step > 0
        fits = levels is not None and levels.wiring.program is program and step.rows == self._rows
        return levels if has_token and fits else None

    def spare(self) -> None:
        """Note that a step was computed."""
        self._spared += 1

    def forget(self) -> None:
        """Forget the levels: a step of theirs has another order."""
        self._levels = None

    def give_up(self) -> None:
        """Have all later steps simulated."""
        self._repeats, self._levels = False, None

    def wants(self, step: Step) -> bool:
        """Whether levels are to be made of a step that was simulated."""
        return step.step > 0 and self._repeats and self._spared >= 0

    def learn(self, step: Step, wiring: Wiring, order: Sequence[int]) -> None:
        """Make the levels of a step that was simulated, if later ones can be computed in them, and faster.

        `order`: places of its operations, in the order in which they were executed.
        """
        self._spared -= 1
        if _waits_for_nothing_else(wiring, order):
            self._levels, self._rows = StepLevels(wiring, order, self._costs, self._duration), step.rows
            if self._levels.width >= LEAST_WIDTH:
                return
        self.give_up()


def _waits_for_nothing_else(wiring: Wiring, order: Iterable[int]) -> bool:
    """Return whether messages wait for those of their connection alone, and operations for their turn alone."""
    connections: dict[int, BookedConnection] = {}
    for place in order:
        if wiring.sends[place]:
            return False  # before what became ready earlier
        connections |= {each.number: each for each, _ in wiring.deliveries[place] if each is not None}
    pipes = {each.pipe.pipe for each in connections.values() if each.pipe is not None and not each.disturbed}
    return len(pipes) == len(connections)
