"""Scenario whose devices and links all have figures of their energy."""

from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

SCENARIO = """
name: watts
seed: 5
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB, power: {idle: 2 W, busy: 5 W}}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB, power: {idle: 1 W, busy: 7 W}}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms, energy: {send: 40 nJ/bit, receive: 10 nJ/bit}}
policy: round-robin
workload:
  prompts: [{tokens: 7}, {tokens: 3}]
  max_tokens: 8
time: {mode: virtual, dilation: 2}
decisions: {time: 0 ms}
"""


def scenario(*settings: str) -> Scenario:
    """Parse it, with some settings."""
    return parse_scenario(SCENARIO, "watts", settings)
