"""A small model on three devices whose blocks move while it generates, and the reference that its text must equal."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeemu.placement.blocks import Kind, all_blocks, head, shards
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend
from edgeemu.scenario.load import parse_scenario
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.reference import Reference
from support.watching import RecordedRun

SCENARIO = """
name: moving
seed: 5
model:
  shape:
    {n_layers: 2, d_model: 32, n_heads: 8, n_kv_heads: 4, head_dim: 4, d_ff: 64, vocab_size: 200, max_context: 64,
     tied_embeddings: true}
devices:
  - {name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}
  - {name: b, count: 2, gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s, memory: 8 MiB}
network:
  default: {bandwidth: 10 Mbit/s, delay: 1 ms}
policy: round-robin
workload:
  prompts: [{tokens: 7}, {tokens: 3}]
  max_tokens: 8
time: {mode: virtual, dilation: 2}
decisions: {time: 0 ms}
"""


def make(*changes: str, decide: Callable[[ClusterView, Placement | None], Placement]) -> Plan:
    plan = make_plan(parse_scenario(SCENARIO, "moving", changes))
    return replace(plan, decide=decide)


class Shuffle:
    """Every time some blocks, of any kind, go to any device."""

    def __init__(self, seed: int, share: float) -> None:
        self._draw = random.Random(seed)
        self._share = share

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        moving = [block for block in sorted(current.owner) if self._draw.random() < self._share]
        return Placement({**current.owner, **{block: self._draw.randrange(3) for block in moving}})


class Redivide:
    """Every time some projections and feed-forwards are divided, joined or shared out anew, and some heads move.

    A placement that does not fit is not asked for; whether its migration does, devices say.
    """

    def __init__(self, seed: int, n_devices: int) -> None:
        self.seen: list[Placement] = []  # the placements in force when it was asked
        self._draw = random.Random(seed)
        self._n_devices = n_devices

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        self.seen.append(current)
        draw, shape = self._draw, view.costs.shape
        share = draw.choice([0.1, 0.5, 0.9])
        owner = {
            block: draw.randrange(self._n_devices) if draw.random() < share / 4 else device
            for block, device in current.owner.items()
        }
        for block in all_blocks(shape):
            if block.kind not in (Kind.PROJ, Kind.FFN) or draw.random() > share:
                continue
            parts = shards(shape, block.kind, block.layer)
            there = sorted({owner.pop(each) for each in (block, *parts) if each in owner})
            if draw.random() < 0.5:
                owner[block] = draw.choice([*there, draw.randrange(self._n_devices)])
            else:
                among = [*there, *(draw.randrange(self._n_devices) for _ in range(draw.randrange(3)))]
                owner |= {each: draw.choice(among) for each in parts}
        wanted = Placement(owner)
        return wanted if view.holds(wanted) else current


def reference_tokens(plan: Plan) -> list[list[int]]:
    """Texts of the undivided model: the reference's, or where rows are rounded the decoder's, to the last bit."""
    if plan.model.shape.precision.order_free:
        return [decoded_tokens(plan, list(request.ids), request.max_tokens) for request in plan.requests]
    reference = Reference(plan.model.open_source())
    return [reference.generate(list(request.ids), request.max_tokens) for request in plan.requests]


def decoded_tokens(plan: Plan, ids: list[int], max_tokens: int) -> list[int]:
    decoder, tokens = Decoder(plan.model.open_source()), list[int]()
    logits = decoder.prefill(ids)
    while len(tokens) < max_tokens:
        tokens.append(int(logits.argmax()))
        logits = decoder.step(tokens[-1])
    return tokens


def assert_reference(controller: RecordedRun, plan: Plan, expected: list[list[int]]) -> None:
    reference = Reference(plan.model.open_source())
    for sequence, tokens in enumerate(expected):
        assert [row.token for row in controller.tokens if row.sequence == sequence] == tokens
        ids = list(plan.requests[sequence].ids)
        logits = reference.logits(ids + tokens[:-1])[len(ids) - 1 :]
        np.testing.assert_allclose(np.stack(controller.logits[sequence]), logits, rtol=0, atol=1e-4)


def to_device(number: int) -> Callable[[ClusterView, Placement | None], Placement]:
    """A policy that wants the heads of layer 0 on one device."""

    def place(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return current.moved([head(0, group) for group in range(4)], number)

    return place


def simulated(plan: Plan) -> RecordedRun:
    """Run a plan in the simulator."""
    controller = RecordedRun(plan, SimulatedBackend(plan))
    asyncio.run(controller.run())
    return controller
