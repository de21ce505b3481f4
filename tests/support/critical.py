"""Runs with critical paths: one token by hand, and simulated runs of every kind."""

from functools import cache

from edgeemu.report.rows import DecisionRow, LinkRow, MigrationRow, OperationRow, TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario
from support.moving import simulated
from support.watching import RecordedRun


def op(
    device: str,
    block: str,
    number: int,
    last: int,
    times: tuple[float, float, float],
    last_bytes: int = 0,
    step: int = 0,
) -> OperationRow:
    return OperationRow(
        *(device, 0, step, 0, block, 0, 2, 0, number, last, last_bytes, 1e6, 1e6), *times, 0.0, 0.0, overrun=False
    )


def by_hand() -> RowsInMemory:
    """One token on two devices: a embeds and has a head, b has the other head, and all the rest.

    The head of b starts late, because b computes something else. Its feed-forward waits for the head of a, whose
    message of 100 bytes takes 1 s at the path's bandwidth, 0.25 s at its delay, and 0.5 s in a queue.
    """
    records = RowsInMemory()
    records.append("tokens", [TokenRow(0, 0, 1, "x", 1.5, 14.0, 14.0, 0.0, 0.0)])
    records.append(
        "ops",
        [
            op("a", "embed", 0, -1, (1.5, 1.5, 2.5)),
            op("a", "head", 1, 0, (2.5, 3.0, 6.0)),
            op("b", "head", 2, 0, (3.75, 4.0, 5.0), 100),
            op("b", "ffn", 3, 1, (7.75, 7.75, 10.0), 100),
            op("b", "lm_head", 4, 3, (10.0, 10.0, 14.0)),
        ],
    )
    records.append("links", [LinkRow("a", "b", 0, 0, 2, 200, 4.5, 1.0, 2.0, 0.5, None)])
    records.append("decisions", [DecisionRow(0, 0, "decided", 0.1, 0.25, "")])
    records.append("migrations", [MigrationRow(0, 0, 2, "ffn(0)", "a", "b", 7, 0.0, 1.0, 0.5, "committed")])
    return records


MOVING = """
seed: 3
model:
  shape: {n_layers: 4, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 128, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB, message_overhead: 0.2 ms, byte_overhead: 1 ns}
  - {name: b, count: 3, gflops: 1 GFLOPS, mem_bandwidth: 0.08 GB/s, memory: 8 MiB, message_overhead: 0.1 ms}
network:
  default: {bandwidth: 20 Mbit/s, delay: 0.3 ms, jitter: 0.1 ms, loss: 1 %}
events: [{at_token: 5, device: a, speed: 0.2}]
policy: lookahead
decisions: {interval: 2, time: 1 ms}
workload: {prompts: [{tokens: 7, repeat: 3}, {tokens: 5}], max_tokens: 14, concurrency: 2}
"""
CASES = {
    "blocks that move over busy processors": ("migration.mode=pause", "migration.chunk=1 kB"),
    "chain": ("policy=layers", "workload.concurrency=1"),
    "scattered heads with queueing": ("policy=round-robin", "network.topology=line"),
    "shards in a ring": ("policy=galaxy",),
    "shards in a star": ("policy=galaxy", "sharding.collectives=star"),
    "several sequences with a migration": ("workload.concurrency=4",),
    "gathered": ("policy=distributed-llama-0.1", "engine=distributed-llama-0.1"),
}


@cache
def run_of(*changes: str) -> RecordedRun:
    """Simulated once for all tests of its records, which they leave as they are."""
    return simulated(make_plan(parse_scenario(MOVING, "moving", changes)))
