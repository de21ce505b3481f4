"""Galaxy on real processes: the undivided model's tokens whatever joins the shards, in the time that is predicted."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from support.clusters import cluster
from support.watching import RecordedRun

from edgeemu.placement.blocks import Block, Kind, all_blocks, shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import load_scenario, parse_scenario
from edgeemu_kernels.reference import Reference

SCENARIO = """
model:
  shape: {n_layers: 3, d_model: 48, n_heads: 8, n_kv_heads: 4, head_dim: 6, d_ff: 96, vocab_size: 200, max_context: 64}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB, overhead: 10 us}
  - {name: b, gflops: 0.7 GFLOPS, mem_bandwidth: 0.5 GB/s, memory: 8 MiB}
  - {name: c, gflops: 0.3 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB}
  - {name: d, gflops: 0.5 GFLOPS, mem_bandwidth: 1 GB/s, memory: 8 MiB, overhead: 10 us}
  - {name: e, gflops: 0.2 GFLOPS, mem_bandwidth: 0.3 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 50 Mbit/s, delay: 0.3 ms}
policy: galaxy
workload:
  prompts: [{tokens: 1}, {tokens: 4}, {tokens: 23}]
  max_tokens: 4
time: {mode: virtual, dilation: 2}
decisions: {time: 0 ms}
"""
WAYS = (
    ("sharding.collectives=star",),
    ("sharding.tile_overlap=false",),
    ("sharding.tile_overlap=true",),
)


def make(n_devices: int, *changes: str) -> Plan:
    scenario = parse_scenario(SCENARIO, "galaxy", changes)
    return make_plan(scenario.model_copy(update={"devices": scenario.devices[:n_devices]}))


def assert_reference(controller: RecordedRun, plan: Plan) -> None:
    reference = Reference(plan.model.open_source())
    for sequence, request in enumerate(plan.requests):
        ids = list(request.ids)
        tokens = [row.token for row in controller.tokens if row.sequence == sequence]
        assert tokens == reference.generate(ids, request.max_tokens)
        logits = reference.logits(ids + tokens[:-1])[len(ids) - 1 :]  # [tokens, vocab]
        np.testing.assert_allclose(np.stack(controller.logits[sequence]), logits, rtol=0, atol=1e-4)


async def simulated(plan: Plan) -> RecordedRun:
    controller = RecordedRun(plan, SimulatedBackend(plan))
    await controller.run()
    return controller


@pytest.mark.parametrize("n_devices", [1, 2, 3, 5])
def test_tokens_are_the_references_and_times_those_of_the_simulator(n_devices: int) -> None:
    """Prompts of fewer rows than devices and of more; one device holds the model undivided."""
    plans = [make(n_devices, *changes) for changes in WAYS]
    divided = [sum(block.is_shard for block in plan.placement.owner) for plan in plans]
    assert all(divided) == any(divided) == (n_devices > 1)

    async def main() -> None:
        async with cluster(plans[0]) as run:
            for plan in plans:
                ran, told = await run(plan), await simulated(plan)
                assert_reference(ran, plan)
                assert [row.latency_s for row in ran.tokens] == [row.latency_s for row in told.tokens]
                operations = [[row[:6] for row in sorted(each.ops)] for each in (ran, told)]
                assert sorted(operations[0]) == sorted(operations[1])

    uvloop.run(main())


@pytest.mark.parametrize("changes", WAYS, ids=["star", "ring", "tiles"])
def test_paced_tokens_are_the_references(changes: tuple[str, ...]) -> None:
    """In decoding every device has one operation at a time: a host that is late does not change their times."""
    plan = make(3, *changes, "time.mode=realtime", "workload.prompts=[{tokens: 11}]")

    async def main() -> None:
        async with cluster(plan) as run:
            ran, told = await run(plan), await simulated(plan)
        assert_reference(ran, plan)
        decoded = [[row.latency_s for row in each.tokens[1:]] for each in (ran, told)]
        assert decoded[0] == pytest.approx(decoded[1], rel=1e-6)

    uvloop.run(main())


def test_on_a_fast_lan_it_beats_the_best_device_and_tiles_beat_the_ring_and_that_a_star() -> None:
    """The scenario that shows it, on the timeline alone."""
    path = Path(__file__).parents[2] / "scenarios" / "galaxy-lan.yaml"

    def ttft_s(policy: str, *changes: str) -> float:
        scenario = load_scenario(path, ["model.weights_seed=0", *changes])
        return make_plan(scenario, policy).predictions()[0].ttft_s

    alone_s, tiles_s = ttft_s("single"), ttft_s("galaxy")
    ring_s = ttft_s("galaxy", "sharding.tile_overlap=false")
    star_s = ttft_s("galaxy", "sharding.collectives=star")
    assert tiles_s < 0.75 * ring_s
    assert ring_s < 0.75 * star_s
    assert tiles_s < 0.5 * alone_s


def divided(plan: Plan, chance: random.Random) -> Placement:
    """Anywhere, some projections and feed-forwards in shards."""
    shape = plan.model.shape
    owner: dict[Block, int] = {}
    for block in all_blocks(shape):
        cut = block.kind in (Kind.PROJ, Kind.FFN) and chance.random() < 0.7
        for each in shards(shape, block.kind, block.layer) if cut else [block]:
            owner[each] = chance.randrange(3)
    return Placement(owner)


class Shuffle:
    """Every time some blocks, of any kind, go to any device."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        share = self._chance.choice([0.05, 0.3, 0.9])
        moving = [block for block in sorted(current.owner) if self._chance.random() < share]
        return Placement({**current.owner, **{block: self._chance.randrange(3) for block in moving}})


@pytest.mark.parametrize("flash", ["true", "false"])
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_any_sequence_of_migrations_of_shards_leaves_the_text_as_it_is(mode: str, flash: str) -> None:
    changes = (f"migration.mode={mode}", f"migration.weights_on_flash={flash}", "workload.max_tokens=8")
    plans = [make(3, *changes, *way) for way in WAYS]

    async def main() -> None:
        async with cluster(plans[0]) as run:
            for seed, plan in enumerate(plans):
                chance = random.Random(f"{mode} {flash} {seed}")
                moving = replace(plan, placement=divided(plan, chance), decide=Shuffle(chance))
                controller = await run(moving)
                assert_reference(controller, plan)
                moved = [row.block for row in controller.migrations if row.outcome == "committed"]
                assert any(name.startswith(("ffn", "proj")) and "," in name for name in moved)

    asyncio.run(main())
