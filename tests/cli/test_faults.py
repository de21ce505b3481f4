"""Runs that lose devices, from the command line: what they end with, and what they keep."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.report.record_files import read_table

SCENARIO = """
name: failing
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 300 KiB}
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms}}
policy: layers
time: {mode: virtual}
workload: {prompts: [{tokens: 4}], max_tokens: 8}
faults: [{at_token: 3, device: a-2, fault: crash}]
"""


@pytest.fixture
def failing(tmp_path: Path) -> str:
    path = tmp_path / "failing.yaml"
    path.write_text(SCENARIO)
    return str(path)


def kept(tmp_path: Path) -> list[int]:
    """Steps of the tokens that the only run has recorded."""
    (directory,) = (tmp_path / "out").iterdir()
    assert json.loads((directory / "summary.json").read_text())["ended"] == "failed"
    return read_table(directory, "tokens").column("step").to_pylist()


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_a_lost_device_ends_a_run_without_recovery(
    command: str, edgeemu: Edgeemu, failing: str, tmp_path: Path
) -> None:
    status, _, err = edgeemu(command, failing, "--out", str(tmp_path / "out"), "--set", "recovery=none")
    assert status == 4
    assert "a-2: crash at" in err
    assert "recovery: reprefill" in err
    assert kept(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_survivors_without_room_end_it_with_what_was_generated(
    command: str, edgeemu: Edgeemu, failing: str, tmp_path: Path
) -> None:
    status, _, err = edgeemu(command, failing, "--out", str(tmp_path / "out"), "--set", "devices[0].memory=100 KiB")
    assert status == 3, err
    assert kept(tmp_path) == [0, 1, 2]


def test_a_run_that_recovers_says_what_it_cost(edgeemu: Edgeemu, failing: str) -> None:
    status, out, err = edgeemu("simulate", failing)
    assert status == 0, err
    assert "a-2 lost at" in out + err
    assert "faults: 1 crash" in out
    assert "1 recovery: " in out
