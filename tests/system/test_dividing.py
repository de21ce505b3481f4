"""Layers are divided, joined and shared out anew between real processes while texts are generated as if none were."""

from dataclasses import replace
from itertools import pairwise

import pytest
import uvloop
from support.clusters import cluster
from support.moving import Redivide
from support.several import make, reference_tokens, simulated, tokens_of
from support.watching import RecordedRun

from edgeemu.placement.placement import regroupings
from edgeemu.run.plan import Plan

WAYS = (
    "sharding={collectives: star}",
    "sharding={collectives: ring, tile_overlap: false}",
    "sharding={collectives: ring, tile_overlap: true}",
)


PROMPTS = "workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 1}, {tokens: 12}, {tokens: 5, max_tokens: 9}]"


def dividing(seed: int, *changes: str) -> Plan:
    return replace(make(*changes), decide=Redivide(seed, 3))


@pytest.mark.parametrize(("mode", "flash"), [("pause", "false"), ("precopy", "true")])
def test_texts_are_the_references_and_figures_those_of_the_simulator(mode: str, flash: str) -> None:
    """Of one sequence and of several at once, with every collective."""
    rules = (f"migration.mode={mode}", f"migration.weights_on_flash={flash}", "migration.chunk=1 kB", PROMPTS)
    cases = [(f"workload.concurrency={n}", way) for n, way in zip((1, 3, 8), WAYS, strict=True)]
    plan = make(*rules)
    expected = reference_tokens(plan)

    async def main() -> list[RecordedRun]:
        async with cluster(plan) as run:
            return [await run(dividing(seed, *rules, *case)) for seed, case in enumerate(cases)]

    regrouped = 0
    for seed, (case, made) in enumerate(zip(cases, uvloop.run(main()), strict=True)):
        assert tokens_of(made) == expected
        again = simulated(dividing(seed, *rules, *case))
        rows = [[row._replace(epoch=0) for row in each.migrations] for each in (made, again)]
        assert rows[0] == rows[1]
        assert [row.emulated_s for row in made.tokens] == [row.emulated_s for row in again.tokens]
        assert made.problems == again.problems == []
        assert isinstance(made.plan.decide, Redivide)
        seen = made.plan.decide.seen
        regrouped += sum(bool(regroupings(*pair)) for pair in pairwise(seen))
    assert regrouped > 5
