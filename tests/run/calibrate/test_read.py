"""Measurements from every kind of file, and refusals with file, row and reason."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from edgeemu.errors import RequestError
from edgeemu.run.calibrate.fit import calibrate
from edgeemu.run.calibrate.measurement import HeldAs, Joined, Measurement, link_named, model_named, weight_format
from edgeemu.run.calibrate.predictor import Predictor
from edgeemu.run.calibrate.profile_text import beside_measurements, profile_text
from edgeemu.run.calibrate.read_csv import Defaults
from edgeemu.run.calibrate.read_measured import read_measured
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.catalog.profile_files import read_profile
from edgeemu.scenario.load import parse_scenario

HEADER = "device,nodes,model,weights,link,value,unit,compute_ms\n"


def read(path: Path, text: str, engine: str | None = None, only=None, fit=None):
    path.write_text(text)
    return read_measured([path], engine, Defaults(), only or {}, fit or {}).rows


@pytest.fixture
def csv(tmp_path):
    return tmp_path / "mine.csv"


def test_a_row_has_what_it_says(csv):
    first, second = read(
        csv, HEADER + "pi,1,Llama 2 7B,Q40,,500,ms,\npi,2,Llama 2 7B,Q40,TP-Link gigabit,4,tok/s,200\n"
    )
    assert (first.taken_s, first.nodes, first.link, first.compute_s) == (0.5, 1, None, None)
    assert (second.taken_s, second.nodes, second.compute_s) == (0.25, 2, 0.2)
    assert second.link == Joined("941 Mbit/s", "40 us")
    assert second.where == f"{csv}:3"
    assert (second.model, second.weights) == ("llama-2-7b", HeldAs("q4_0"))


def test_rows_are_chosen_by_their_columns(csv):
    text = HEADER + "".join(f"{d},{n},Llama 2 7B,Q40,gigabit,4,tok/s,\n" for d in ("pi", "mac") for n in (1, 2, 4))
    rows = read(csv, text, only={"device": ["pi"]}, fit={"nodes": ["1", "2"]})
    assert [(row.nodes, row.fitted) for row in rows] == [(1, True), (2, True), (4, False)]
    with pytest.raises(RequestError, match=r"several devices \(mac, pi\): choose one with --only device=NAME"):
        read(csv, text)
    with pytest.raises(RequestError, match=r'no row has device "pie" \(did you mean "pi"'):
        read(csv, text, only={"device": ["pie"]})


def test_a_prompt_is_measured_in_tokens_of_itself(csv):
    text = "model,weights,nodes,value,unit,metric,context\nLlama 2 7B,Q40,1,20,tok/s,prefill,100\n"
    (row,) = read(csv, text)
    assert (row.phase, row.context, row.taken_s) == ("prefill", 100, 5.0)


def test_an_engine_with_a_sequence_for_each_node_has_them_by_default(csv):
    text = HEADER + "tx2,3,NanoLlama 304M,fp16,gigabit,32,tok/s,\n"
    assert read(csv, text)[0].sequences == 1
    assert read(csv, text, "mdi-llm")[0].sequences == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device,nodes,model,weights,value\n", r'mine.csv:1: there is no column "unit"'),
        (HEADER.replace("value", "valu"), r'there is no column "value" \(did you mean "valu"'),
        (HEADER + "pi,1,Llama 2 7C,Q40,,5,ms,\n", r'mine.csv:2: model: there is no model "Llama 2 7C".*"llama-2-7b"'),
        (HEADER + "pi,1,Llama 2 7B,Q40,,0,ms,\n", r"mine.csv:2: value: 0 is not more than 0"),
        (HEADER + "pi,1,Llama 2 7B,Q40,,-3,ms,\n", r"mine.csv:2: value: -3 is not more than 0"),
        (HEADER + "pi,1,Llama 2 7B,Q40,,fast,ms,\n", r'mine.csv:2: value: "fast" is not a number'),
        (HEADER + "pi,1,Llama 2 7B,Q40,,nan,ms,\n", r"mine.csv:2: value: nan is not more than 0"),
        (HEADER + "pi,1,Llama 2 7B,Q40,,5,tok/h,\n", r'mine.csv:2: unit: "tok/h" is not a unit.*"tok/s"'),
        (HEADER + "pi,2,Llama 2 7B,Q40,,5,ms,\n", r"mine.csv:2: link: is missing: 2 nodes"),
        (HEADER + "pi,2,Llama 2 7B,Q40,string,5,ms,\n", r'mine.csv:2: link: "string" is neither a link type'),
        (HEADER + "pi,1.5,Llama 2 7B,Q40,,5,ms,\n", r'mine.csv:2: nodes: "1.5" is not a whole number'),
        (HEADER + "pi,0,Llama 2 7B,Q40,,5,ms,\n", r"mine.csv:2: nodes: 0 is not more than 0"),
        (HEADER + "pi,,Llama 2 7B,Q40,,5,ms,\n", r"mine.csv:2: nodes: is missing"),
        (HEADER + "pi,1,Llama 2 7B,not stated,,5,ms,\n", r'"not stated" is no known format .*bits_per_weight'),
        (HEADER + "pi,1,Llama 2 7B,Q40,,5,ms,1,2\n", r"mine.csv:2: has more fields than the header"),
        (HEADER, r"mine.csv: has no row"),
    ],
)
def test_a_wrong_row_is_refused_with_file_row_and_reason(csv, text, message):
    with pytest.raises(RequestError, match=message) as caught:
        read(csv, text)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "name", "bits"),
    [
        ("Q40", "q4_0", 4.5),
        ("Q4_K_M (tag default)", "q4_1", 4.84),
        ("fp16", "f16", 16.0),
        ("8-bit", "q8_0", 8.5),
        ("Q2_K", "q4_0", 3.35),
        ("INT4", "q4_0", 4.5),
    ],
)
def test_formats_are_known_by_what_people_write(text, name, bits):
    made = weight_format(text)
    base = {"q4_0": 4.5, "q4_1": 5.0, "f16": 16.0, "q8_0": 8.5}[name]
    assert (made.name, made.stretch * base) == (name, pytest.approx(bits))


def test_names_of_models_and_links_are_known_by_what_people_write():
    assert model_named("Qwen3 235B A22B") == "qwen3-235b-a22b"
    assert model_named("SmolLM2-135M-Instruct") == "smollm2-135m-instruct"
    assert link_named("20 Gbit/s") == Joined("20 Gbit/s", "0 s")


BENCH = {
    "model_type": "llama 1B Q4_0",
    "model_n_params": 1235814432,
    "model_size": 770928640,
    "n_prompt": 512,
    "n_gen": 0,
    "n_depth": 0,
    "avg_ts": 64.0,
}


def test_llama_bench_gives_prompts_and_decoding_apart(tmp_path):
    tests = [BENCH, BENCH | {"n_prompt": 0, "n_gen": 128, "avg_ts": 10.0}]
    for name, text in (("b.json", json.dumps(tests)), ("b.jsonl", "\n".join(map(json.dumps, tests)))):
        prompt, decoding = read(tmp_path / name, text)
        assert (prompt.phase, prompt.context, prompt.taken_s) == ("prefill", 512, 8.0)
        assert (decoding.phase, decoding.context, decoding.taken_s) == ("decode", 64, 0.1)
        assert prompt.model == "llama-3.2-1b"
        assert prompt.weights.name == "q4_1"  # its embedding is q6_k: 5 bits in the mean
        assert prompt.weights.stretch == pytest.approx(8 * 770928640 / 1235814432 / 5.0)
        assert (prompt.engine, prompt.cache) == ("llama.cpp", None)


def test_llama_bench_was_llama_cpp_with_the_caches_that_it_says(tmp_path):
    text = json.dumps([BENCH | {"type_k": "q8_0", "type_v": "q8_0"}])
    assert read(tmp_path / "b.json", text)[0].cache == "q8_0"
    measured = read_measured([tmp_path / "b.json"], None, Defaults(), {}, {})
    assert measured.engine.name == "llama.cpp"
    assert read_measured([tmp_path / "b.json"], "llama.cpp-rpc", Defaults(), {}, {}).engine.name == "llama.cpp-rpc"
    with pytest.raises(RequestError, match=r"b.json\[0\]: was measured with llama.cpp, and not with ideal"):
        read_measured([tmp_path / "b.json"], "ideal", Defaults(), {}, {})


def test_what_a_cache_holds_is_read_with_every_token():
    """Decoding after 2,048 positions reads half as much of a cache in f16 as of one in f32."""
    figures = {"gflops": 1e15, "mem_bandwidth": 10e9}
    row = Measurement("here", "llama-2-7b", HeldAs("q4_0"), 1, None, 0.1, context=2048, cache="f16")
    predictor, held_bytes = Predictor("ideal"), 2048 * 32 * 4096 * 2 * 2
    wide_s = predictor.predict(replace(row, cache=None), figures).taken_s
    assert wide_s - predictor.predict(row, figures).taken_s == pytest.approx(held_bytes / 10e9, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_gen": 5}, r"b.json\[0\]: has n_prompt and n_gen together"),
        ({"type_k": "f16", "type_v": "q8_0"}, r"b.json\[0\]: keys are in f16 and values in q8_0"),
        ({"type_k": "iq4_nl", "type_v": "iq4_nl"}, r"b.json\[0\]: edgeemu has no caches in iq4_nl"),
        ({"avg_ts": 0}, r"b.json\[0\]: avg_ts: 0 is not more than 0"),
        ({"model_n_params": 5}, r"b.json\[0\]: model_n_params: the catalog has no model of .* give --model"),
    ],
)
def test_a_wrong_entry_of_llama_bench_is_refused(tmp_path, change, message):
    with pytest.raises(RequestError, match=message):
        read(tmp_path / "b.json", json.dumps([BENCH | change]))


@pytest.mark.parametrize("text", ["{}", "[]", '{"a": 1}', "nothing"])
def test_other_json_is_refused(tmp_path, text):
    with pytest.raises(RequestError, match=r"b.json"):
        read(tmp_path / "b.json", text)


def test_rows_that_cannot_be_used_are_left_out_and_told(csv):
    good = "pi,1,Llama 2 7B,Q40,,500,ms,\n"
    csv.write_text(HEADER + good + "pi,1,Llama 2 7C,Q40,,5,ms,\n" + good + "pi,1,Llama 2 7B,Q40,,5,ms,1,2\n")
    measured = read_measured([csv], None, Defaults(), {}, {})
    assert [row.where for row in measured.rows] == [f"{csv}:2", f"{csv}:4"]
    assert len(measured.left_out) == 2
    assert measured.left_out[0] == f"{csv}:5: has more fields than the header"
    assert measured.left_out[1].startswith(f'{csv}:3: model: there is no model "Llama 2 7C"')


GPU = {"backends": "CUDA", "n_gpu_layers": 99}
DECODING = {"n_prompt": 0, "n_gen": 128, "avg_ts": 10.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_n_params": 5, "model_type": "gpt2 5B"}, 'model_n_params: the catalog has no model of .* ."gpt2 5B"'),
        ({"avg_ts": 0}, "avg_ts: 0 is not more than 0"),
        ({"avg_ts": None}, "avg_ts: is missing"),
        ({"n_gen": 5}, "has n_prompt and n_gen together"),
        (GPU | {"n_gpu_layers": 10}, "n_gpu_layers: 10 of 17 layers were computed with CUDA"),
        (GPU, "n_gpu_layers: was computed with CUDA, and others of the file by the processor"),
    ],
)
@pytest.mark.parametrize("lines", [False, True])
def test_one_wrong_entry_of_llama_bench_leaves_the_others(tmp_path, change, reason, lines):
    entries = [BENCH | {"n_gpu_layers": 0}, BENCH | change, BENCH | DECODING]
    text = "\n".join(map(json.dumps, entries)) if lines else json.dumps(entries)
    (tmp_path / "b.json").write_text(text)
    measured = read_measured([tmp_path / "b.json"], None, Defaults(), {}, {})
    assert [row.where for row in measured.rows] == [f"{tmp_path / 'b.json'}[{n}]" for n in (0, 2)]
    (told,) = measured.left_out
    assert re.search(rf"b.json\[1\]: {reason}", told)


def test_layers_of_an_accelerator_alone_and_of_builds_without_one_are_used(tmp_path):
    for backends in ("CPU", "BLAS,CPU", "CUDA"):
        entries = [BENCH | {"backends": backends, "n_gpu_layers": 99}, BENCH | DECODING]
        (tmp_path / "b.json").write_text(json.dumps(entries))
        assert read_measured([tmp_path / "b.json"], None, Defaults(), {}, {}).left_out == []


def test_lines_that_are_no_json_are_left_out(tmp_path):
    (tmp_path / "b.jsonl").write_text(f"warming up\n{json.dumps(BENCH)}\n{json.dumps(BENCH)[:40]}")
    measured = read_measured([tmp_path / "b.jsonl"], None, Defaults(), {}, {})
    assert len(measured.rows) == 1
    assert [re.sub(".*b.jsonl", "", told)[:15] for told in measured.left_out] == [":1: is not JSON", ":3: is not JSON"]


def test_if_no_row_is_left_the_first_reason_is_the_error(tmp_path):
    (tmp_path / "b.json").write_text(json.dumps([BENCH | {"avg_ts": 0}, BENCH | {"n_gen": 5}]))
    with pytest.raises(RequestError, match=r"b.json\[0\]: avg_ts: 0 is not .* \(and 1 more cannot be used"):
        read_measured([tmp_path / "b.json"], None, Defaults(), {}, {})


RUN_OF_OURS = """
model: smollm2-135m
precision: {weights: q8_0}
devices:
  - {name: pi, gflops: 20 GFLOPS, mem_bandwidth: 4 GB/s, memory: 1 GiB, overhead: 100 us, count: 2, MORE}
network: {default: {bandwidth: 941 Mbit/s, delay: 40 us}}
policy: layers
workload: {prompts: [{tokens: 100, repeat: 2}], max_tokens: 8}
time: {mode: virtual}
"""


def ran(tmp_path: Path, more: str) -> Path:
    """Records of a simulation of two boards."""
    scenario = parse_scenario(RUN_OF_OURS.replace("MORE", more))
    return uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=True)).directory


@pytest.mark.parametrize("more", ["", "message_overhead: 5 ms"])
def test_a_run_of_our_own_is_read_and_gives_its_figures_back(tmp_path, more):
    engine, rows, _ = read_measured([ran(tmp_path, more)], None, Defaults(), {}, {})
    assert engine.name == "ideal"
    assert [row.phase for row in rows] == ["prefill", "decode"] * 2
    assert {row.scenario.policy for row in rows} == {"layers"}
    made = calibrate(engine, rows)
    assert made.figures["mem_bandwidth"] == pytest.approx(4e9, rel=0.02)
    assert made.figures["gflops"] == pytest.approx(20e9, rel=0.02)
    assert max(map(abs, made.errors(fitted=True))) < 0.02
    assert "no measurement depends on it" not in made.refused.get("message_overhead", "")
    (tmp_path / "pi.yaml").write_text(profile_text("pi", made, beside_measurements(None, None, "1 GiB")))
    profile = read_profile(tmp_path / "pi.yaml")
    assert (profile.message_overhead.value if profile.message_overhead else 0) == pytest.approx(5e-3 if more else 0)


def test_a_run_under_another_engine_is_not_fitted_under_this_one(tmp_path):
    directory = ran(tmp_path, "")
    with pytest.raises(RequestError, match="was measured with ideal, and not with mdi-llm"):
        read_measured([directory], "mdi-llm", Defaults(), {}, {})
