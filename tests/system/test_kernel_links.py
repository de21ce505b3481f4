"""Whole runs on links of the kernel: the same text as ever, delays that are there, and nothing left in the host."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.kernel_links import Links
from support.moving import Shuffle, assert_reference, make, reference_tokens
from support.watching import RecordedRun

from edgeemu.cli import app
from edgeemu.errors import RunError
from edgeemu.links.netns.capabilities import Capabilities
from edgeemu.report.record_files import read_table
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.observer import Silent
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
name: shaped
seed: 3
model:
  shape: {n_layers: 2, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 300, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network: {default: {bandwidth: 10 Mbit/s, delay: 3 ms}}
policy: round-robin
decisions: {time: 0 ms}
time: {dilation: 4}
workload: {prompts: [{tokens: 9}], max_tokens: 6}
"""
FARTHER = "events=[{at_token: 3, link: [a, b], bandwidth: 5 Mbit/s, delay: 20 ms}]"


@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_blocks_that_move_over_real_links_leave_the_text_as_it_is(links: Links, mode: str) -> None:
    choice, settings = links
    changes = (f"migration.mode={mode}", "migration.chunk=1 kB", "time.mode=realtime", *settings)
    plan = make(*changes, decide=Shuffle(4, 0.4))

    async def run() -> RecordedRun:
        controller = RecordedRun(plan, ProcessBackend(plan, Silent().phase, keep_logits=True, links=choice))
        await controller.run()
        return controller

    controller = uvloop.run(run())
    assert_reference(controller, plan, reference_tokens(plan))
    assert any(row.outcome == "committed" for row in controller.migrations)


def test_a_run_takes_at_least_what_its_links_take_and_an_event_changes_them(links: Links, tmp_path: Path) -> None:
    choice, settings = links
    if choice.kind == "kernel" and not choice.netem:
        farther, delay_s = FARTHER.replace(", delay: 20 ms", ""), 0.0
    else:
        farther, delay_s = FARTHER, 0.02
    scenario = parse_scenario(SCENARIO, "shaped", [f"network.backend={choice.kind}", farther, *settings])
    made = uvloop.run(run_scenario(scenario, policy=None, out=tmp_path, observer=Silent()))
    stamped = uvloop.run(
        run_scenario(
            parse_scenario(SCENARIO, "shaped", [farther, *settings]), policy=None, out=tmp_path, observer=Silent()
        )
    )
    assert made.summary["tokens"] == stamped.summary["tokens"]
    latencies_s = [token["latency_s"] for token in read_table(made.directory, "tokens").to_pylist()]
    assert min(latencies_s[3:]) > 2 * delay_s  # a token crosses the link at least there and back
    assert made.summary["links"] == choice.kind
    assert json.loads((made.directory / "meta.json").read_text())["links"] == choice.kind
    assert made.summary["certificate"]["links"]["tested"] == 1
    assert made.summary["certificate"]["links"]["tpot_off"] is None  # what changes is not predicted


def profiled(capsys: pytest.CaptureFixture[str], path: Path, *settings: str) -> Any:
    with pytest.raises(SystemExit) as leaving:
        app.main(["profile", "links", str(path), "--json", *[word for s in settings for word in ("--set", s)]])
    out, err = capsys.readouterr()
    assert leaving.value.code == 0, err
    return json.loads(out)


def test_links_are_profiled_whatever_they_are(links: Links, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice, settings = links
    path = tmp_path / "shaped.yaml"
    path.write_text(SCENARIO)
    document = profiled(capsys, path, f"network.backend={choice.kind}", *settings)
    (test,) = document["tests"]
    assert document["links"] == choice.kind
    assert (test["source"], test["target"], test["stands_for"]) == ("a", "b", 2)
    assert test["delay_ms"]["measured"] > (0.0 if settings else 3.0)
    assert 0.0 < test["throughput_bps"]["measured"] < 1.2 * 10e6


@pytest.mark.alone  # messages are sent when they are due only on a host that is in time
def test_stamped_links_are_what_was_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shaped.yaml"
    path.write_text(SCENARIO)
    document = profiled(capsys, path)
    (test,) = document["tests"]
    assert document["links"] == "stamped"
    for figure in ("delay_ms", "throughput_bps", "round_trip_ms"):
        assert test[figure]["measured"] == pytest.approx(test[figure]["asked"], rel=1e-6)
    assert test["late_ms"] >= 0.0


def test_a_network_process_that_dies_ends_the_run(host: Capabilities) -> None:
    if why := host.why_not("hybrid"):
        pytest.skip(why)
    plan = make("time.mode=realtime", decide=Shuffle(0, 0.0))

    devices = ProcessBackend(plan, Silent().phase, links=LinkChoice("hybrid", rootless=host.rootless))

    async def run() -> None:
        async with devices.launched():
            await devices.assign(plan)
            pid = devices.process_ids["~network"]
            os.kill(pid, signal.SIGKILL)
            await devices.begin()

    with pytest.raises(RunError, match="network was killed by SIGKILL"):
        uvloop.run(run())
