"""Shares shift between devices on however many of them a placement is."""

from dataclasses import replace

import pytest
from support.several import simulated

from edgeemu.policies.compiled.share_code import FEW_DEVICES
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model:
  shape: {n_layers: LAYERS, d_model: 1024, n_heads: 16, n_kv_heads: 16, head_dim: 64, d_ff: 4096, vocab_size: 32000,
          max_context: 2048}
devices:
  - {name: board, count: 12, gflops: 10 GFLOPS, mem_bandwidth: 2 GB/s, memory: 2 GiB}
network: {default: {bandwidth: 2 Gbit/s, delay: 50 us}}
sharding: {divide: true}
workload: {prompts: [{tokens: 16}], max_tokens: 48}
"""


def seconds(layers: int, *settings: str, stay: bool = False) -> float:
    """Seconds until all tokens are there, under `lookahead` from a placement that is on all devices."""
    scenario = parse_scenario(SCENARIO.replace("LAYERS", str(layers)), "wide", settings)
    placed, plan = (make_plan(scenario, policy) for policy in ("galaxy", "lookahead"))
    assert len(placed.placement.devices()) > FEW_DEVICES
    plan = replace(plan, placement=placed.placement, decide=None if stay else plan.decide)
    return max(row.emulated_s for row in simulated(plan).tokens)


SEVERAL = "workload.concurrency=3", "workload.prompts=[{tokens: 16}, {tokens: 16}, {tokens: 16}]"


@pytest.mark.parametrize(("layers", "others"), [(1, ()), (6, ()), (1, SEVERAL)])
def test_a_device_of_many_that_is_almost_lost_gives_its_shares_away(layers: int, others: tuple[str, ...]) -> None:
    event = "events=[{at_token: 8, device: board-3, speed: 5 %}]"
    good_s, bad_s = seconds(layers, *others, stay=True), seconds(layers, event, *others, stay=True)
    gained_s = bad_s - seconds(layers, event, *others)
    assert gained_s >= 0.8 * (bad_s - good_s)
