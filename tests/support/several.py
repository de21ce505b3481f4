"""Several sequences in flight on three devices, and the reference that their texts must equal."""

import json
from functools import cache

import uvloop

from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.sampling import Sampling
from edgeemu_kernels.weights.sources import open_source
from support.watching import RecordedRun

SCENARIO = """
name: several
seed: 5
model:
  shape:
    {n_layers: 3, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64,
     tied_embeddings: true}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms}
policy: round-robin
workload:
  prompts: [{tokens: 7}, {tokens: 3}, {tokens: 12}, {tokens: 1}, {tokens: 5, max_tokens: 1}, {tokens: 9}, {tokens: 2},
            {tokens: 4, max_tokens: 9}, {tokens: 6}, {tokens: 8}]
  max_tokens: 6
time: {mode: virtual, dilation: 2}
decisions: {time: 0 ms}
"""
SAMPLED = "workload.sampling={temperature: 1.5, top_k: 50, seed: 3}"


def make(*changes: str) -> Plan:
    return make_plan(parse_scenario(SCENARIO, "several", changes))


def reference_tokens(plan: Plan) -> list[list[int]]:
    source, asked = json.dumps(plan.model.spec), plan.scenario.workload.sampling
    return [
        list(
            _generated(
                source,
                request.ids,
                request.max_tokens,
                Sampling(asked.temperature, asked.top_k, asked.top_p, request.seed),
            )
        )
        for request in plan.requests
    ]


@cache
def _generated(source: str, ids: tuple[int, ...], max_tokens: int, sampling: Sampling) -> tuple[int, ...]:
    """Computed once for all runs that must equal it. `source`: JSON of what `open_source` takes."""
    return tuple(Reference(open_source(json.loads(source))).generate(list(ids), max_tokens, sampling))


def tokens_of(controller: RecordedRun) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in controller.plan.requests]
    for row in controller.tokens:
        made[row.sequence].append(row.token)
    return made


def simulated(plan: Plan) -> RecordedRun:
    controller = RecordedRun(plan, SimulatedBackend(plan))
    uvloop.run(controller.run())
    return controller
