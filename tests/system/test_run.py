"""Whole runs with real processes on small models: time, records, memory, failures, and nothing left."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import uvloop
from support.device_pids import device_pids
from support.model_directories import copied, in_one_file, tensors, write_safetensors
from support.watching import RecordedRun

from edgeemu.cluster.draw.cluster import draw
from edgeemu.errors import EdgeemuError, InfeasibleError, RequestError, RunError
from edgeemu.report.record_files import read_table
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import RunResult, run_scenario
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu.scenario.scenario import Scenario
from edgeemu.timeline.kernel_times import KEPT

FIXTURES = Path(__file__).parent.parent / "fixtures"

SMALL = """
name: small
seed: 3
model:
  shape: {n_layers: 3, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 300, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 3 ms}
policy: round-robin
decisions: {time: 0 ms}
time: {dilation: 2}
workload:
  prompts: [{tokens: 9}, {tokens: 4}]
  max_tokens: 6
"""


def scenario(*settings: str) -> Scenario:
    return parse_scenario(SMALL, "small", settings)


def run(tmp_path: Path, *settings: str, policy: str | None = None) -> RunResult:
    return uvloop.run(run_scenario(scenario(*settings), policy=policy, out=tmp_path, observer=Silent()))


def controller(plan: Plan) -> RecordedRun:
    return RecordedRun(plan, ProcessBackend(plan, Silent().phase))


def only_run(base: Path) -> Path:
    (directory,) = base.iterdir()
    return directory


@pytest.mark.parametrize("policy", ["round-robin", "layers", "single"])
def test_the_emulated_time_of_a_paced_run_is_what_the_timeline_alone_says(tmp_path: Path, policy: str) -> None:
    """To the last bits, not within a tolerance: no pipe is shared, so the host's lateness has no way in."""
    made = run(tmp_path, policy=policy)
    tokens = read_table(made.directory, "tokens").to_pylist()
    predictions = make_plan(scenario(), policy).predictions()
    for sequence in range(2):
        rows = [row for row in tokens if row["sequence"] == sequence]
        predicted = predictions[sequence]
        began_s = rows[0]["emulated_s"] - rows[0]["latency_s"]
        expected = [sampled_s - predicted.start_s for sampled_s in predicted.sampled_s]
        assert [row["emulated_s"] - began_s for row in rows] == pytest.approx(expected, rel=1e-9)


def test_virtual_mode_keeps_the_same_time_and_the_same_tokens(tmp_path: Path) -> None:
    once = "decisions.interval=9"  # as good as never: what a policy takes of such short tokens would be a warning
    paced = run(tmp_path / "paced", once).summary
    virtual = run(tmp_path / "virtual", once, "time.mode=virtual").summary
    assert virtual["tokens"] == paced["tokens"]
    assert virtual["tpot_ms"]["mean"] == pytest.approx(paced["tpot_ms"]["mean"], rel=1e-9)
    assert virtual["certificate"]["verdict"] == "PASS"


def test_an_interface_that_all_share_is_booked_alike_by_devices_and_simulator(tmp_path: Path) -> None:
    settings = ("devices[0].nic=5 Mbit/s", "devices[1].nic=5 Mbit/s", "time.mode=virtual")
    made = run(tmp_path, *settings)
    predicted = make_plan(scenario(*settings)).predictions()[0].tpot_s
    tokens = [row for row in read_table(made.directory, "tokens").to_pylist() if row["sequence"] == 0]
    tpot_s = (tokens[-1]["emulated_s"] - tokens[0]["emulated_s"]) / (len(tokens) - 1)
    assert tpot_s == pytest.approx(predicted, rel=1e-9)


def test_devices_relative_to_the_host_are_timed_by_their_own_kernels(tmp_path: Path) -> None:
    cpu = {"devices[1].gflops=null", "devices[1].mem_bandwidth=null", "devices[1].host_fraction=0.5"}
    made = run(tmp_path, *sorted(cpu, reverse=True), "time.mode=virtual", "workload.max_tokens=24")
    measured_s: dict[str, list[float]] = defaultdict(list)
    compared = 0
    for op in read_table(made.directory, "ops").to_pylist():
        if op["device"].startswith("b") and op["rows"] == 1:
            like_it = measured_s[f"{op['device']} {op['block']} {op['groups']}"]
            like_it.append(op["cpu_s"])
            if len(like_it) >= KEPT:  # before that, those of the warm-up count, too
                usual_s = sorted(like_it[-KEPT:])[KEPT // 4]
                assert op["end_s"] - op["start_s"] == pytest.approx(usual_s / 0.5)
                compared += 1
    assert compared
    assert any("figures contain the speed of this host" in reason for reason in made.summary["certificate"]["reasons"])


def test_a_run_leaves_its_records(tmp_path: Path) -> None:
    made = run(tmp_path)
    assert only_run(tmp_path) == made.directory
    names = {path.name for path in made.directory.iterdir()}
    assert names == {
        "scenario.yaml",
        "meta.json",
        "facts.json",
        "summary.json",
        "tokens.parquet",
        "sequences.parquet",
        "ops.parquet",
        "migrations.parquet",
        "decisions.parquet",
        "placements.parquet",
        "conditions.parquet",
        "devices.parquet",
        "links.parquet",
        "faults.parquet",
        "recoveries.parquet",
    }
    summary = json.loads((made.directory / "summary.json").read_text())
    assert summary == made.summary
    assert [len(tokens) for tokens in summary["tokens"]] == [6, 6]
    assert summary["ended"] == "done"
    tokens = read_table(made.directory, "tokens").to_pylist()
    assert [row["token"] for row in tokens] == [token for sequence in summary["tokens"] for token in sequence]
    plan = make_plan(scenario())
    ops = read_table(made.directory, "ops").to_pylist()
    assert len(ops) == len(plan.program.ops) * 12  # every operation of every step of both sequences
    assert {op["device"] for op in ops} == {"a", "b-1", "b-2"}
    assert all(op["ready_s"] <= op["start_s"] <= op["end_s"] for op in ops)


def test_the_resolved_scenario_runs_again_to_the_same_cluster_and_text(tmp_path: Path) -> None:
    drawn = "devices[1].gflops={lognormal: {low: 1 GFLOPS, high: 5 GFLOPS}}"
    first = run(tmp_path / "first", drawn, "time.mode=virtual")
    again = load_scenario(first.directory / "scenario.yaml")
    assert draw(again) == draw(scenario(drawn))
    second = uvloop.run(run_scenario(again, policy=None, out=tmp_path / "second", observer=Silent()))
    assert second.summary["tokens"] == first.summary["tokens"]
    assert second.summary["tpot_ms"] == first.summary["tpot_ms"]


def test_memory_that_devices_charge_is_what_was_planned(tmp_path: Path) -> None:
    """Never more than the page, and all weights and caches of it."""
    made = run(tmp_path)
    plan = make_plan(scenario())
    for device, page in zip(plan.cluster.devices, plan.pages, strict=True):
        peak_bytes = made.summary["memory"]["by_device"][device.name]["peak_bytes"]
        assert page.weights_bytes < peak_bytes <= page.total_bytes


def test_sampling_repeats_with_its_seed(tmp_path: Path) -> None:
    hot = ("workload.sampling.temperature=0.9", "time.mode=virtual")
    texts = [
        run(tmp_path / name, *hot, f"workload.sampling.seed={seed}").summary["tokens"]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_cluster_that_is_too_small_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"(?s)no device has room for .*b-1: .* taken"):
        run(tmp_path, "devices[0].memory=100 KiB", "devices[1].memory=100 KiB")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_runs_out_of_memory_says_so() -> None:
    """The ledger is the device's own: here it is told less memory than the plan was made with."""
    plan = make_plan(scenario())
    small = [replace(device, memory_bytes=50_000) for device in plan.cluster.devices]
    plan.cluster.devices = tuple(small)

    with pytest.raises(InfeasibleError, match=r"is out of memory: weights needs .* B more"):
        uvloop.run(controller(plan).run())


class Saboteur(Silent):
    """Does something to a run at its third token."""

    def __init__(self) -> None:
        self.seen = 0

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, step, text, latency_s
        self.seen += 1
        if self.seen == 3:
            self.act()

    def act(self) -> None:
        raise NotImplementedError


def test_a_killed_device_ends_the_run_with_its_name(tmp_path: Path) -> None:
    class Killer(Saboteur):
        def act(self) -> None:
            os.kill(device_pids()[-1], signal.SIGKILL)

    with pytest.raises(RunError, match="device b-2 was killed by SIGKILL"):
        uvloop.run(run_scenario(scenario(), policy=None, out=tmp_path, observer=Killer()))
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["ended"] == "failed"
    assert len(summary["tokens"][0]) >= 3


def test_a_cancelled_run_is_recorded_and_leaves_nothing(tmp_path: Path) -> None:
    class Canceller(Saboteur):
        def act(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def main() -> None:
        await run_scenario(scenario(), policy=None, out=tmp_path, observer=Canceller())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    directory = only_run(tmp_path)
    assert json.loads((directory / "summary.json").read_text())["ended"] == "failed"
    assert read_table(directory, "tokens").num_rows == 3


def test_a_model_file_that_changes_after_planning_is_named(tmp_path: Path, smollm2_gguf: Path) -> None:
    copy = tmp_path / "model.gguf"
    copy.write_bytes(smollm2_gguf.read_bytes())
    text = SMALL.replace(SMALL[SMALL.index("model:") : SMALL.index("devices:")], f"model: {{gguf: {copy}}}\n")
    small = parse_scenario(text, "small", ["devices[0].memory=2 GiB"])
    plan: Plan = make_plan(small, "single")
    os.truncate(copy, 60_000_000)
    with pytest.raises(EdgeemuError, match=r"a: .*model\.gguf"):
        uvloop.run(controller(plan).run())


def test_a_tokenizer_that_cannot_decode_is_the_models_fault(tmp_path: Path) -> None:
    """Found when the first token has come: the expression in its decoder never ends."""
    for file in (FIXTURES / "golden_gpt2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokens = {f"{'a' * 40}{i}": i for i in range(101)}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(tokens, unk_token=next(iter(tokens))))
    core.decoder = tokenizers.decoders.Replace(tokenizers.Regex("(a+)+$"), "")
    core.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(RequestError, match=r"model: .*tokenizer.json: tokenizer: .*retry-limit-in-match"):
        run(tmp_path / "out", f"model={{directory: {tmp_path}}}", "policy=single", "devices[0].memory=64 MiB")
    assert json.loads((only_run(tmp_path / "out") / "summary.json").read_text())["ended"] == "failed"


def test_a_model_that_computes_no_numbers_is_refused_at_its_token(tmp_path: Path) -> None:
    """Weights that are finite can lead to logits that are not; no token can be sampled from them."""
    here = in_one_file(copied(FIXTURES / "golden_llama", tmp_path / "huge"))
    stored = tensors(here)
    huge = {name: np.full_like(array, 3e38) for name, array in stored.items() if name.endswith("o_proj.weight")}
    write_safetensors(here / "model.safetensors", stored | huge)
    text = SMALL.replace(SMALL[SMALL.index("model:") : SMALL.index("devices:")], "model: {directory: huge}\n")
    small = parse_scenario(text, "small", ["time.mode=virtual"], base=tmp_path)
    with pytest.raises(RequestError, match=r"^[ab].*: logits of token 0 \(from 0\) are not finite \(nan\)"):
        uvloop.run(run_scenario(small, policy="layers", out=tmp_path / "runs", observer=Silent()))
