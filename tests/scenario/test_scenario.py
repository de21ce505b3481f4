"""Scenarios: what they may say, and that every mistake is answered with file, line, field and a way out."""
# ruff: noqa: E501  # one mistake and its message a line

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeemu.errors import RequestError
from edgeemu.scenario.document import read, write
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml
from edgeemu.scenario.reference import scenario_json_schema
from edgeemu.scenario.scenario import Scenario

SHIPPED = sorted((Path(__file__).parents[2] / "scenarios").glob("**/*.yaml"))

TEXT = """\
model: smollm2-135m-instruct
devices:
  - {name: pi, profile: raspberry-pi-4, count: 2, memory: 512 MiB}
  - name: laptop
    profile: laptop-cpu
    memory: 1 GiB
network:
  topology: mesh
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
  links:
    - {between: [pi, laptop], bandwidth: 10 Mbit/s, delay: 25 ms}
    - {from: pi-1, to: pi-2, delay: 5 ms}
policy: greedy
workload:
  prompts: [Why is the sky blue?, {text: And the sea?, max_tokens: 8}]
time: {mode: realtime, dilation: auto}
"""


def _error(text: str, *overrides: str) -> str:
    with pytest.raises(RequestError) as caught:
        parse_scenario(text, "quickstart", overrides)
    return str(caught.value)


def test_a_scenario_holds_base_units_and_defaults():
    scenario = parse_scenario(TEXT, "quickstart")
    assert scenario.name == "quickstart"
    assert scenario.device_names == ("pi-1", "pi-2", "laptop")
    assert scenario.devices[0].memory == 512 * 2**20
    assert scenario.network.links[0].delay == 0.025
    assert [prompt.max_tokens for prompt in scenario.workload.prompts] == [None, 8]
    assert (scenario.seed, scenario.time.dilation, scenario.workload.chat) == (0, "auto", "auto")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_scenarios_that_ship_are_valid(path):
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    assert parse_scenario(to_yaml(scenario)) == scenario


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # units, keys and names
        ("memory: 1 GiB", "memory: 512MB/s", ':6: devices[1].memory: "512MB/s" is not a size (did you mean "512 MB"?)'),
        ("memory: 1 GiB", "memroy: 1 GiB", ':6: devices[1].memroy: unknown key "memroy" (did you mean "memory"?)'),
        ("memory: 1 GiB", "memory: 0 GiB", ':6: devices[1].memory: "0 GiB" must be more than zero'),
        ("memory: 1 GiB", "memory: .nan", ':6: devices[1].memory: nan is not a size (write e.g. "512 MiB")'),
        ("laptop-cpu", "laptopcpu", ':5: devices[1].profile: there is no device profile "laptopcpu" in the catalog (did you mean "laptop-cpu"?)'),
        ("smollm2-135m-instruct", "smollm2-135m-instuct", ':1: model.name: there is no model "smollm2-135m-instuct" in the catalog (did you mean "smollm2-135m-instruct"?)'),
        ("mesh", "mash", ':8: network.topology: "mash" is not known here (did you mean "mesh"?)'),
        ("realtime", "fast", ":16: time.mode: \"fast\" is not known here (\"realtime\" or \"virtual\")"),
        ("name: laptop", "name: lap top", ':4: devices[1].name: "lap top" is not a name: use letters, digits, ".", "_" and "-" (at most 64)'),
        ("name: laptop", "name: pi-2", ':3: devices[0].name: there are two devices named "pi-2"'),
        # kinds of values
        ("count: 2", "count: two", ':3: devices[0].count: "two" is not a whole number'),
        ("count: 2", "count: 0", ":3: devices[0].count: 0 is less than 1"),
        ("count: 2", "count: 20000", ":3: devices[0].count: 20000 is more than 10000"),
        ("policy: greedy", "policy: ", ":13: policy: nothing is not text"),
        ("workload:\n", "workload:\n  chat: maybe\n", ':15: workload.chat: "maybe" is not known here ("auto")'),
        ("workload:\n", "workload:\n  chat: 1\n", ":15: workload.chat: 1 is neither true nor false"),
        ("delay: 2 ms}", "delay: 2 ms, loss: 5}", ':9: network.default.loss: 5 must be less than 1 (did you mean "5 %"?)'),
        ("delay: 2 ms}", "delay: 2 ms, reorder: 1 %}", ":9: network.default.reorder: is for real packets (backend: kernel); this is stamped"),
        ("dilation: auto", "dilation: 0", ":16: time.dilation: 0 is less than 0.001"),
        ("dilation: auto", "dilation: .inf", ":16: time.dilation: inf is not a number"),
        ("dilation: auto", "dilation: atuo", ':16: time.dilation: "atuo" is not known here (did you mean "auto"?)'),
        ("[Why is the sky blue?,", "[5,", ":15: workload.prompts[0]: 5 is neither text nor a mapping (put it in quotes)"),
        ("{text: And the sea?,", "{text: And the sea?, tokens: 4,", ":15: workload.prompts[1]: give exactly one of text and tokens, not text and tokens"),
        ("\n  prompts: [Why is the sky blue?, {text: And the sea?, max_tokens: 8}]", " 3", ":14: workload: 3 is not a mapping"),
        # distributions
        ("memory: 1 GiB", "memory: {uniform: {low: 2 GiB, high: 1 GiB}}", ":6: devices[1].memory.uniform.high: is less than low"),
        ("memory: 1 GiB", "memory: {uniform: {low: 2 GiB}}", ":6: devices[1].memory.uniform.high: is missing"),
        ("memory: 1 GiB", "memory: {normal: {low: 2 GiB, high: 3 GiB}}", ':6: devices[1].memory.normal: unknown key "normal" (did you mean "lognormal"?)'),
        ("memory: 1 GiB", "memory: {}", ":6: devices[1].memory: give exactly one of lognormal and uniform"),
        ("delay: 2 ms", "delay: {lognormal: {low: 0 ms, high: 1 ms}}", ":9: network.default.delay.lognormal.low: must be more than zero"),
        # what belongs together
        ("    profile: laptop-cpu\n", "", ":4: devices[1].gflops: is missing (or name a profile, which has one)"),
        ("memory: 1 GiB", "host_fraction: 1\n    gflops: 1 GFLOPS", ":7: devices[1].gflops: and host_fraction exclude each other"),
        ("  default: {bandwidth: 100 Mbit/s, delay: 2 ms}\n", "", ":7: network.default: is missing (the link between any two devices)"),
        ("bandwidth: 100 Mbit/s, ", "", ":9: network.default.bandwidth: is missing (or name a link type, which has one)"),
        ("[pi, laptop]", "[pi, laptpo]", ':11: network.links[0].between[1]: there is no device "laptpo" (did you mean "laptop"?)'),
        ("to: pi-2", "to: pi-3", ':12: network.links[1].to: there is no device "pi-3" (did you mean "pi-2"?)'),
        ("from: pi-1, ", "", ":12: network.links[1].from: is missing"),
        ("[pi, laptop]", "[pi, laptop, pi]", ":11: network.links[0].between: names 3 devices; a link is between two"),
        ("[pi, laptop]", "[laptop, laptop]", ':11: network.links[0]: "laptop" and "laptop" are not joined'),
        ("topology: mesh", "topology: star", ':11: network.links[0]: in a star one end of a link is the access point, "ap"'),
        ("topology: mesh", "star: {}", ':8: network.star: is only for "topology: star"; this is "topology: mesh"'),
        # YAML
        ("policy: greedy", "policy: greedy\nmodel: gpt2", ':14: the key "model" is here twice (first on line 1)'),
        ("policy: greedy", "policy: !!python/name:os.system x", ":13: policy: the tag tag:yaml.org,2002:python/name:os.system is not supported here"),
        ("policy: greedy", "policy: *greedy", ":13: policy: there is no complete value named &greedy before"),
        ("policy: greedy", "policy: &a [*a]", ":13: policy[0]: there is no complete value named &a before"),
        ("policy: greedy", "policy: \x01", ":13: not YAML: it has the character U+0001"),
        ("name: laptop", "name: " + "é" * 200 + "\udcff", ":4: not YAML: it has the character U+DCFF"),
        ("policy: greedy", "policy: " + "[" * 20_000, ":13: policy[0][0]: nested too deeply"),
        ("policy: greedy", "policy: greedy\n---\nseed: 1", ":14: a second document begins here; there can be one"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_place(old: str, new: str, message: str):
    assert old in TEXT
    assert _error(TEXT.replace(old, new, 1)) == "quickstart.yaml" + message


def test_several_mistakes_are_one_error_with_a_line_each():
    text = TEXT.replace("memory: 1 GiB", "memory: 1 GiB/s").replace("delay: 5 ms", "dealy: 5 ms")
    assert _error(text).splitlines() == [
        'quickstart.yaml:6: devices[1].memory: "1 GiB/s" is not a size (did you mean "1 GiB"?)',
        'quickstart.yaml:12: network.links[1].dealy: unknown key "dealy" (did you mean "delay"?)',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a scenario names at least a model, devices and a workload"),
        ("# nothing\n", "is empty; a scenario names at least a model, devices and a workload"),
        ("- a\n- b\n", "a list is not a mapping"),
        ("5", "5 is not a mapping"),
    ],
)
def test_what_is_no_scenario_at_all_is_refused(text, message):
    assert _error(text) == f"quickstart.yaml:1: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, f"{os.strerror(errno.ENOENT).lower()} (did you mean"), (b"\xff\xfe\x00", "is not text in UTF-8")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str):
    (tmp_path / "quickstart.yaml").write_text(TEXT)
    path = tmp_path / "quickstrat.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        load_scenario(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_directory_is_no_scenario(tmp_path: Path):
    directory = tmp_path / "cluster.yaml"
    directory.mkdir()
    with pytest.raises(RequestError) as caught:
        load_scenario(directory)
    assert str(caught.value) == f"{directory}: {os.strerror(errno.EISDIR).lower()}"


# -- models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{gguf: nowhere.gguf}", 'model.gguf: there is no file "nowhere.gguf"'),
        ("{directory: nowhere}", 'model.directory: there is no directory "nowhere"'),
        ("{name: gpt2, gguf: x.gguf}", 'model.gguf: there is no file "x.gguf"'),
        ("{layers: 2}", "model: give exactly one of name, gguf, directory and shape"),
        ("{name: gpt2, layers: 0}", "model.layers: 0 is less than 1"),
        ("{shape: {n_layers: 2}}", "model.shape.d_model: is missing"),
    ],
)
def test_a_model_that_cannot_be(model: str, message: str):
    found = _error(TEXT.replace("smollm2-135m-instruct", model))
    assert found.startswith(f"quickstart.yaml:1: {message}")


def test_a_path_is_relative_to_the_scenario_and_then_absolute(tmp_path: Path):
    (tmp_path / "tiny.gguf").touch()
    (tmp_path / "s.yaml").write_text(TEXT.replace("smollm2-135m-instruct", "{gguf: tiny.gguf}"))
    scenario = load_scenario(tmp_path / "s.yaml")
    assert scenario.model.gguf == tmp_path / "tiny.gguf"
    assert scenario.model.weights().gguf == tmp_path / "tiny.gguf"
    assert parse_scenario(to_yaml(scenario)).model == scenario.model


def test_a_directory_needs_a_config(tmp_path: Path):
    text = TEXT.replace("smollm2-135m-instruct", f"{{directory: {tmp_path}}}")
    assert _error(text) == f'quickstart.yaml:1: model.directory: there is no config.json in "{tmp_path}"'
    (tmp_path / "config.json").touch()
    assert parse_scenario(text).model.weights().directory == tmp_path


def test_layers_of_a_file_cannot_be_chosen(tmp_path: Path):
    (tmp_path / "a.gguf").touch()
    text = TEXT.replace("smollm2-135m-instruct", f"{{gguf: {tmp_path}/a.gguf, layers: 2}}")
    assert _error(text) == "quickstart.yaml:1: model.layers: is for seeded weights; these come from the gguf"


@pytest.mark.parametrize(
    ("model", "layers", "seed"),
    [
        ("gpt2", 12, 0),
        ("{name: llama-2-7b, layers: 4}", 4, 0),
        ("{name: smollm2-135m-instruct, layers: 2}", 2, 0),
        ("{name: smollm2-135m-instruct, weights_seed: 3}", 30, 3),
    ],
)
def test_seeded_weights(model: str, layers: int, seed: int):
    weights = parse_scenario(TEXT.replace("smollm2-135m-instruct", model)).model.weights()
    assert weights.gguf is None
    assert weights.seed == seed
    assert weights.shape is not None
    assert weights.shape.n_layers == layers


def test_the_packages_weights():
    weights = parse_scenario(TEXT).model.weights()
    assert weights.seed is None
    assert weights.gguf is not None
    assert weights.gguf.is_file()
    assert weights.shape is not None


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
        ("seed=", "--set seed: nothing is not a whole number"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong(setting: str, message: str):
    assert _error(TEXT.replace("policy:", "seed: 0\npolicy:"), setting) == message


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
