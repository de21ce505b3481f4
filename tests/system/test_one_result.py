"""Two runs of one scenario give one result, however busy the host is and however long the policy takes."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeemu.run import ask_policy
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
seed: 5
model:
  shape:
    {n_layers: 3, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 0.01 MFLOPS, mem_bandwidth: 100 MB/s, memory: 8 MiB,
     load: {walk: {mean: 30 %, spread: 10 %}, every: 10 s}}
  - {name: b, count: 2, gflops: 0.01 MFLOPS, mem_bandwidth: 50 MB/s, memory: 8 MiB}
network: {default: {bandwidth: 10 Mbit/s, delay: 1 ms, jitter: 0.2 ms, loss: 1 %}}
policy: lookahead
sharding: {divide: false}
workload: {prompts: [{tokens: 7}, {tokens: 3}], max_tokens: 10}
events: [{at_token: 3, device: a, speed: 5 %}]
time: {mode: virtual}
"""
PROCESSOR_TIMES = ("controller_ms", "ready_s", "loaded_s", "wall")  # and `decisions.of_token`
OF_PROCESSES = ("certificate", "links", "memory", "mode", "predicted", "text", "tokens", "weaker")


def spend(processor_s: float) -> None:
    """Keep this thread busy."""
    ends_s = time.thread_time() + processor_s
    while time.thread_time() < ends_s:
        pass


def summary(out: Path, *, simulate: bool) -> dict[str, Any]:
    """The summary of a run, without the times that it took here."""
    made = asyncio.run(
        run_scenario(parse_scenario(SCENARIO, "one"), policy=None, out=out, observer=Silent(), simulate=simulate)
    ).summary
    assert made["migrations"]["changes"]
    assert made["decisions"].pop("of_token") > 0
    return {key: value for key, value in made.items() if key not in PROCESSOR_TIMES}


def test_a_summary_does_not_depend_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = summary(tmp_path / "idle", simulate=True)
    call: Callable[..., Any] = ask_policy._call

    def busy_call(*asked: Any) -> Any:
        spend(0.01)
        made = call(*asked)
        return made._replace(took_s=made.took_s + 0.01)

    monkeypatch.setattr(ask_policy, "_call", busy_call)
    assert summary(tmp_path / "busy", simulate=True) == idle
    virtual = summary(tmp_path / "virtual", simulate=False)
    assert {key: value for key, value in virtual.items() if key not in OF_PROCESSES} == {
        key: value for key, value in idle.items() if key not in OF_PROCESSES
    }
    assert virtual["certificate"]["reasons"] == idle["certificate"]["reasons"] == []
