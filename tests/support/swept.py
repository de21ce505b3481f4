"""A scenario with random devices and links for sweeps, and what two runs of it have in common."""

from typing import Any

SCENARIO = """
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 4096}
devices:
  - {name: pi, count: 2, gflops: {uniform: {low: 5 GFLOPS, high: 20 GFLOPS}}, mem_bandwidth: 4 GB/s, memory: 64 MiB}
  - {name: nano, gflops: 20 GFLOPS, mem_bandwidth: {uniform: {low: 2 GB/s, high: 8 GB/s}}, memory: 64 MiB}
network:
  default: {bandwidth: 100 Mbit/s, delay: {uniform: {low: 1 ms, high: 3 ms}}}
workload:
  prompts: [{tokens: 8}, {tokens: 4}]
  max_tokens: 5
decisions: {time: 0 ms}
time: {mode: virtual}
"""
OF_THE_HOST = ("wall", "certificate", "controller_ms", "decisions", "directory", "ready_s", "loaded_s")


def of_the_run(summary: dict[str, Any]) -> dict[str, Any]:
    """Take what no host decides."""
    return {key: value for key, value in summary.items() if key not in OF_THE_HOST}
