"""Scenarios whose collectives gather, and which cannot: refused with the line, before anything runs."""

import pytest

from edgeemu.errors import RequestError
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import parse_scenario

SCENARIO = """
model: {shape: {n_layers: 2, d_model: 64, n_heads: 4, n_kv_heads: 4, head_dim: 16, d_ff: 128, vocab_size: 99,
  max_context: 64}}
devices: [{name: n, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}]
network: {default: {bandwidth: 50 Mbit/s, delay: 0.3 ms}}
workload: {prompts: [{tokens: 4}], max_tokens: 4}
policy: layers
sharding:
  collectives: gather
"""
ENDS_APART = "{heads: {n-1: 0-1, n-2: 2-3}, proj: {n-1: 0-1, n-2: 2-3}, ffn: {n-1: 1/2, n-2: 1/2}}"


@pytest.mark.parametrize(
    ("policy", "changes", "message"),
    [
        ("lookahead", (), r"sharding.collectives: gather divides rows of matrices, which cannot move, and lookahead"),
        ("greedy", (), r"which cannot move, and greedy moves blocks; take distributed-llama-0.1 or another policy"),
        ("galaxy", ("cost=literal",), "cost: literal costs have no formulas for collectives that gather"),
        (
            "given",
            (f"placement={{embed: n-1, lm_head: n-2, layers: {{0-1: {ENDS_APART}}}}}",),
            "sharding.collectives: gather needs the embedding and the output matrix on one device, and they are on two",
        ),
    ],
)
def test_what_cannot_be_gathered_is_refused(policy: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_plan(parse_scenario(SCENARIO, "s", changes), policy)


def test_nothing_moves_although_memory_varies() -> None:
    changes = ("events=[{at_token: 2, device: n-1, memory: 4 MiB}]",)
    assert make_plan(parse_scenario(SCENARIO, "s", changes), "distributed-llama-0.1").decide is None
    assert make_plan(parse_scenario(SCENARIO, "s", changes), "distributed-llama").view.gather
    plain = SCENARIO.replace("sharding:\n  collectives: gather\n", "")
    assert make_plan(parse_scenario(plain, "s", changes), "distributed-llama").decide is not None


def test_a_policy_that_is_a_system_brings_its_collectives() -> None:
    """Collectives that the scenario says stay; complete layers in a chain need no collectives."""
    plain = parse_scenario(SCENARIO.replace("sharding:\n  collectives: gather\n", ""))
    found = {
        name: make_plan(plain, name).scenario.sharding.collectives
        for name in ("layers", "distributed-llama", "distributed-llama-0.1", "llama.cpp-rpc", "exo-ring", "exo-tensor")
    }
    assert found == {
        "layers": None,
        "distributed-llama": "star",
        "distributed-llama-0.1": "gather",
        "llama.cpp-rpc": "relay",
        "exo-ring": None,
        "exo-tensor": "ring",
    }
    chain = make_plan(parse_scenario(SCENARIO), "layers")
    assert chain.program == make_plan(plain, "layers").program
