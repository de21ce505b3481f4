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

ROOMS = ("devices[0].memory=180 kB", "devices[1].memory=110 kB")


def dividing(seed: int, *changes: str) -> Plan:
    return replace(make(*changes), decide=Redivide(seed, 3))


@pytest.mark.parametrize(("mode", "flash"), [("pause", "false"), ("precopy", "true")])
def test_texts_are_the_references_and_figures_those_of_the_simulator(mode: str, flash: str) -> None:
    """One sequence, and several at once; every collective; and so little memory that devices refuse some changes."""
    rules = (f"migration.mode={mode}", f"migration.weights_on_flash={flash}", "migration.chunk=1 kB", PROMPTS, *ROOMS)
    cases = [(f"workload.concurrency={n}", way) for n, way in zip((1, 3, 8), WAYS, strict=True)]
    plan = make(*rules)
    expected = reference_tokens(plan)

    async def main() -> list[RecordedRun]:
        async with cluster(plan) as run:
            return [await run(dividing(seed, *rules, *case)) for seed, case in enumerate(cases)]

    regrouped = refused = 0
    for seed, (case, made) in enumerate(zip(cases, uvloop.run(main()), strict=True)):
        assert tokens_of(made) == expected
        again = simulated(dividing(seed, *rules, *case))
        rows = [[row._replace(epoch=0) for row in each.migrations] for each in (made, again)]
        assert rows[0] == rows[1]
        assert [row.emulated_s for row in made.tokens] == [row.emulated_s for row in again.tokens]
        assert made.problems == again.problems
        assert all("is out of memory: incoming needs" in problem for problem in made.problems)
        assert isinstance(made.plan.decide, Redivide)
        seen = made.plan.decide.seen
        regrouped += sum(bool(regroupings(*pair)) for pair in pairwise(seen))
        refused += len(made.problems)
    assert min(regrouped, refused) > 2


@pytest.mark.parametrize("way", WAYS[::2], ids=["star", "ring"])
def test_paced_times_are_those_of_the_simulator(way: str) -> None:
    """Changes that are waited for, of one sequence: a host that is late changes nothing."""
    rules = (way, "migration.chunk=1 kB", "time.mode=realtime", "workload.prompts=[{tokens: 7}]")

    async def main() -> RecordedRun:
        async with cluster(make(*rules)) as run:
            return await run(dividing(4, *rules))

    made = uvloop.run(main())
    assert tokens_of(made) == reference_tokens(made.plan)
    again = simulated(dividing(4, *rules))
    assert made.migrations
    assert [row.bytes for row in made.migrations] == [row.bytes for row in again.migrations]
    told = [row.latency_s for row in again.tokens]
    assert [row.latency_s for row in made.tokens] == pytest.approx(told, rel=1e-6)
