"""Several runs are read as one table that says which of them each row is of, and what was true at the time."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.commands import Edgeemu

from edgeemu.errors import RequestError
from edgeemu.records import read_runs
from edgeemu.report.record_files import read_table

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 50, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 GiB}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 1 GiB}
network: {default: {bandwidth: 1 Gbit/s, delay: 0.1 ms}}
events: [{at_token: 4, device: a, speed: 0.1}]
policy: lookahead
decisions: {interval: 4}
workload: {prompts: [{tokens: 3}], max_tokens: 20}
"""


@pytest.fixture
def runs(tmp_path: Path, edgeemu: Edgeemu) -> Path:
    """Two runs of a device that slows down, with seeds 3 and 4."""
    (tmp_path / "two.yaml").write_text(SCENARIO)
    for seed in (3, 4):
        settings = ("--set", f"seed={seed}", "--out", str(tmp_path / "runs" / str(seed)))
        assert edgeemu("simulate", str(tmp_path / "two.yaml"), *settings)[0] == 0
    return tmp_path / "runs"


def test_runs_are_one_table(runs: Path) -> None:
    tokens = read_runs(runs, "tokens", ["sequence", "step", "latency_s"])
    assert tokens.column_names == ["run", "scenario", "policy", "seed", "sequence", "step", "latency_s"]
    assert tokens.column("seed").to_pylist() == [3] * 20 + [4] * 20
    assert set(tokens.column("policy").to_pylist()) == {"lookahead"}
    each = sorted(path.parent for path in runs.rglob("facts.json"))
    assert read_runs(each, "tokens").num_rows == 40
    assert read_runs(each[0], "tokens").num_rows == 20
    assert set(read_runs(each[0], "ops").column("run").to_pylist()) == {each[0].name}


def test_files_say_of_which_run_they_are_and_in_what_units(runs: Path) -> None:
    file = next(runs.rglob("ops.parquet"))
    found = pq.read_schema(file)
    said = {key.decode(): value.decode() for key, value in found.metadata.items() if key.startswith(b"edgeemu.")}
    name = file.parent.name
    assert said.items() >= {
        ("edgeemu.run", name),
        ("edgeemu.scenario", "two"),
        ("edgeemu.policy", "lookahead"),
        ("edgeemu.seed", "3"),
    }
    assert found.field("start_s").metadata[b"unit"] == b"s"
    assert found.field("bytes_read").metadata[b"unit"] == b"B"
    assert found.field("step").metadata is None


def test_what_was_true_what_was_decided_and_who_held_what(runs: Path) -> None:
    run = next(runs.rglob("facts.json")).parent
    conditions = read_table(run, "conditions").to_pylist()
    assert [(row["device"], row["step"], row["speed"]) for row in conditions] == [
        ("a", 0, 1.0),
        ("b", 0, 1.0),
        ("a", 4, 0.1),
    ]
    (change,) = [row for row in read_table(run, "decisions").to_pylist() if row["moves"]]
    assert re.fullmatch(r"a measured at 1[01] % of its speed", change["why"])
    assert change["before_s"] > change["after_s"] > 0
    moved = read_table(run, "migrations").to_pylist()
    assert len(moved) == change["moves"]
    assert change["migration_s"] == pytest.approx(moved[0]["pause_s"], rel=0.01)
    placements = read_table(run, "placements").to_pylist()
    first = {(row["block"], row["layer"], row["first"]): row["device"] for row in placements if row["epoch"] == 0}
    assert set(first.values()) == {"a"}
    last = {(row["block"], row["layer"], row["first"]): row["device"] for row in placements if row["epoch"]}
    assert set(last.values()) == {"b"}
    assert {(row["step"], row["at_s"]) for row in placements if row["epoch"]} == {(change["step"], moved[0]["ended_s"])}
    latencies = {row["step"]: row["latency_s"] for row in read_table(run, "tokens").to_pylist()}
    assert latencies[change["step"] - 1] == pytest.approx(change["before_s"], rel=0.1)
    assert latencies[change["step"] + 1] == pytest.approx(change["after_s"], rel=0.1)


def test_what_is_not_there_is_refused(runs: Path) -> None:
    for table, columns, why in (
        ("tokns", None, 'there is no table "tokns" .did you mean "tokens"'),
        ("tokens", ["latency"], 'table tokens has no column "latency" .did you mean "latency_s"'),
    ):
        with pytest.raises(RequestError, match=why):
            read_runs(runs, table, columns)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="no such directory"):
        read_runs(runs / "nothing", "tokens")
