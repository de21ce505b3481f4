"""`edgeemu sweep`: equal to single runs, on all processors; what is complete is not repeated, however it was ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.commands import Edgeemu
from support.swept import SCENARIO, of_the_run
from support.warm_commands import run_edgeemu, start_edgeemu

from edgeemu.cli import app
from edgeemu.host.owner import own_processes, stat_fields
from edgeemu.policies import PARTICULAR

BANDWIDTHS, COUNTS = ("1 Mbit/s", "10 Mbit/s", "100 Mbit/s"), ("1", "2")
VARY = ("--vary", f"network.default.bandwidth={','.join(BANDWIDTHS)}", "--vary", "devices[0].count=1,2")
RUNS_24, RUNS_48 = ((*VARY, "--simulate", "--seeds", seeds, "--policies", "layers,round-robin") for seeds in ("2", "4"))


@pytest.fixture
def edgeemu(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edgeemu:
    """Calls a command in the directory of the scenario; exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SCENARIO)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main(arguments)
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps write no picture, which takes longer than their runs."""
    monkeypatch.setattr("edgeemu.report.sweep_figure.draw_sweep", lambda *_: None)


def swept(edgeemu: Edgeemu, *arguments: str) -> tuple[dict[str, Any], str]:
    status, out, err = edgeemu("sweep", "small.yaml", *arguments, "--json")
    assert status == 0, err
    document: dict[str, Any] = json.loads(out)
    return document, err


@pytest.mark.usefixtures("no_picture")
def test_48_runs_equal_single_ones_with_the_same_settings_and_are_not_repeated(edgeemu: Edgeemu) -> None:
    document, err = swept(edgeemu, *RUNS_48)
    assert "run 48 of 48: " in err
    assert len(document["runs"]) == 48
    assert len({run["directory"] for run in document["runs"]}) == 48
    for run in document["runs"][::13]:
        settings = [f"{key}={run[key]}" for key in document["varied"]] + [f"seed={run['seed']}"]
        options = [word for setting in settings for word in ("--set", setting)]
        status, out, _ = edgeemu("simulate", "small.yaml", "--policy", run["policy"], *options, "--json")
        assert status == 0
        single, of_sweep = json.loads(out), json.loads(Path(run["directory"], "summary.json").read_text())
        assert of_the_run(single) == of_the_run(of_sweep)
        assert run["tpot_ms"] == single["tpot_ms"]["mean"]
    assert pq.read_table(Path(document["directory"], "runs.parquet")).num_rows == 48

    again, err = swept(edgeemu, *RUNS_48)
    assert err == "48 runs of 48 are there already\n"
    assert again == document

    by_throughput, _ = swept(edgeemu, *RUNS_48, "--metric", "throughput_tok_s")
    assert by_throughput["judged_by"] == "throughput_tok_s"
    assert by_throughput["directory"] != document["directory"]
    other, err = swept(edgeemu, *VARY, "--simulate", "--seeds", "1", "--policies", "layers,single")
    assert err.startswith("6 runs of 12 are there already\nrun 7 of 12: "), "another sweep has them, too"
    assert other["directory"] != document["directory"]
    changed, err = swept(edgeemu, *VARY, "--simulate", "--set", "workload.max_tokens=6", "--policies", "layers")
    assert err.startswith("run 1 of 6: "), "a changed scenario gets new runs"
    assert changed["runs"][0]["tpot_ms"] != document["runs"][0]["tpot_ms"]


def test_intervals_and_differences_are_in_the_table_and_the_document(
    edgeemu: Edgeemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--vary", "network.default.bandwidth=1 Mbit/s,100 Mbit/s", "--seeds", "6", "--simulate")
    status, out, _ = edgeemu("sweep", "small.yaml", *options, "--policies", "layers,round-robin")
    assert status == 0
    assert max(map(len, out.splitlines()[:6])) <= 80
    assert "6 seeds each, the same for all rows: mean, and its 95 % interval by the bootstrap" in out
    monkeypatch.setattr("edgeemu.report.sweep_figure.draw_sweep", lambda *_: None)  # they are there
    document, _ = swept(edgeemu, *options, "--policies", "layers,round-robin")
    points = document["points"]
    assert [point["best"] for point in points] == [True, False, True, False]
    assert all(point["low"] < point["tpot_ms"] < point["high"] for point in points)
    assert all(point["gap_low"] > 0 and point["significant"] for point in points if not point["best"])
    assert {path.name for path in Path(document["directory"]).iterdir()} == {
        *("runs.csv", "runs.parquet", "points.csv", "points.parquet", "sweep.svg", "sweep.pdf", "sweep.png")
    }
    status, _, err = edgeemu("sweep", "small.yaml", *options, "--metric", "speed")
    assert (status, err) == (
        2,
        'edgeemu: --metric: "speed" is none of tpot_ms, ttft_ms, throughput_tok_s, energy_per_token_j\n',
    )


def test_a_comparison_of_seeds_has_the_runs_of_a_sweep(edgeemu: Edgeemu) -> None:
    arguments = ("compare", "small.yaml", "--simulate", "--seeds", "5", "--policies", "layers,round-robin")
    status, out, err = edgeemu(*arguments)
    assert status == 0
    assert "run 15 of 15: " in err, "single is always there"
    assert "5 seeds each, the same for all rows: mean, and its 95 % interval" in out
    status, out, err = edgeemu(*arguments, "--json")
    assert err == "15 runs of 15 are there already\n"
    document = json.loads(out)
    assert [row["policy"] for row in document["policies"]] == ["single", "layers", "round-robin"]
    assert all(row["gap_low"] > 0 and row["significant"] for row in document["policies"][1:])
    assert document["seeds"] == [0, 1, 2, 3, 4]
    status, _, err = edgeemu(*arguments, "--repeats", "2")
    assert (status, err) == (2, "edgeemu: --repeats: repeats one draw; with --seeds every run has another\n")


@pytest.mark.usefixtures("no_picture")
def test_of_all_policies_those_that_cannot_answer_are_left_out(edgeemu: Edgeemu) -> None:
    deep = ("--set", "model.shape.n_layers=13", "--set", "workload.max_tokens=2")
    document, _ = swept(edgeemu, "--simulate", "--vary", "devices[0].count=2", *deep, "--policies", "all")
    problems = {run["policy"]: run["problem"] for run in document["runs"] if run["problem"]}
    assert set(problems) == {"exact"} | PARTICULAR
    assert all(problem.startswith("left out: ") for problem in problems.values())


@pytest.mark.usefixtures("no_picture")
def test_real_runs_of_all_policies_have_equal_tokens_from_equal_draws(edgeemu: Edgeemu) -> None:
    options = ("--vary", "devices[0].count=1,2", "--seeds", "2", "--policies", "layers,single")
    document, err = swept(edgeemu, *options)
    assert "run 8 of 8: " in err
    assert document["tokens_equal"] is True
    simulated, _ = swept(edgeemu, *options, "--simulate")
    assert [run["tpot_ms"] for run in document["runs"]] == pytest.approx([run["tpot_ms"] for run in simulated["runs"]])


@pytest.mark.usefixtures("no_picture")
def test_a_point_without_a_placement_is_a_row_with_its_reason(edgeemu: Edgeemu) -> None:
    options = ("--vary", "devices[0].memory=60 KiB,64 MiB", "--set", "devices[1].memory=60 KiB", "--simulate")
    status, out, _ = edgeemu("sweep", "small.yaml", *options, "--policies", "single")
    assert status == 0
    assert "60 KiB     did not run" in out
    assert "60 KiB, single: no single device can hold" in out
    status, _, _ = edgeemu("sweep", "small.yaml", *options, "--policies", "single", "--vary", "devices[0].count=1")
    assert status == 0
    none = ("--vary", "devices[0].memory=60 KiB", "--set", "devices[1].memory=60 KiB", "--simulate")
    assert edgeemu("sweep", "small.yaml", *none, "--policies", "single")[0] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vary", "devices[0].count=1,2", "--vary", "devices[0].count=3"), "is varied twice"),
        (("--vary", "seed=1,2"), "--vary seed: is varied by --seeds"),
        (("--vary", "policy=layers"), "--vary policy: is varied by --policies"),
        (("--vary", "network.default.bandwidth=1 Mbit/s,1 MB"), '--vary network.default.bandwidth: "1 MB" is not'),
        (("--vary", "devices[0].count=1", "--policies", "gredy"), 'did you mean "greedy"?'),
        (("--vary", "devices[0].count=1", "--policies", ","), "no policy is named"),
        ((), "--vary"),
    ],
)
def test_a_wrong_request_ends_before_anything_runs(edgeemu: Edgeemu, options: tuple[str, ...], message: str) -> None:
    status, out, err = edgeemu("sweep", "small.yaml", "--simulate", *options)
    assert (status, out) == (2, "")
    assert message in err
    assert not Path("runs").exists()


def test_a_scenario_from_standard_input_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "input").write_text(SCENARIO)
    options = ("-", "--simulate", "--vary", "devices[0].count=1,2", "--csv")
    with (tmp_path / "input").open() as given:
        done = run_edgeemu("sweep", *options, cwd=tmp_path, stdin=given, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert [line.split(",")[0] for line in done.stdout.splitlines()[:3]] == ["count", "1", "2"]


@contextmanager
def long_sweep(tmp_path: Path, after: int) -> Iterator["subprocess.Popen[str]"]:
    """Start a sweep of 24 runs; yield it when so many are complete."""
    (tmp_path / "small.yaml").write_text(SCENARIO)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with start_edgeemu("sweep", "small.yaml", *RUNS_24, cwd=tmp_path, start_new_session=True, **streams) as process:
        try:
            assert process.stderr is not None
            for number in range(1, after + 1):
                assert process.stderr.readline().startswith(f"run {number} of 24: ")
            yield process
        finally:
            process.kill()


def in_session(session: int) -> list[int]:
    """Processes of a session that are no zombies. One whose first thread alone is a zombie still has its files."""
    found = []
    for pid in own_processes():
        try:
            fields = stat_fields(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        threads = int(fields[17])
        if int(fields[3]) == session and (fields[0] not in "ZX" or threads > 1):
            found.append(pid)
    return found


def times(tmp_path: Path) -> dict[Path, int]:
    """When the records of complete runs were made."""
    return {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/swept/*/summary.json")}


@pytest.mark.usefixtures("no_picture")
def test_a_sweep_that_is_killed_in_the_middle_repeats_no_complete_run(edgeemu: Edgeemu, tmp_path: Path) -> None:
    with long_sweep(tmp_path, after=6) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while in_session(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert in_session(process.pid) == [], "its workers end with it"
    complete = times(tmp_path)
    assert 6 <= len(complete) < 24
    document, err = swept(edgeemu, *RUNS_24)
    assert err.startswith(f"{len(complete)} runs of 24 are there already\nrun {len(complete) + 1} of 24: ")
    assert times(tmp_path).items() >= complete.items(), "they are as they were"
    assert len(document["runs"]) == 24
    left = sorted(path.name for path in (tmp_path / "runs" / "swept").iterdir() if not (path / "summary.json").exists())
    assert left == []
    assert len(times(tmp_path)) == 24


def test_ctrl_c_keeps_what_is_complete_and_says_how_to_go_on(tmp_path: Path) -> None:
    with long_sweep(tmp_path, after=3) as process:
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    *_, stays, ended = err.splitlines()
    complete = len(times(tmp_path))
    assert stays == f"{complete} of 24 runs are complete and stay; the same command goes on from there"
    assert ended == "edgeemu: ended by SIGINT"
    assert 3 <= complete == len(list((tmp_path / "runs" / "swept").iterdir()))
    assert in_session(process.pid) == []
