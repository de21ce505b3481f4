"""Whole runs with real processes work in there: what tests of shaped links and of caps build on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.netem

TWO = """
name: two
seed: 3
model:
  shape: {n_layers: 2, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 300, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 3 ms}
policy: round-robin
decisions: {time: 0 ms}
time: {dilation: 2}
workload:
  prompts: [{tokens: 9}, {tokens: 4}]
  max_tokens: 4
"""
INVALID = 5  # the exit status of a run that its host was too slow for: no fault of the run


def run(directory: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    scenario = directory / "two.yaml"
    scenario.write_text(TWO)
    command = [sys.executable, "-m", "edgeemu", "run", str(scenario), "--out", str(directory / "runs"), "--json"]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=False)
    return done.returncode, json.loads(done.stdout)


def test_paced_and_virtual_runs_agree(tmp_path: Path) -> None:
    status, paced = run(tmp_path)
    assert status in (0, INVALID)
    status, virtual = run(tmp_path, "--set", "time.mode=virtual")
    assert status == 0
    assert virtual["tokens"] == paced["tokens"]
    assert [len(tokens) for tokens in paced["tokens"]] == [4, 4]
    assert virtual["tpot_ms"]["mean"] == pytest.approx(paced["tpot_ms"]["mean"], rel=1e-9)
