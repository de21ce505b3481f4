"""`report --why` says where time went, and what it says that a change would gain is what a second run gains."""

import json
from pathlib import Path

import pytest
from support.commands import Edgeemu

SCENARIO = """
model:
  shape: {n_layers: 4, d_model: 64, n_heads: 8, n_kv_heads: 4, head_dim: 8, d_ff: 128, vocab_size: 200, max_context: 99}
devices:
  - {name: quick, gflops: 2 GFLOPS, mem_bandwidth: 0.2 GB/s, memory: 340 KiB, overhead: 20 us}
  - {name: slow, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 1 MiB, overhead: 20 us, message_overhead: 0.1 ms}
  - {name: spare, gflops: 1 GFLOPS, mem_bandwidth: 0.04 GB/s, memory: 1 MiB, overhead: 20 us}
network: {default: {bandwidth: 10 Mbit/s, delay: 0.5 ms}}
policy: layers
workload: {prompts: [{tokens: 5}], max_tokens: 12}
"""
TWICE = ("devices[1].gflops=2 GFLOPS", "devices[1].mem_bandwidth=0.1 GB/s", "devices[1].overhead=10 us")
SECOND_RUNS = {
    "slow twice as fast": (*TWICE, "devices[1].message_overhead=0.05 ms"),
    "all links twice as wide": ("network.default.bandwidth=20 Mbit/s",),
    "the link quick-slow twice as wide": ("network.links=[{between: [slow, quick], bandwidth: 20 Mbit/s}]",),
    "the link slow-quick twice as wide": ("network.links=[{between: [slow, quick], bandwidth: 20 Mbit/s}]",),
    "the link slow-spare twice as wide": ("network.links=[{between: [slow, spare], bandwidth: 20 Mbit/s}]",),
    "the link spare-quick twice as wide": ("network.links=[{between: [spare, quick], bandwidth: 20 Mbit/s}]",),
    "half the latency of all links": ("network.default.delay=0.25 ms",),
    "half the overhead of every message": ("devices[1].message_overhead=0.05 ms",),
    "half the fixed cost of every operation": tuple(f"devices[{n}].overhead=10 us" for n in range(3)),
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "three.yaml"
    path.write_text(SCENARIO)
    return path


def run_of(edgeemu: Edgeemu, scenario: Path, *settings: str, policy: str = "layers") -> tuple[str, float]:
    """Directory of a simulated run, and its time per token after the first in milliseconds."""
    options = [part for setting in settings for part in ("--set", setting)]
    status, out, err = edgeemu("simulate", str(scenario), "--json", "--policy", policy, *options)
    assert status == 0, err
    made = json.loads(out)
    return made["directory"], made["tpot_ms"]["mean"]


@pytest.mark.parametrize("policy", ["layers", "resource-aware"])
def test_a_predicted_gain_is_that_of_a_second_run(edgeemu: Edgeemu, scenario: Path, policy: str) -> None:
    directory, before_ms = run_of(edgeemu, scenario, policy=policy)
    status, out, err = edgeemu("report", directory, "--why", "--json")
    assert status == 0, err
    said = json.loads(out)
    assert said["critical_path"]["ms_per_token"] == pytest.approx(before_ms)
    assert said["what_if"]["unchanged"]["ms_per_token"] == pytest.approx(before_ms)
    gains = {each["change"]: each["gain"] for each in said["what_if"]["changes"]}
    compared = 0
    for change, settings in SECOND_RUNS.items():
        if change in gains:
            after_ms = run_of(edgeemu, scenario, *settings, policy=policy)[1]
            assert gains[change] == pytest.approx(1 - after_ms / before_ms, abs=1e-9), change
            compared += 1
    assert compared >= 4
    assert any(change.startswith("the link ") for change in gains)
    assert any(change.startswith("one more device like") for change in gains)
    assert max(gains.values()) > 0.02


def test_it_is_said_in_sentences(edgeemu: Edgeemu, scenario: Path) -> None:
    directory, before_ms = run_of(edgeemu, scenario)
    status, out, err = edgeemu("report", directory, "--why")
    assert status == 0, err
    assert f"of {before_ms:.1f} ms per token after the first:" in out
    assert "the device on which most is lost is slow" in out
    assert "what would help most: " in out
    assert "what would help: " in err


def test_what_would_help_is_not_known_without_the_scenario(edgeemu: Edgeemu, scenario: Path) -> None:
    directory, _ = run_of(edgeemu, scenario)
    (Path(directory) / "scenario.yaml").write_text("devices: [")
    status, out, _ = edgeemu("report", directory, "--why")
    assert status == 0
    assert "the device on which most is lost is slow" in out
    assert "what would help is not known: " in out
