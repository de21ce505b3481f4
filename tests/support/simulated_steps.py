"""Which steps of a run are simulated, and which are computed in arrays."""

from collections.abc import Callable

import pytest

from edgeemu.placement.program import Program
from edgeemu.timeline import known_levels
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step


def compute_narrow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have steps computed in arrays however few operations they have at once."""
    monkeypatch.setattr(known_levels, "LEAST_WIDTH", 0)


def note_simulated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the numbers of the steps that are simulated, and not computed."""
    numbers: list[int] = []
    start: Callable[..., None] = Simulator.start

    def noted(simulator: Simulator, step: Step, program: Program, at_s: float) -> None:
        numbers.append(step.step)
        start(simulator, step, program, at_s)

    monkeypatch.setattr(Simulator, "start", noted)
    return numbers
