"""Policies side by side: the figures' order and spread, and the command with real and with simulated runs."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeemu.cli import app
from edgeemu.errors import RequestError
from edgeemu.policies import PARTICULAR, POLICIES
from edgeemu.report.comparison import JUDGED, Entry, comparison, comparison_lines, comparison_table
from edgeemu.run.ask_policy import NoFirstPlacementError
from edgeemu.run.compare import bounds, compare_scenario, left_out, named_policies, optional
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 4096}
devices:
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
  - {name: nano, gflops: 20 GFLOPS, mem_bandwidth: 8 GB/s, memory: 64 MiB}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
workload:
  prompts: [{tokens: 8}, {tokens: 4}]
  max_tokens: 5
decisions: {time: 0 ms}
time: {mode: virtual}
"""

Edgeemu = Callable[..., tuple[int, str, str]]


def summary(tpot_ms: float, tokens: list[list[int]], verdict: str = "PASS") -> dict[str, Any]:
    return {
        "ttft_ms": {"mean": 3 * tpot_ms},
        "tpot_ms": {"mean": tpot_ms},
        "throughput_tok_s": 1000 / tpot_ms,
        "energy": {"per_token_j": 100 / tpot_ms},
        "memory": {"peak_bytes_max": 2**20},
        "migrations": {"count": 3},
        "controller_ms": {"mean": 0.5},
        "tokens": tokens,
        "basis": None,
        "certificate": {"verdict": verdict, "reasons": [] if verdict == "PASS" else [f"it is {verdict}"]},
    }


def compared(*entries: Entry, judged: str = "tpot_ms", **bounds: float) -> dict[str, Any]:
    return comparison("s", entries, judged, words=True, bounds=bounds)


def test_the_best_is_first_and_the_others_say_by_how_much_they_are_behind() -> None:
    slow = Entry("slow", [summary(12.0, [[1]])], ["runs/slow"])
    fast = Entry("fast", [summary(10.0, [[1]])], ["runs/fast"])
    none = Entry("none", [], problem="no room", status=3)
    document = compared(none, slow, fast)
    assert [row["policy"] for row in document["policies"]] == ["fast", "slow", "none"]
    assert [row["gap"] for row in document["policies"]] == [0.0, pytest.approx(0.2), None]
    assert document["first"] == "fast"
    rows = comparison_table(document).rows
    assert rows[1] == ["slow", "36.0 ms", "12.0 ms", "83.33", "8.33 J", "1 MiB", "0.5 ms", "3", "+20.0 %", "PASS"]
    assert rows[2] == ["none", *["–"] * 8, "did not run"]
    equal, possible, problem = comparison_lines(document)
    assert (equal, problem) == ("2 runs: equal tokens", "none: no room")
    assert possible.startswith("possible: not known")


def test_by_throughput_more_is_better() -> None:
    document = compared(
        Entry("a", [summary(12.0, [[1]])]), Entry("b", [summary(10.0, [[1]])]), judged="throughput_tok_s"
    )
    assert [row["policy"] for row in document["policies"]] == ["b", "a"]
    assert document["policies"][1]["gap"] == pytest.approx(0.2)


def test_a_bound_says_how_far_every_policy_is_from_what_is_possible() -> None:
    document = compared(Entry("a", [summary(12.0, [[1]])]), Entry("none", [], problem="no room"), tpot_ms=10.0)
    assert [row["above_bound"] for row in document["policies"]] == [pytest.approx(0.2), None]
    table = comparison_table(document)
    assert table.columns[-2] == ">vs possible"
    assert [row[-2] for row in table.rows] == ["+20.0 %", "–"]
    assert "possible: no placement, divided or not, has less than 10.0 ms per token" in comparison_lines(document)[1]
    other = compared(Entry("a", [summary(12.0, [[1]])]), judged="throughput_tok_s", throughput_tok_s=100.0)
    assert other["policies"][0]["above_bound"] == pytest.approx(0.2)
    assert "has more than 100.00 tokens/s" in comparison_lines(other)[1]


def test_where_no_bound_is_known_a_line_says_so() -> None:
    host = compared(Entry("a", [summary(12.0, [[1]])]))
    assert "there is no proven bound for this cluster" in comparison_lines(host)[1]
    drawn = compared(Entry("a", [summary(10.0, [[1]])]), judged=JUDGED["energy"], tpot_ms=10.0)
    assert comparison_lines(drawn)[1].endswith("there is no proven bound of energy/token")
    nobody = compared(Entry("none", [], problem="no room"))
    assert comparison_lines(nobody)[-1] == "none: no room"


def test_by_energy_the_least_is_first_and_who_has_no_figure_last() -> None:
    unknown = Entry("unknown", [summary(1.0, [[1]]) | {"energy": {"per_token_j": None}}])
    drawn = [Entry("a", [summary(10.0, [[1]])]), Entry("b", [summary(20.0, [[1]])])]
    document = compared(unknown, *drawn, judged=JUDGED["energy"])
    assert [row["policy"] for row in document["policies"]] == ["b", "a", "unknown"]
    assert document["policies"][1]["gap"] == pytest.approx(1.0)
    assert comparison_table(document).rows[2][4] == "–"


def test_repetitions_give_the_median_and_its_spread_and_the_worst_certificate() -> None:
    runs = [summary(ms, [[1]], verdict) for ms, verdict in ((9.0, "PASS"), (10.0, "INVALID"), (14.0, "WARN"))]
    document = compared(Entry("a", runs, ["x", "y", "z"]))
    assert document["policies"][0]["figures"]["tpot_ms"] == {"median": 10.0, "least": 9.0, "most": 14.0}
    assert comparison_table(document).rows[0][2] == "10.0 ±2.5 ms"
    assert document["policies"][0]["certificate"] == "INVALID"
    assert comparison_lines(document)[-1] == "a: INVALID: it is INVALID; it is WARN"


def test_a_figure_that_no_policy_has_is_left_out_of_the_table() -> None:
    unknown = {**summary(1.0, [[1]]), "energy": {"per_token_j": None}}
    assert (
        ">energy/token" in comparison_table(compared(Entry("a", [unknown]), Entry("b", [summary(1.0, [[1]])]))).columns
    )
    table = comparison_table(compared(Entry("a", [unknown]), Entry("b", [unknown]), Entry("c", [], problem="no room")))
    assert ">energy/token" not in table.columns
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_tokens_that_differ_are_said_loudly() -> None:
    document = compared(Entry("a", [summary(1.0, [[1, 2]])], ["x"]), Entry("b", [summary(1.0, [[1, 3]])], ["y"]))
    assert document["tokens_equal"] is False
    assert "DIFFERENT TOKENS" in comparison_lines(document)[0]


def test_the_best_single_device_is_always_there_and_names_are_checked() -> None:
    assert named_policies(["layers"]) == ["layers", "single"]
    assert named_policies(["single", "layers", "single"]) == ["single", "layers"]
    assert named_policies(["all"], given=True) == list(POLICIES)
    assert named_policies(["all"]) == [name for name in POLICIES if name != "given"]
    with pytest.raises(RequestError, match="no policy is named"):
        named_policies([])
    with pytest.raises(RequestError, match=r'no policy "layer" .did you mean "layers"'):
        named_policies(["layer"])


@pytest.fixture
def edgeemu(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edgeemu:
    """Calls the command on the scenario; exit status, standard output, standard error. Bounds are quick, and loose."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgeemu.policies.search.bound_program.NODES", 1)
    Path("small.yaml").write_text(SCENARIO)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main(["compare", "small.yaml", *arguments])
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call


def test_of_all_policies_one_that_would_not_answer_is_left_out_and_that_is_no_failure(edgeemu: Edgeemu) -> None:
    deep = "model.shape.n_layers=13"
    status, out, _ = edgeemu("--simulate", "--json", "--set", deep, "--set", "workload.max_tokens=2")
    assert status == 0
    rows = {row["policy"]: row for row in json.loads(out)["policies"]}
    assert set(rows) == POLICIES.keys() - {"given"}, "there is no placement"
    assert rows["exact"]["problem"].startswith("left out: it would prove no optimum of 3 devices and 13 layers in time")
    assert {name for name, row in rows.items() if not row["runs"]} == {"exact"} | PARTICULAR
    assert rows["distributed-llama"]["problem"] == (
        "left out: distributed-llama runs on 1, 2, 4, 8 … nodes, and this cluster has 3 devices"
    )
    assert left_out(parse_scenario(SCENARIO), ["all"]) == {}
    assert left_out(parse_scenario(SCENARIO, overrides=[deep]), ["all", "exact"]) == {}


def test_of_all_policies_one_whose_blocks_stay_is_left_out_where_a_run_recovers(edgeemu: Edgeemu) -> None:
    fault = "faults=[{at: 5 ms, device: nano, fault: crash}]"
    status, out, _ = edgeemu("--simulate", "--json", "--set", fault, "--set", "devices[0].count=3")
    assert status == 0
    rows = {row["policy"]: row for row in json.loads(out)["policies"]}
    assert rows["distributed-llama-0.1"]["problem"] == (
        "left out: its blocks stay (collectives: gather), and recovery moves blocks; give recovery: none"
    )
    assert rows["layers"]["runs"]


def test_real_runs_of_several_policies_have_the_same_tokens(edgeemu: Edgeemu) -> None:
    status, out, err = edgeemu("--policies", "layers,round-robin", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["tokens_equal"] is True
    assert {row["policy"] for row in document["policies"]} == {"layers", "round-robin", "single"}
    assert all(Path(row["runs"][0], "summary.json").is_file() for row in document["policies"])
    assert document["first"] == "single", "small messages take 2 ms and more"
    assert "round-robin (run 2 of 3)" in err
    assert "3 runs on device processes, as fast as this host computes. --simulate computes" in err


def test_simulated_runs_have_no_tokens_to_compare_and_agree_with_real_ones(edgeemu: Edgeemu) -> None:
    status, out, _ = edgeemu("--policies", "layers,single", "--simulate", "--json")
    assert status == 0
    simulated = json.loads(out)
    assert simulated["tokens_equal"] is None
    real = json.loads(edgeemu("--policies", "layers,single", "--json")[1])
    for left, right in zip(simulated["policies"], real["policies"], strict=True):
        assert left["policy"] == right["policy"]
        assert left["figures"]["tpot_ms"] == pytest.approx(right["figures"]["tpot_ms"])


def test_a_policy_that_finds_no_placement_is_a_row_with_its_reason(edgeemu: Edgeemu) -> None:
    tight = ["--set", "devices[0].memory=60 KiB", "--set", "devices[1].memory=60 KiB", "--simulate"]
    status, out, _ = edgeemu("--policies", "round-robin", *tight)
    assert status == 0
    assert "did not run" in out
    assert "single: no single device can hold" in out
    status, out, _ = edgeemu("--policies", "single", *tight)
    assert status == 3, "there is nothing to compare"


def test_a_bound_is_known_unless_nothing_fits() -> None:
    found = bounds(parse_scenario(SCENARIO))
    assert found is not None
    assert 0 < found.tpot_s < found.ttft_s
    assert found.throughput_tok_s <= 1 / found.tpot_s + 1e-6
    small = [f"devices[{number}].memory=30 kB" for number in range(2)]
    assert bounds(parse_scenario(SCENARIO, overrides=small)) is None


def test_where_no_layer_may_be_divided_the_optimum_of_whole_blocks_is_what_is_possible(edgeemu: Edgeemu) -> None:
    """On links without delay a divided layer is faster; policies that divide it all the same are named."""
    quick = ["--set", "network.default={bandwidth: 100 Gbit/s, delay: 0 ms}", "--set", "model.shape.d_ff=4096"]
    arguments = ["--policies", "exact,galaxy,single", "--simulate", *quick]
    status, out, _ = edgeemu(*arguments, "--set", "sharding.divide=false", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["bounds_undivided"]
    above = {row["policy"]: row["above_bound"] for row in document["policies"]}
    assert 0 <= above["exact"] < 0.01, "later steps take a little longer than the first"
    assert above["galaxy"] < -0.1 < 0 < above["single"]
    column = {row[0]: row[-2] for row in comparison_table(document).rows}
    assert column["galaxy"] == "divided"
    assert any("no placement without divided layers has less than" in line for line in comparison_lines(document))
    divided = json.loads(edgeemu(*arguments, "--json")[1])
    assert not divided["bounds_undivided"]
    assert divided["bounds"]["tpot_ms"] < document["bounds"]["tpot_ms"]


def test_of_all_policies_one_that_proves_nothing_in_time_is_left_out_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unproven(*_: object, **__: object) -> None:
        raise NoFirstPlacementError("no proven optimum after 9 s")

    @contextmanager
    def watch(*_: object) -> Iterator[Any]:
        yield None

    monkeypatch.setattr("edgeemu.run.compare.run_scenario", unproven)

    def entry(*may_fail: str) -> Entry:
        entries: list[Entry] = []
        comparing = compare_scenario(
            parse_scenario(SCENARIO),
            ["exact"],
            repeats=1,
            simulate=True,
            out=tmp_path,
            watch=watch,
            may_fail=may_fail,
            entries=entries,
        )
        asyncio.run(comparing)
        return entries[0]

    assert (entry().problem, entry().status) == ("no proven optimum after 9 s", 4)
    assert optional(["all"]) == {"exact"} | PARTICULAR
    left = entry(*optional(["all"]))
    assert left.status == 0
    assert left.problem.startswith("left out: no proven optimum after 9 s; name it to try")
    assert optional(["all", "exact"]) == PARTICULAR
    assert optional(["layers"]) == frozenset()


def test_a_wrong_name_ends_before_anything_runs(edgeemu: Edgeemu) -> None:
    status, out, err = edgeemu("--policies", "layers,gredy")
    assert (status, out) == (2, "")
    assert 'did you mean "greedy"?' in err


def test_availability_is_shown_where_runs_look_for_lost_devices() -> None:
    failing = {**summary(10.0, [[1]]), "failures": {"availability": 0.925}}
    document = compared(Entry("layers", [failing]), Entry("mdi", [summary(20.0, [[1]])]))
    table = comparison_table(document)
    at = table.columns.index(">available")
    assert [row[at] for row in table.rows] == ["92.5 %", "–"]
