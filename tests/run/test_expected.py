"""Expected times of runs before they start: those of the simulator, and of long workloads nearly so."""

import pytest

from edgeemu.run.expected import expected_s
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 256, n_heads: 4, n_kv_heads: 1, head_dim: 64, d_ff: 1024, vocab_size: 99,
          max_context: 4096}
devices:
  - {name: pi, count: 2, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
network:
  default: {bandwidth: 100 Mbit/s, delay: 2 ms}
"""


def scenario(prompts: int, max_tokens: int, concurrency: int) -> Scenario:
    each = ", ".join(["{tokens: 8}"] * prompts)
    workload = f"workload: {{prompts: [{each}], max_tokens: {max_tokens}, concurrency: {concurrency}}}"
    return parse_scenario(SCENARIO + workload)


@pytest.mark.parametrize(("prompts", "max_tokens", "concurrency"), [(1, 20, 1), (1, 1, 1), (3, 900, 1), (4, 600, 2)])
def test_what_is_expected_is_about_what_the_timeline_says(prompts: int, max_tokens: int, concurrency: int) -> None:
    wanted = scenario(prompts, max_tokens, concurrency)
    steps: list[int] = []
    found = expected_s(wanted, ["round-robin", "single"], lambda done, _: steps.append(done))
    assert steps == [0, 1, 2]
    for policy, took_s in found.items():
        whole_s = max(times.sampled_s[-1] for times in make_plan(wanted, policy).predictions())
        assert took_s == pytest.approx(whole_s, rel=0.1)


def test_who_finds_no_placement_has_no_time() -> None:
    small = parse_scenario(SCENARIO + "workload: {prompts: [{tokens: 8}]}", overrides=["devices[0].memory=50 KiB"])
    assert expected_s(small, ["single"], lambda *_: None) == {}
