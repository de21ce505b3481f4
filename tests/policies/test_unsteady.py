"""Where the load of all devices changes all the time, moving to what is fast at an instant does not lose."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.several import simulated

from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario

SCENARIO = Path(__file__).parents[2] / "scenarios/one-layer-25.yaml"


THREE = "workload.prompts=[{tokens: 64}, {tokens: 64}, {tokens: 64}]", "workload.concurrency=3"
ON_FLASH = "migration.weights_on_flash=true", "migration.flash_bandwidth=3 GB/s"


def seconds(seed: int, load: str, *more: str, divide: bool, stay: bool, tokens: int = 150) -> float:
    """Seconds until all tokens are there."""
    settings = [f"seed={seed}", f"devices[0].load={load}", f"sharding.divide={str(divide).lower()}"]
    settings.append(f"workload.max_tokens={tokens}")
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


@pytest.mark.parametrize("more", [THREE, (*THREE, *ON_FLASH), ON_FLASH])
def test_load_that_is_little_more_than_noise_moves_nothing(more: tuple[str, ...]) -> None:
    """With three sequences, and moves that cost little, it took up to twice as long."""
    load = "{uniform: {low: 0 %, high: 30 %}, every: 100 ms}"
    stay_s = seconds(2, load, *more, divide=False, stay=True)
    assert seconds(2, load, *more, divide=False, stay=False) <= 1.02 * stay_s


def test_an_oracle_loses_nothing_either() -> None:
    load = "{uniform: {low: 0 %, high: 90 %}, every: 500 ms}"
    stay_s = seconds(1, load, divide=False, stay=True)
    assert seconds(1, load, "knowledge=oracle", divide=False, stay=False) <= 1.02 * stay_s


def test_states_that_last_are_answered() -> None:
    load = "{uniform: {low: 0 %, high: 90 %}, every: 2 s}"
    stay_s = seconds(1, load, divide=True, stay=True, tokens=300)
    assert seconds(1, load, divide=True, stay=False, tokens=300) < 0.9 * stay_s
