"""Whatever the placement, the tokens are those of the undivided model: real weights, real processes, real messages."""

import asyncio
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from numpy.typing import NDArray
from support.clusters import cluster, run_side_by_side
from support.watching import RecordedRun

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies import PARTICULAR, POLICIES
from edgeemu.run.given_placement import given_placement
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu_kernels.reference import Reference

pytestmark = pytest.mark.long
SCENARIO = """
model: {{gguf: {gguf}}}
devices:
  - {{name: laptop, gflops: 40 GFLOPS, mem_bandwidth: 12 GB/s, memory: 4 GiB}}
  - {{name: pi, count: 2, gflops: 12 GFLOPS, mem_bandwidth: 4 GB/s, memory: 4 GiB}}
  - {{name: jetson, gflops: 30 GFLOPS, mem_bandwidth: 10 GB/s, memory: 4 GiB}}
  - {{name: phone, gflops: 20 GFLOPS, mem_bandwidth: 8 GB/s, memory: 4 GiB}}
network:
  default: {{bandwidth: 100 Mbit/s, delay: 2 ms}}
workload:
  prompts: [The capital of France is, "def fibonacci(n):", Once upon a time there was a small robot who]
  chat: false
  max_tokens: 4
policy: greedy
time: {{mode: virtual}}
"""


PARTLY_DIVIDED = (  # each kind of layer that has some of its blocks on several devices, others whole
    "{heads: jetson, proj: jetson, ffn: {laptop: 40 %, pi-1: 10 %, jetson: 50 %}}",
    "{heads: {laptop: 0-1, phone: 2}, proj: {laptop: 0-1, phone: 2}, ffn: jetson}",
    "{heads: {pi-1: 0, pi-2: 1, phone: 2}, proj: laptop, ffn: {laptop: 26/64, jetson: 38/64}}",
    "{heads: laptop, proj: {pi-1: 2, jetson: 0-1}, ffn: pi-1}",
    "{heads: {laptop: [0, 2], jetson: 1}, proj: {pi-1: 0, pi-2: 1-2}, ffn: {phone: 1/3, laptop: 2/3}}",
    "{device: phone, ffn: {laptop: [0-9, 20, 63], pi-2: [10-19, 21-62]}}",
)


Expected = list[tuple[list[int], NDArray[np.float32]]]
"""For each prompt the reference's greedy tokens, and the logits that each was taken from [tokens, vocab]."""


@pytest.fixture(scope="module")
def plan(smollm2_gguf: Path) -> Plan:
    return make_plan(parse_scenario(SCENARIO.format(gguf=smollm2_gguf)))


@pytest.fixture(scope="module")
def packed(plan: Plan) -> Plan:
    """The plan with weights as they are in the file: the same numbers as in float32, in a fifth of the memory."""
    return make_plan(parse_scenario(to_yaml(plan.scenario), overrides=["precision.weights=file"]))


@pytest.fixture(scope="module")
def expected(plan: Plan) -> Expected:
    reference = Reference(plan.model.open_source())
    found = []
    for request in plan.requests:
        ids = list(request.ids)
        tokens = reference.generate(ids, request.max_tokens)
        found.append((tokens, reference.logits(ids + tokens[:-1])[len(ids) - 1 :]))
    return found


def assert_equal(controller: RecordedRun, expected: Expected) -> None:
    """Tokens the same, logits within 1e-3, at every step of every prompt."""
    for sequence, (tokens, logits) in enumerate(expected):
        assert [row.token for row in controller.tokens if row.sequence == sequence] == tokens
        np.testing.assert_allclose(np.stack(controller.logits[sequence]), logits, rtol=0, atol=1e-3)


def test_the_answer_of_every_policy_is_the_references(
    plan: Plan, packed: Plan, expected: Expected, smollm2_gguf: Path
) -> None:
    lines = SCENARIO.format(gguf=smollm2_gguf).splitlines()
    two_devices = parse_scenario("\n".join(line for line in lines if "name: pi" not in line and "phone" not in line))
    assert two_devices.device_names == ("laptop", "jetson")

    plans = []
    for name in sorted(POLICIES.keys() - {"given"} - PARTICULAR):
        with closing(make_plan(two_devices if name == "exact" else plan.scenario, name)) as made:  # of five: seconds
            if all(made.placement.owner != other.placement.owner for other in plans):  # several agree here
                plans.append(replace(packed if len(plans) % 4 else plan, placement=made.placement, decide=None))
    assert len(plans) > 5
    uvloop.run(run_side_by_side(plans, lambda _, run: assert_equal(run, expected)))


def by_hand(plan: Plan, shift: int, collectives: str) -> Plan:
    """A plan whose layers are partly divided, of all kinds in turn; its last layer is of another kind by `shift`."""
    layers = [f"    {n}: {PARTLY_DIVIDED[(n + shift) % len(PARTLY_DIVIDED)]}" for n in range(30)]
    lines = ["placement:", "  embed: pi-2", "  lm_head: laptop", "  layers:", *layers]
    base = to_yaml(plan.scenario.model_copy(update={"policy": "given"}))
    scenario = parse_scenario("\n".join([base, *lines]), overrides=[f"sharding.collectives={collectives}"])
    return replace(plan, scenario=scenario, placement=given_placement(scenario, plan.model.shape), decide=None)


def test_the_answer_of_partly_divided_layers_is_the_references(plan: Plan, expected: Expected) -> None:
    plans = [by_hand(plan, 0, "star"), by_hand(plan, 1, "ring"), by_hand(plan, 3, "ring")]
    uvloop.run(run_side_by_side(plans, lambda _, run: assert_equal(run, expected)))


@pytest.mark.parametrize("collectives", ["star", "gather"])
def test_the_answer_of_equal_shares_is_the_references(expected: Expected, collectives: str, smollm2_gguf: Path) -> None:
    """Three devices, a K/V head each: partial sums that a root adds, and rows of all matrices, which it gathers."""
    lines = SCENARIO.format(gguf=smollm2_gguf).splitlines()
    three = "\n".join(line for line in lines if "name: pi" not in line)
    scenario = parse_scenario(three, overrides=[f"sharding.collectives={collectives}"])
    with closing(make_plan(scenario, "exo-tensor")) as made:
        assert len(made.placement.groups(0, 3)) == 3

        async def main() -> RecordedRun:
            async with cluster(made) as run:
                return await run(made)

        assert_equal(uvloop.run(main()), expected)


@pytest.mark.timeout(400)
def test_the_answer_of_thirty_random_placements_is_the_references(plan: Plan, packed: Plan, expected: Expected) -> None:
    """Heads of one layer scattered over all devices; of one placement more, they move while it answers.

    Every sixth has its weights in float32; others have them as the file does, which is the same numbers.
    """
    shape, blocks = plan.model.shape, list(all_blocks(plan.model.shape))
    draw = random.Random(2505)
    placements = [Placement({block: draw.randrange(5) for block in blocks}) for _ in range(31)]
    for placement in placements:
        holders = [len(placement.groups(layer, shape.n_groups)) for layer in range(shape.n_layers)]
        assert sum(holders) > 1.5 * len(holders)

    async def answer(made: Plan, which: list[Placement]) -> None:
        async with cluster(made) as run:
            for placement in which:
                assert_equal(await run(replace(made, placement=placement, decide=None)), expected)

    async def main() -> None:
        of_each = [placements[0:30:6], [each for n, each in enumerate(placements[:30]) if n % 6]]
        async with asyncio.TaskGroup() as both:
            for made, which in zip((plan, packed), of_each, strict=True):
                both.create_task(answer(made, which))
        async with cluster(plan) as run:
            moving = await run(replace(plan, placement=placements[30]))
        assert len(moving.migrations) > 100
        assert_equal(moving, expected)

    asyncio.run(main())


def test_a_simulation_of_a_model_that_has_words_has_none(plan: Plan) -> None:
    async def main() -> RecordedRun:
        controller = RecordedRun(plan, SimulatedBackend(plan))
        await controller.run()
        return controller

    controller = uvloop.run(main())
    assert controller.texts == [""] * len(plan.requests)
    assert len(controller.tokens) == sum(request.max_tokens for request in plan.requests)
