"""Where the load of all devices changes all the time, moving to what is fast at an instant does not lose."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.several import simulated

from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

SCENARIO = Path(__file__).parents[2] / "scenarios/one-layer-25.yaml"


def seconds(seed: int, load: str, *, divide: bool, stay: bool, knowledge: str = "measured", tokens: int = 150) -> float:
    """Seconds until all tokens are there."""
    settings = [f"seed={seed}", f"devices[0].load={load}", f"sharding.divide={str(divide).lower()}"]
    more = [f"workload.max_tokens={tokens}", f"knowledge={knowledge}"]
    plan = make_plan(load_scenario(SCENARIO, [*settings, *more]), "lookahead")
    if stay:
        plan = replace(plan, decide=None)
    return max(row.emulated_s for row in simulated(plan).tokens)


@pytest.mark.parametrize(
    ("seed", "load", "divide"),
    [
        (2, "{uniform: {low: 0 %, high: 90 %}, every: 100 ms}", False),
        (1, "{uniform: {low: 0 %, high: 90 %}, every: 500 ms}", False),
        (1, "{uniform: {low: 0 %, high: 90 %}, every: 100 ms}", True),
        (7, "{walk: {mean: 40 %, spread: 30 %}, every: 100 ms}", False),
    ],
)
def test_moves_lose_nothing_where_they_cannot_pay(seed: int, load: str, divide: bool) -> None:
    stay_s = seconds(seed, load, divide=divide, stay=True)
    assert seconds(seed, load, divide=divide, stay=False) <= 1.02 * stay_s


def test_an_oracle_loses_nothing_either() -> None:
    load = "{uniform: {low: 0 %, high: 90 %}, every: 500 ms}"
    stay_s = seconds(1, load, divide=False, stay=True)
    assert seconds(1, load, divide=False, stay=False, knowledge="oracle") <= 1.02 * stay_s


def test_states_that_last_are_answered() -> None:
    load = "{uniform: {low: 0 %, high: 90 %}, every: 2 s}"
    stay_s = seconds(1, load, divide=True, stay=True, tokens=300)
    assert seconds(1, load, divide=True, stay=False, tokens=300) < 0.9 * stay_s
