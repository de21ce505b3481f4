"""Whatever the placement, the tokens are those of the undivided model: real weights, real processes, real messages."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvloop
from numpy.typing import NDArray
from support.watching import RecordedRun, Silent

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies import POLICIES
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.reference import Reference

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
time: {{mode: virtual}}
"""


Expected = list[tuple[list[int], NDArray[np.float32]]]
"""For each prompt the reference's greedy tokens, and the logits that each was taken from [tokens, vocab]."""


@pytest.fixture(scope="module")
def plan(smollm2_gguf: Path) -> Plan:
    return make_plan(parse_scenario(SCENARIO.format(gguf=smollm2_gguf)))


@pytest.fixture(scope="module")
def expected(plan: Plan) -> Expected:
    reference = Reference(plan.model.open_source())
    found = []
    for request in plan.requests:
        ids = list(request.ids)
        tokens = reference.generate(ids, request.max_tokens)
        found.append((tokens, reference.logits(ids + tokens[:-1])[len(ids) - 1 :]))
    return found


async def compare(plan: Plan, placements: Sequence[Placement], expected: Expected) -> None:
    """Run one placement after the other on five device processes, and compare each with the reference."""
    devices = ProcessBackend(plan, Silent().phase, keep_logits=True)
    async with devices.launched():
        for placement in placements:
            placed = replace(plan, placement=placement)
            await devices.assign(placed)
            controller = RecordedRun(placed, devices)
            await controller.run_requests()
            assert_equal(controller, expected)


async def compare_all(plan: Plan, placements: Sequence[Placement], expected: Expected) -> None:
    """Compare on two clusters at once: one device of a cluster computes at a time, and hosts have two cores."""
    await asyncio.gather(*(compare(plan, placements[first::2], expected) for first in (0, 1)))


def assert_equal(controller: RecordedRun, expected: Expected) -> None:
    """Tokens the same, logits within 1e-3, at every step of every prompt."""
    for sequence, (tokens, logits) in enumerate(expected):
        assert [row.token for row in controller.tokens if row.sequence == sequence] == tokens
        np.testing.assert_allclose(np.stack(controller.logits[sequence]), logits, rtol=0, atol=1e-3)


def test_the_answer_of_every_policy_is_the_references(plan: Plan, expected: Expected, smollm2_gguf: Path) -> None:
    lines = SCENARIO.format(gguf=smollm2_gguf).splitlines()
    two_devices = parse_scenario("\n".join(line for line in lines if "name: pi" not in line and "phone" not in line))
    assert two_devices.device_names == ("laptop", "jetson")

    # Of five devices `exact` takes seconds.
    placed = [make_plan(two_devices if name == "exact" else plan.scenario, name).placement for name in POLICIES]
    uvloop.run(compare_all(plan, placed, expected))


@pytest.mark.timeout(400)
def test_the_answer_of_thirty_random_placements_is_the_references(plan: Plan, expected: Expected) -> None:
    """Heads of one layer scattered over all devices."""
    blocks = list(all_blocks(plan.model.shape))
    draw = random.Random(2505)

    placements = [Placement({block: draw.randrange(5) for block in blocks}) for _ in range(30)]
    shape = plan.model.shape
    for placement in placements:
        scattered = [len(placement.groups(layer, shape.n_groups)) for layer in range(shape.n_layers)]
        assert sum(scattered) > 1.5 * len(scattered)
    asyncio.run(compare_all(plan, placements, expected))


def test_a_simulation_of_a_model_that_has_words_has_none(plan: Plan) -> None:
    async def main() -> RecordedRun:
        controller = RecordedRun(plan, SimulatedBackend(plan))
        await controller.run()
        return controller

    controller = uvloop.run(main())
    assert controller.texts == [""] * len(plan.requests)
    assert len(controller.tokens) == sum(request.max_tokens for request in plan.requests)
