"""Weights, caches and messages in other formats between real processes, while blocks move and layers are divided."""

from dataclasses import replace

import pytest
import uvloop
from support.clusters import cluster
from support.moving import Redivide
from support.several import make, reference_tokens, simulated, tokens_of
from support.watching import RecordedRun

from edgeemu.placement.costs import PhysicalCosts
from edgeemu.run.plan import Plan

BLOCKS = (  # a model whose rows are whole blocks, also of 256
    "model.shape={n_layers: 3, d_model: 256, n_heads: 4, n_kv_heads: 2, head_dim: 32, d_ff: 512, vocab_size: 200, "
    "max_context: 64, tied_embeddings: true}",
    "devices[0].memory=64 MiB",
    "devices[1].memory=64 MiB",
    "workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 12}]",
    "workload.concurrency=2",
)


@pytest.mark.parametrize(
    ("precision", "mode"),
    [
        ("{weights: q4_0, cache: f16, messages: q8_0}", "pause"),
        ("{weights: q6_k, cache: q8_0, messages: f16}", "precopy"),
        ("{weights: bf16, cache: q4_1, messages: f32}", "precopy"),
    ],
)
def test_texts_are_the_references_and_figures_those_of_the_simulator(precision: str, mode: str) -> None:
    rules = (*BLOCKS, f"precision={precision}", f"migration.mode={mode}")
    plan = make(*rules)

    async def main() -> RecordedRun:
        async with cluster(plan) as run:
            return await run(dividing(*rules))

    made, again = uvloop.run(main()), simulated(dividing(*rules))
    assert tokens_of(made) == reference_tokens(plan)
    assert [row.emulated_s for row in made.tokens] == [row.emulated_s for row in again.tokens]
    assert [row._replace(epoch=0) for row in made.migrations] == [row._replace(epoch=0) for row in again.migrations]
    assert len(made.migrations) > 2
    assert not made.problems
    assert isinstance(made.plan.costs, PhysicalCosts)
    assert made.plan.costs.shape.precision != make(*BLOCKS).costs.shape.precision


def dividing(*rules: str) -> Plan:
    return replace(make(*rules), decide=Redivide(2, 3))
