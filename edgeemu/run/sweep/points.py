"""Points of a sweep: every combination of the values of the varied keys, each as a scenario. Draws nothing."""

from collections.abc import Mapping, Sequence
from itertools import product
from numbers import Real
from typing import Any, NamedTuple

from edgeemu.errors import RequestError
from edgeemu.scenario.document import Position, position_of
from edgeemu.scenario.load import ScenarioText
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.varied import OPTION, Varied, read_varied

ELSEWHERE = {"seed": "--seeds", "policy": "--policies"}  # what varies the other keys


class SweepPoint(NamedTuple):
    """A combination of values, as they were written, and the scenario with them."""

    values: tuple[str, ...]
    scenario: Scenario


def read_keys(options: Sequence[str]) -> list[Varied]:
    """Read the `--vary` options. Raises RequestError: one is wrong, or a key is there twice."""
    varied = [read_varied(option) for option in options]
    for number, each in enumerate(varied):
        if each.path in ELSEWHERE:
            raise RequestError(f"is varied by {ELSEWHERE[each.path]}", field=f"{OPTION} {each.path}")
        if each.path in [earlier.path for earlier in varied[:number]]:
            raise RequestError("is varied twice; give all its values in one list", field=f"{OPTION} {each.path}")
    return varied


def read_points(written: ScenarioText, settings: Sequence[str], varied: Sequence[Varied]) -> list[SweepPoint]:
    """Read a scenario with each combination of values; the last key varies fastest.

    Raises:
        RequestError: the scenario is wrong with one of them.
    """
    combinations = product(*(zip(key.values, key.settings, strict=True) for key in varied))
    return [
        SweepPoint(tuple(value for value, _ in each), written.scenario(settings, [setting for _, setting in each]))
        for each in combinations
    ]


def numbers_of(varied: Sequence[Varied], points: Sequence[SweepPoint]) -> Mapping[str, Mapping[str, float]]:
    """Return, for keys whose values are numbers or quantities, the numbers in basic units by the values as written."""
    found = {}
    for index, key in enumerate(varied):
        at = {point.values[index]: _value(point.scenario, position_of(key.path)) for point in points}
        if all(isinstance(value, Real) and not isinstance(value, bool) for value in at.values()):
            found[key.path] = {text: float(value) for text, value in at.items()}
    return found


def _value(scenario: Scenario, position: Position) -> Any:
    """The value at a position of a scenario; None where the scenario keeps it in another form."""
    value: Any = scenario
    for key in position:
        if isinstance(key, int):
            value = value[key] if isinstance(value, Sequence) and key < len(value) else None
        else:
            value = getattr(value, key, None)
    return value
