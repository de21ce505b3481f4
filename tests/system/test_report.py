"""`edgeemu report` shows the figures of any run: finished, ended by a signal, failed, or killed."""

import gzip
import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.commands import call_edgeemu
from support.html_pages import read_page
from support.warm_commands import start_edgeemu

from edgeemu.host import scratch
from edgeemu.host.owner import is_alive
from edgeemu.report.record_files import read_table
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
name: reported
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 4096}
devices:
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB, power: {idle: 2 W, busy: 5 W}}
  - {name: nano, gflops: 20 GFLOPS, mem_bandwidth: 8 GB/s, memory: 64 MiB, power: {idle: 1 W, busy: 9 W}}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms, energy: {send: 5 nJ/bit, receive: 4 nJ/bit}}
policy: round-robin
decisions: {time: 0 ms, interval: 4}
time: {dilation: 2}
workload:
  prompts: [{tokens: 8}, {tokens: 4}]
  max_tokens: 6
"""


def report(directory: Path, *options: str) -> tuple[int, str, str]:
    return call_edgeemu("report", str(directory), *options)


def reported(directory: Path) -> dict[str, Any]:
    before = sorted(directory.iterdir())
    status, out, err = report(directory, "--json")
    assert (status, err) == (0, "")
    assert sorted(directory.iterdir()) == before, "it writes nothing"
    document: dict[str, Any] = json.loads(out)
    return document


def summary_of(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return document


@contextmanager
def long_run(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Start a run in a process of its own that would take minutes; yield it once there are tokens."""
    (tmp_path / "long.yaml").write_text(SCENARIO)
    options = ["--out", str(tmp_path / "runs"), "--set", "workload.max_tokens=3000", "--json"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = start_edgeemu("run", str(tmp_path / "long.yaml"), *options, **streams)
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 10_000 for path in tmp_path.glob("runs/*/tokens.arrows")):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (directory,) = (tmp_path / "runs").iterdir()
        yield running, directory
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("simulate", [False, True])
@pytest.mark.parametrize("settings", [(), ("workload.concurrency=2", "policy=dynamic-layers", "time.mode=virtual")])
def test_the_report_of_a_finished_run_is_its_summary(tmp_path: Path, settings: tuple[str, ...], simulate: bool) -> None:
    scenario = parse_scenario(SCENARIO, "reported", settings)
    made = uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent(), simulate=simulate))
    assert made.summary["ended"] == "done"
    assert reported(made.directory) == summary_of(made.directory) == made.summary


def test_the_tables_of_a_report(tmp_path: Path) -> None:
    made = uvloop.run(
        run_scenario(parse_scenario(SCENARIO), policy=None, out=tmp_path, observer=Silent(), simulate=True)
    )
    status, out, _ = report(made.directory)
    assert status == 0
    assert "time per output token" in out
    assert "device   weights" in out
    assert "pi-1 → pi-2" in out
    assert "12 tokens, " in out
    assert "ended:" not in out


def test_the_report_of_a_run_ended_by_ctrl_c_is_its_summary(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, directory):
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 128 + signal.SIGINT
    found = reported(directory)
    assert found == summary_of(directory)
    assert found["ended"] == "failed"
    assert len(found["tokens"][0]) == read_table(directory, "tokens").num_rows > 1
    assert "ended: failed, or stopped by a signal" in report(directory)[1]


def test_a_run_whose_fork_server_was_killed_is_reported(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, directory):
        (private,) = [found for found in scratch.directories_of_all_runs() if found.owner.pid == running.pid]
        os.kill(private.processes[0].pid, signal.SIGKILL)
        assert running.wait(30) == 4
    assert reported(directory) == summary_of(directory)
    assert len(summary_of(directory)["tokens"][0]) > 1


def test_a_run_that_was_killed_is_reported_up_to_its_last_record(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, directory):
        (private,) = [found for found in scratch.directories_of_all_runs() if found.owner.pid == running.pid]
        processes = private.processes
        meanwhile = reported_while_it_grows(directory)
        running.kill()
        running.wait()
        deadline = time.monotonic() + 30
        while any(is_alive(process.pid, process.start_ticks) for process in processes):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not (directory / "summary.json").exists()
    found = reported(directory)
    assert found["ended"] == meanwhile["ended"] == "unfinished"
    assert len(found["tokens"][0]) >= len(meanwhile["tokens"][0]) > 1
    assert found["tpot_ms"]["mean"] > 0
    assert {name: used["peak_bytes"] > 0 for name, used in found["memory"]["by_device"].items()} == {
        "pi-1": True,
        "pi-2": True,
        "nano": True,
    }
    assert found["dilation"] > 0
    assert found["energy_j"] is None
    status, out, _ = report(directory)
    assert status == 0
    assert "ended: no, the run was killed or still goes on" in out
    assert "pi-1 → pi-2" in out
    assert report(directory, "--trace", str(tmp_path / "trace.json.gz"))[0] == 0
    events = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"]
    shown = [event for event in events if event.get("cat") == "operation"]
    assert len(shown) == len(read_table(directory, "ops"))
    status, out, err = report(directory, "--why", "--json")
    assert status == 0, err
    lost = json.loads(out)["critical_path"]
    assert sum(lost["parts_ms"].values()) == pytest.approx(lost["ms_per_token"])
    assert lost["parts_ms"]["latency"] > 0.5 * lost["ms_per_token"]
    assert json.loads(out)["what_if"]["changes"]
    cut = directory / "ops.arrows"  # as a full disk or a crash of the host would leave it
    cut.write_bytes(cut.read_bytes()[:-100])
    assert reported(directory)["tokens"] == found["tokens"]


def reported_while_it_grows(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(report(directory, "--json")[1])
    return document


@pytest.mark.usefixtures("figures_are_svg")
def test_a_run_that_goes_on_and_one_that_was_killed_have_pages(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, directory):
        for name in ("goes-on", "killed"):
            options = ("--html", str(tmp_path / f"{name}.html"), "--figures", str(tmp_path / name))
            status, _, err = report(directory, *options)
            assert status == 0, err
            page = read_page(tmp_path / f"{name}.html")
            assert page.references == []
            assert "the run was killed or still goes on" in page.text
            drawn = {file.stem for file in (tmp_path / name).iterdir()}
            assert {"latency", "breakdown", "occupation", "placement"} <= drawn
            running.kill()
            running.wait(30)


def test_rows_of_devices_and_links_add_up_to_those_of_operations_and_to_what_was_sent(tmp_path: Path) -> None:
    """Rows are alike in a paced run, in virtual mode and in the simulator; links are those of an idle cluster."""
    tables = {}
    for mode in ("realtime", "virtual", "simulated"):
        settings = [] if mode == "simulated" else [f"time.mode={mode}"]
        scenario, simulate = parse_scenario(SCENARIO, "reported", settings), mode == "simulated"
        out = tmp_path / mode
        made = uvloop.run(run_scenario(scenario, policy=None, out=out, observer=Silent(), simulate=simulate))
        devices, links = (read_table(made.directory, name).to_pylist() for name in ("devices", "links"))
        busy_s: dict[tuple[str, int, int], float] = defaultdict(float)
        for op in read_table(made.directory, "ops").to_pylist():
            busy_s[op["device"], op["sequence"], op["step"]] += op["end_s"] - op["start_s"]
        assert {(row["device"], row["sequence"], row["step"]): row["busy_s"] for row in devices} == pytest.approx(
            busy_s
        )
        assert all(row["weights_bytes"] > 0 and row["queue_s"] >= 0 for row in devices)
        by_device = made.summary["energy"]["by_device"]
        for name, spent in by_device.items():
            assert sum(row["energy_j"] for row in devices if row["device"] == name) == pytest.approx(spent["busy_j"])
        radio_j = sum(spent["radio_j"] for spent in by_device.values())
        assert sum(row["energy_j"] for row in links) == pytest.approx(radio_j)
        for row in links:
            assert row["transit_s"] == pytest.approx(row["queue_s"] + row["transfer_s"] + row["delay_s"])
            assert row["delay_s"] == pytest.approx(0.002 * row["messages"])
            assert row["queue_s"] >= -1e-9
        tables[mode] = {
            (row["source"], row["target"], row["sequence"], row["step"]): (row["messages"], row["bytes"])
            for row in links
        }
    assert tables["realtime"] == tables["virtual"] == tables["simulated"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("run/summary.json", 'not the directory of a run, but a file (did you mean "{}/run"?)'),
        ("ran", 'no such directory (did you mean "run"?)'),
        ("", 'not the directory of a run (did you mean the latest run in it, "{}/run"?)'),
        ("empty", "not the directory of a run"),
        ("old", "no facts.json: the run was made by an older edgeemu, or was killed before it began"),
        ("newer", "records of version 99, and this edgeemu reads version 4"),
        ("broken", "not the facts of a run: "),
    ],
)
def test_what_is_no_run_is_refused_with_a_hint(tmp_path: Path, path: str, message: str) -> None:
    files = {
        "run/facts.json": "{}",
        "run/summary.json": "{}",
        "old/meta.json": "{}",
        "empty/notes.txt": "",
        "newer/facts.json": '{"version": 99}',
        "broken/facts.json": '{"version": 2, "scenario"',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    os.utime(tmp_path / "run", (2**32, 2**32))
    status, out, err = report(tmp_path / path)
    assert (status, out) == (2, "")
    assert message.format(tmp_path) in err
