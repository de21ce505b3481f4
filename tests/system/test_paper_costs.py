"""A simulation with the head-level paper's costs takes what its formulas say, by hand; and only a simulation may."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from edgeemu.errors import RequestError
from edgeemu.policies import PARTICULAR, POLICIES
from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

L0, D, H, d, b = 16, 64, 8, 8, 2
C = (1e9, 2e9, 4e9)  # operations/s
BPS = 1e8
SHAPE = (
    f"{{n_layers: 1, d_model: {D}, n_heads: {H}, n_kv_heads: {H}, head_dim: {d}, d_ff: 99, vocab_size: 50, "
    "max_context: 512, activation: gelu}"
)
TEXT = f"""
model: {{shape: {SHAPE}}}
devices:
  - {{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1000 TB/s, memory: 1 MiB}}
  - {{name: b, gflops: 2 GFLOPS, mem_bandwidth: 1000 TB/s, memory: 1 MiB}}
  - {{name: c, gflops: 4 GFLOPS, mem_bandwidth: 1000 TB/s, memory: 1 MiB}}
network: {{default: {{bandwidth: 100 Mbit/s, delay: 0 s}}}}
workload: {{prompts: [{{tokens: {L0}}}], max_tokens: 6}}
decisions: {{time: 0 s}}
cost: {{formulas: literal, value_bytes: {b}}}
"""
POLICY = """
from edgeemu.placement.blocks import EMBED, LM_HEAD, ffn, head, proj
from edgeemu.placement.placement import Placement

def place(view, current):
    on_a = 4 if view.length >= MOVED else 3  # one more head moves to a
    owner = {head(0, g): 0 if g < on_a else 1 if 4 <= g < 6 else 2 for g in range(8)}
    return Placement({EMBED: 2, **owner, proj(0): 1, ffn(0): 2, LM_HEAD: 2})
"""


def scenario(*settings: str, text: str = TEXT) -> Scenario:
    return parse_scenario(text, "s", settings)


def simulated(out: Path, policy: str, *settings: str) -> tuple[dict[str, Any], list[float], list[dict[str, Any]]]:
    """Summary, latency of every token in seconds, and what moved."""
    running = run_scenario(scenario(*settings), policy=policy, out=out, observer=Silent(), simulate=True)
    result = asyncio.run(running)
    latencies_s = pyarrow.parquet.read_table(result.directory / "tokens.parquet")["latency_s"].to_pylist()
    moved = pyarrow.parquet.read_table(result.directory / "migrations.parquet").to_pylist()
    summary = json.loads((result.directory / "summary.json").read_text())
    return summary, latencies_s, moved


def by_hand_s(n: int, on_a: int) -> float:
    """The paper's delay of token n: heads on all three devices, proj on b, and x from ffn's device, c."""
    at_l = L0 + n
    head = 3 * at_l * D * d + at_l**2 * d
    x_s, output_s = 8 * at_l * D * b / BPS, 8 * at_l * d * b / BPS
    on_b, on_c = 2, H - 2 - on_a
    stage_s = max(
        x_s + on_a * head / C[0] + on_a * output_s,
        x_s + on_b * head / C[1],
        max(x_s, on_c * head / C[2]) + on_c * output_s,  # behind x, on the same link
    )
    return stage_s + at_l * D**2 / C[1] + x_s + 8 * at_l * D**2 / C[2]


def test_every_token_takes_the_papers_delay(tmp_path: Path) -> None:
    (tmp_path / "fixed.py").write_text(POLICY.replace("MOVED", "999"))
    summary, latencies_s, moved = simulated(tmp_path, f"{tmp_path}/fixed.py:place")
    assert latencies_s == pytest.approx([by_hand_s(n, 3) for n in range(6)], rel=1e-9)
    assert summary["cost"] == "literal"
    assert moved == []
    at_l = L0 + 6  # memory is planned to the end
    head = 3 * at_l * d * b + 3 * D * d * b + 6 * D * b
    peaks = [device["peak_bytes"] for device in summary["memory"]["by_device"].values()]
    assert peaks == [3 * head, 2 * head + at_l * D * b, 3 * head + 4 * at_l * D * b]


def test_a_move_takes_the_memory_of_its_block_along(tmp_path: Path) -> None:
    (tmp_path / "moving.py").write_text(POLICY.replace("MOVED", str(L0 + 2)))
    _, latencies_s, moved = simulated(tmp_path, f"{tmp_path}/moving.py:place")
    n = 3  # the decision before it finds L0 + 2 positions cached, two of them generated
    size = 3 * (L0 + n) * d * b + 3 * D * d * b + 2 * D * b
    assert [(row["block"], row["bytes"]) for row in moved] == [("head(0,3)", size)]
    expected_s = [by_hand_s(n, 3) for n in range(3)] + [by_hand_s(n, 4) for n in range(3, 6)]
    expected_s[n] += 8 * size / BPS
    assert latencies_s == pytest.approx(expected_s, rel=1e-9)


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"given"} - PARTICULAR))
def test_every_policy_decides_by_them(tmp_path: Path, policy: str) -> None:
    _, latencies_s, _ = simulated(tmp_path, policy)
    # Of any placement: all work at the speed of all devices together, at least.
    for n, latency_s in enumerate(latencies_s):
        at_l = L0 + n
        assert latency_s >= (H * (3 * at_l * D * d + at_l**2 * d) / sum(C)) + 9 * at_l * D**2 / max(C)


def test_the_optimum_of_the_paper_is_no_worse_than_any_other_policy(tmp_path: Path) -> None:
    best_s = simulated(tmp_path, "exact")[1][1]
    for policy in POLICIES.keys() - {"given"} - PARTICULAR:
        assert best_s <= simulated(tmp_path, policy)[1][1] * (1 + 1e-6), policy


@pytest.mark.parametrize("policy", ["resource-aware", "lookahead", "exact"])
def test_layers_and_precopy_under_load(tmp_path: Path, policy: str) -> None:
    settings = ("model.layers=3", "migration.mode=precopy", "devices[2].throttle={after: 1 ms, to: 20 %}")
    summary, latencies_s, _ = simulated(tmp_path, policy, *settings)
    assert len(latencies_s) == 6
    assert summary["decisions"]["problems"] == []


def test_a_run_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"s.yaml:\d+: cost: literal costs are .* use simulate, or --set cost=phys"):
        asyncio.run(run_scenario(scenario(), policy=None, out=tmp_path, observer=Silent()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("workload.prompts=[{tokens: 4}, {tokens: 5}]", "cost: literal costs need prompts of one length"),
        ("model.shape.tied_embeddings=true", "cost: the paper's costs have no embedding that could be tied"),
    ],
)
def test_what_they_do_not_know_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        make_plan(scenario(setting))


def test_physical_values_have_four_bytes() -> None:
    with pytest.raises(RequestError, match=r"cost.value_bytes.*kernels compute with values of 4 bytes"):
        scenario("cost.formulas=physical")
    assert scenario("cost=physical").cost.value_bytes == 4
    assert scenario("cost=literal").cost.value_bytes == 4
