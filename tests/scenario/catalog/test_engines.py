"""Engines of the catalog: complete, with sources, and what a scenario takes from them."""

import pytest

from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import Sourced
from edgeemu.scenario.catalog.engines import EngineEntry, engine_entries, engine_entry
from edgeemu.scenario.load import parse_scenario, to_yaml

TEXT = """
model: tinyllama-1.1b
devices: [{name: pi, profile: raspberry-pi-5, count: 2}]
network: {default: ethernet-1g}
workload: {prompts: [{tokens: 4}], max_tokens: 4}
"""


def test_the_engines_of_the_field_are_there():
    named = {"ideal", "distributed-llama", "distributed-llama-0.1", "llama.cpp", "llama.cpp-rpc"}
    assert named | {"exo-ring", "exo-tensor", "mdi-llm"} == set(engine_entries())


@pytest.mark.parametrize("name", sorted(engine_entries()))
def test_every_figure_of_an_engine_has_a_source_and_a_label(name):
    figures = [getattr(engine_entry(name), field) for field in EngineEntry.model_fields]
    labelled = [figure for figure in figures if isinstance(figure, Sourced)]
    assert 6 <= len(labelled) <= 7
    assert all(figure.label in ("measured", "derived", "peak") and len(figure.source) >= 10 for figure in labelled)


def test_no_engine_named_is_ideal_and_changes_nothing():
    plain = parse_scenario(TEXT)
    assert plain.engine == "ideal"
    assert parse_scenario(TEXT + "engine: ideal\n") == plain
    assert (plain.policy, plain.precision.weights, plain.sharding.collectives) == ("lookahead", "f32", None)
    ideal = engine_entry("ideal")
    assert ideal.fill({}) == {
        "policy": plain.policy,
        "precision": plain.precision.model_dump(exclude={"hold"}),
        "sharding": {"partials": plain.sharding.partials},
    }


def test_an_engine_gives_policy_and_formats():
    scenario = parse_scenario(TEXT + "engine: mdi-llm\n")
    assert scenario.policy == "mdi"
    assert (scenario.precision.weights, scenario.precision.cache, scenario.precision.messages) == ("f16", "f16", "f16")


def test_what_a_scenario_gives_comes_before_its_engine():
    own = "engine: mdi-llm\npolicy: layers\nprecision: {weights: q4_0}\n"
    scenario = parse_scenario(TEXT + own)
    assert scenario.policy == "layers"
    assert (scenario.precision.weights, scenario.precision.messages) == ("q4_0", "f16")


def test_the_command_line_can_name_an_engine():
    scenario = parse_scenario(TEXT, overrides=["engine=mdi-llm"])
    assert (scenario.engine, scenario.policy) == ("mdi-llm", "mdi")


def test_a_placement_by_hand_is_kept_under_any_engine():
    placement = "placement: {embed: pi-1, lm_head: pi-1, layers: {0-21: pi-1}}\n"
    assert parse_scenario(TEXT + placement + "engine: mdi-llm\n").policy == "given"


def test_a_scenario_with_an_engine_is_written_and_read_again():
    scenario = parse_scenario(TEXT + "engine: mdi-llm\n")
    assert parse_scenario(to_yaml(scenario)) == scenario


def test_an_unknown_engine_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match=r'engine: there is no engine "mdi-lm" .*did you mean "mdi-llm"'):
        parse_scenario(TEXT + "engine: mdi-lm\n")
