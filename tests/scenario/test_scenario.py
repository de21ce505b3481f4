"""Scenarios: what they may say, and that every mistake is answered with file, line, field and a way out."""
# ruff: noqa: E501  # one mistake and its message a line

import errno
import os
from pathlib import Path

import pytest
from support.scenario_text import TEXT, error_of

from edgeemu.errors import RequestError
from edgeemu.scenario.load import load_scenario, parse_scenario, to_yaml

SHIPPED = sorted((Path(__file__).parents[2] / "scenarios").glob("**/*.yaml"))


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
        ("delay: 2 ms}", "delay: 2 ms, loss: 100 %}", ':9: network.default.loss: "100 %" must be less than 1: nothing would ever arrive; an outage is a fault: down, or a rate of 0 in a bandwidth_trace'),
        ("delay: 2 ms}", "delay: 20 ms, jitter: 30 ms}", ":9: network.default.jitter: is more than the delay, 20 ms; a message cannot arrive before it is sent"),
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
        ("policy: greedy", "decisions: {time: measurd}", ':13: decisions.time: "measurd" is not known here (did you mean "measured"?)'),
        ("policy: greedy", "decisions: {time: 5 m}", ':13: decisions.time: "5 m" is not a duration (write e.g. "25 ms")'),
        ("policy: greedy", "decisions: {on: laptop}", ":13: decisions.on: scales what is measured: give time: measured, or leave it out"),
        ("policy: greedy", "precision: {weights: Q4_0}", ':13: precision.weights: "Q4_0" is not known here (did you mean "q4_0"?)'),
        ("policy: greedy", "decisions: {time: measured, on: pi}", ':13: decisions.on: "pi" is 2 devices; name one, pi-1 to pi-2'),
        ("policy: greedy", "decisions: {time: measured, on: laptpo}", ':13: decisions.on: there is no device "laptpo" (did you mean "laptop"?)'),
        # YAML
        ("policy: greedy", "policy: greedy\nmodel: gpt2", ':14: the key "model" is here twice (first on line 1)'),
        ("policy: greedy", "policy: !!python/name:os.system x", ":13: policy: the tag tag:yaml.org,2002:python/name:os.system is not supported here"),
        ("policy: greedy", "policy: *greedy", ":13: policy: there is no complete value named &greedy before"),
        ("policy: greedy", "policy: &a [*a]", ":13: policy[0]: there is no complete value named &a before"),
        ("policy: greedy", "policy: \x01", ":13: not YAML: it has the character U+0001"),
        ("name: laptop", "name: " + "é" * 200 + "\udcff", ":4: not YAML: it has the character U+DCFF"),
        ("policy: greedy", "policy: " + "[" * 20_000, ":13: policy[0][0]: nested too deeply"),
        ("policy: greedy", "policy: greedy\nseed: " + "9" * 5000, ":14: seed: a number of 5000 characters; at most 100 are read"),
        ("policy: greedy", "policy: greedy\nseed: 0x" + "f" * 99, ":14: seed: a number of 101 characters; at most 100 are read"),
        ("policy: greedy", "policy: greedy\nseed: 1" + "0" * 60, ":14: seed: 1" + "0" * 60 + " is not less than 9223372036854775808"),
        ("policy: greedy", "policy: greedy\n<<: 5", ":14: a merge key (<<) takes a mapping, or a list of mappings"),
        ("policy: greedy", 'policy: greedy\n"<<": {}', ':14: <<: unknown key "<<"'),
        ("policy: greedy", "policy: greedy\n? [a]\n: 1", ":14: a key must be text"),
        ("policy: greedy", "policy: greedy\n---\nseed: 1", ":14: a second document begins here; there can be one"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_its_place(old: str, new: str, message: str):
    assert old in TEXT
    assert error_of(TEXT.replace(old, new, 1)) == "quickstart.yaml" + message


def test_several_mistakes_are_one_error_with_a_line_each():
    text = TEXT.replace("memory: 1 GiB", "memory: 1 GiB/s").replace("delay: 5 ms", "dealy: 5 ms")
    assert error_of(text).splitlines() == [
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
    assert error_of(text) == f"quickstart.yaml:1: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"{os.strerror(errno.ENOENT).lower()} (did you mean"),
        (b"\xff\xfe\x00", "is text in UTF-16; save it in UTF-8"),
    ],
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
    assert str(caught.value) == f"{directory}: is a directory, not a file"


# -- models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{gguf: nowhere.gguf}", 'model.gguf: there is no file "nowhere.gguf"'),
        ("{directory: nowhere}", 'model.directory: there is no directory "nowhere"'),
        ("{name: gpt2, gguf: x.gguf}", 'model.gguf: there is no file "x.gguf"'),
        ("{layers: 2}", "model: give exactly one of name, gguf, directory and shape"),
        ("{name: gpt2, layers: 0}", "model.layers: 0 is less than 1"),
        ("{name: gpt2, layers: 1000000000}", "model.layers: 1000000000 is more than 4096"),
        ("{shape: {n_layers: 2}}", "model.shape.d_model: is missing"),
    ],
)
def test_a_model_that_cannot_be(model: str, message: str):
    found = error_of(TEXT.replace("smollm2-135m-instruct", model))
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
    assert error_of(text) == f'quickstart.yaml:1: model.directory: there is no config.json in "{tmp_path}"'
    (tmp_path / "config.json").touch()
    assert parse_scenario(text).model.weights().directory == tmp_path


def test_layers_of_a_file_cannot_be_chosen(tmp_path: Path):
    (tmp_path / "a.gguf").touch()
    text = TEXT.replace("smollm2-135m-instruct", f"{{gguf: {tmp_path}/a.gguf, layers: 2}}")
    assert error_of(text) == "quickstart.yaml:1: model.layers: is for seeded weights; these come from the gguf"


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


def test_of_a_long_list_the_first_mistake_is_told():
    """An error takes a kilobyte, and a text of a megabyte has room for 300,000."""
    few, many = (TEXT.replace("[Why is the sky blue?, ", "[" + "{b: 1}, " * n) for n in (50, 5000))
    assert error_of(few).endswith("(and 40 more)")
    assert error_of(many) == 'quickstart.yaml:15: workload.prompts[0].b: unknown key "b"'
    stops = TEXT.replace("max_tokens: 8}]", "max_tokens: 8, stop: [" + "{}, " * 5000 + "]}]")
    assert error_of(stops) == "quickstart.yaml:15: workload.prompts[1].stop[0]: a mapping is not text"
