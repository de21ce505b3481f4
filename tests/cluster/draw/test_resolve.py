"""The resolved scenario as text: what its checked form is written as, however it was made."""

from pathlib import Path

import pytest

from edgeemu.cluster.draw.resolve import resolve, resolved_yaml
from edgeemu.scenario.document import Inline, write
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml
from edgeemu.scenario.scenario import Scenario

SCENARIOS = Path(__file__).parents[3] / "scenarios"
DRAWN = "network.default={bandwidth: {uniform: {low: 1 Mbit/s, high: 9 Mbit/s}}, delay: 2 ms, jitter: 1 ms, loss: 1 %}"
ONE = "network.links=[{between: [laptop, nano], %s}]"
SETTINGS = {
    "drawn": (DRAWN,),
    "priced": (DRAWN, "network.default.energy={send: 1 nJ/bit, receive: 2 nJ/bit}"),
    "one way": (DRAWN, "network.links=[{from: laptop, to: nano, bandwidth: 3 Mbit/s}]"),
    "reordered": (DRAWN, "network.backend=kernel", ONE % "reorder: 1 %"),
    "varying": (DRAWN, ONE % "variation: {delay: {uniform: {low: 0 ms, high: 5 ms}, every: 1 s}}"),
    "strange names": (DRAWN, "devices[0].name='no'", "devices[1].name='1e3'"),
    "long names": (DRAWN, f"devices[0].name={'a' * 60}", f"devices[2].name={'b' * 60}"),
}


def as_checked(scenario: Scenario) -> str:
    """The checked form of a scenario, written by the YAML library alone."""
    data = scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
    first = ("between", "from", "to")
    data["network"]["links"] = [
        Inline({key: link[key] for key in first if key in link} | link) for link in data["network"]["links"]
    ]
    return write(data)


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.yaml")), ids=lambda file: file.stem)
def test_scenarios_are_written_as_their_checked_form(file: Path) -> None:
    scenario = load_scenario(file)
    checked = resolve(scenario).model_copy(update={"policy": "layers"})
    assert resolved_yaml(scenario, "layers") == to_yaml(checked) == as_checked(checked)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_links_of_any_kind_are_written_as_their_checked_form(settings: tuple[str, ...]) -> None:
    scenario = load_scenario(SCENARIOS / "slowdown.yaml", ["events=[]", "network={}", *settings])
    checked = resolve(scenario).model_copy(update={"policy": "layers"})
    text = resolved_yaml(scenario, "layers")
    assert text == to_yaml(checked) == as_checked(checked)
    assert checked.network.links
    assert parse_scenario(text, scenario.name) == checked
