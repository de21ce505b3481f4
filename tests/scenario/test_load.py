"""Settings from the command line, and scenarios written as YAML and read again."""
# one mistake and its message a line

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.scenario_text import TEXT, error_of

from edgeemu.errors import RequestError
from edgeemu.scenario.document import read, write
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu.scenario.reference import scenario_json_schema
from edgeemu.scenario.scenario import Scenario

# -- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("devices[1].memory=2 GiB", lambda s: s.devices[1].memory == 2 * 2**30),
        ("network.default.delay=5ms", lambda s: s.network.default.delay == 0.005),
        ("network.default=wifi-5", lambda s: s.network.default.type == "wifi-5"),
        ("model.layers=2", lambda s: (s.model.name, s.model.layers) == ("smollm2-135m-instruct", 2)),
        ("workload.sampling.temperature=0.5", lambda s: s.workload.sampling.temperature == 0.5),
        ('workload.prompts=["a=b"]', lambda s: s.workload.prompts[0].text == "a=b"),
        ("name=other", lambda s: s.name == "other"),
    ],
)
def test_a_setting_overrides_the_file(setting: str, value: Any):
    assert value(parse_scenario(TEXT, "quickstart", [setting]))


def test_a_setting_inside_a_shorthand():
    text = TEXT.replace("default: {bandwidth: 100 Mbit/s, delay: 2 ms}", "default: wifi-5")
    default = parse_scenario(text, "q", ["network.default.delay=5ms"]).network.default
    assert default is not None
    assert (default.type, default.delay) == ("wifi-5", 0.005)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("devices[1].memory=512MB/s", '--set devices[1].memory: "512MB/s" is not a size (did you mean "512 MB"?)'),
        ("devices[1].memry=1 GiB", '--set devices[1].memry: unknown key "memry" (did you mean "memory"?)'),
        ("devices[7].memory=1 GiB", "--set devices[7].memory: devices has 2 entries, the last is [1]"),
        ("devices.pi=1", "--set devices.pi: devices is not a mapping (write e.g. [0])"),
        ("policy.name=x", "--set policy.name: policy is not a mapping"),
        ("seed[0]=1", '--set seed[0]: seed is not a list'),
        ("seed", "--set seed: write PATH=VALUE, e.g. devices[2].memory=1GiB"),
        ("=1", "--set =1: write PATH=VALUE, e.g. devices[2].memory=1GiB"),
        ("a b=1", "--set a b: not a path (write e.g. devices[2].memory)"),
        ("network" + ".delay" * 400_000 + "=1", "--set network.delay.delay: nested too deeply"),
        ("seed=", "--set seed: nothing is not a whole number"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong(setting: str, message: str):
    assert error_of(TEXT.replace("policy:", "seed: 0\npolicy:"), setting) == message


def test_a_setting_does_not_reach_what_an_alias_shares():
    text = TEXT.replace("default: {", "default: &link {").replace("bandwidth: 10 Mbit/s, delay: 25 ms", "delay: 1 ms")
    text = text.replace("delay: 5 ms}", "delay: {uniform: &range {low: 1 ms, high: 2 ms}}, jitter: {uniform: *range}}")
    scenario = parse_scenario(text, "q", ["network.links[1].jitter.uniform.high=3 ms"])
    link = scenario.network.links[1]
    assert link.delay.uniform.high == 0.002  # type: ignore[union-attr]
    assert link.jitter.uniform.high == 0.003  # type: ignore[union-attr]


# -- the rest -------------------------------------------------------------------------------------------------


def test_an_error_found_later_still_has_its_place(tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_text(TEXT)
    assert str(load_scenario(path).error("policy", "is not a policy")) == f"{path}:13: policy: is not a policy"
    overridden = load_scenario(path, ["policy=gredy"])
    assert str(overridden.error("policy", "is not a policy")) == "--set policy: is not a policy"


def test_a_name_is_made_of_the_files(tmp_path: Path):
    path = tmp_path / "my first try.yaml"
    path.write_text(TEXT)
    assert load_scenario(path).name == "my-first-try"


@given(st.text(max_size=20))
def test_text_survives_yaml(text: str):
    """Whatever a prompt says: also what YAML 1.1 or 1.2 would read as a number, a boolean or nothing."""
    try:
        data = {"prompts": [text], text: 1}
        written = write(data)
    except UnicodeEncodeError:  # a lone surrogate is no text in UTF-8
        return
    assert read(written, "x").data == data


@pytest.mark.parametrize("text", ["no", "1e9", "0o17", "1:30", "~", "", ".inf", "2001-01-01", "0x1F", "null", "="])
def test_text_that_looks_like_something_else_survives_yaml(text: str):
    assert read(write([text]), "x").data == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("True", True), ("tRUE", "tRUE"), ("1e3", 1000.0), ("0x1F", 31), ("1:30", "1:30"), ("~", None)],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: Any):
    found = read(text, "x").data
    assert (found, type(found)) == (value, type(value))


def test_python_callers_get_pydantics_error():
    with pytest.raises(ValidationError, match="devices"):
        Scenario.model_validate({"name": "x", "model": "gpt2", "workload": {"prompts": ["x"]}})


def test_the_schema_describes_the_file():
    schema = scenario_json_schema()
    json.dumps(schema)
    assert set(schema["required"]) == {"model", "devices", "workload"}
    assert schema["additionalProperties"] is False
    assert "Distribution-of-a-duration" in schema["$defs"]
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert references <= schema["$defs"].keys()
    device = schema["$defs"]["DeviceSpec"]["properties"]
    assert any("512 MiB" in json.dumps(option) for option in device["memory"]["anyOf"])
    assert schema["$defs"]["LinkOverride"]["properties"].keys() >= {"between", "from", "to", "type", "delay"}


@pytest.mark.parametrize("overrides", [(), ("seed=3",), ("devices[0].count=2",)])
def test_an_empty_scenario_is_said_to_be_empty(overrides: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=r"empty\.yaml:1: is empty; a scenario names at least a model"):
        parse_scenario("# nothing\n", "empty", overrides)
