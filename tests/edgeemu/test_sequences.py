"""Several sequences at once: each one's text is the reference's, whoever runs beside it, and time is as simulated."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace

import pytest
import uvloop
from watching import Silent

from edgeemu.controller import Controller
from edgeemu.errors import InfeasibleError
from edgeemu.planning import Plan, make_plan
from edgeemu.processes import ProcessDevices
from edgeemu.scenario import parse_scenario
from edgeemu.simulated import SimulatedDevices
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.sampling import Sampling

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
time: {mode: virtual}
decisions: {time: 0 ms}
"""
SAMPLED = "workload.sampling={temperature: 1.5, top_k: 50, seed: 3}"


def make(*changes: str) -> Plan:
    return make_plan(parse_scenario(SCENARIO, "several", changes))


def reference_tokens(plan: Plan) -> list[list[int]]:
    reference, asked = Reference(plan.model.open_source()), plan.scenario.workload.sampling
    return [
        reference.generate(
            list(request.ids),
            request.max_tokens,
            Sampling(asked.temperature, asked.top_k, asked.top_p, request.seed),
        )
        for request in plan.requests
    ]


def tokens_of(controller: Controller) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in controller.plan.requests]
    for row in controller.tokens:
        made[row.sequence].append(row.token)
    return made


@asynccontextmanager
async def cluster(plan: Plan) -> AsyncIterator[Callable[[Plan], Awaitable[Controller]]]:
    """Device processes on which one plan after the other can be run."""
    watcher = Silent()
    devices = ProcessDevices(plan, watcher.phase)

    async def run(changed: Plan) -> Controller:
        await devices.assign(changed)
        controller = Controller(changed, devices, watcher, watcher)
        await controller.run_requests()
        return controller

    async with devices.launched():
        yield run


def simulated(plan: Plan) -> Controller:
    watcher = Silent()
    controller = Controller(plan, SimulatedDevices(plan), watcher, watcher)
    uvloop.run(controller.run())
    return controller


@pytest.mark.parametrize("mode", ["virtual", "realtime"])
def test_every_text_is_the_references_however_many_run_at_once(mode: str) -> None:
    plans = [
        make(f"time.mode={mode}", f"workload.concurrency={n}", f"policy={policy}", *how)
        for n in (1, 3, 8)
        for policy in ("layers", "round-robin")
        for how in ((), (SAMPLED,))
    ]

    async def main() -> None:
        async with cluster(plans[0]) as run:
            for plan in plans:
                made = await run(plan)
                assert tokens_of(made) == reference_tokens(plan)
                at_once = most_at_once(made)
                assert at_once == plan.concurrency, at_once

    uvloop.run(main())


def most_at_once(controller: Controller) -> int:
    """Sequences that were open at the same time, at most."""
    begun = sorted(row.emulated_s - row.latency_s for row in controller.tokens if row.step == 0)
    last = {row.sequence: row.emulated_s for row in controller.tokens}
    return max(sum(end_s > begin_s for end_s in last.values()) - sum(b > begin_s for b in begun) for begin_s in begun)


@pytest.mark.parametrize("pipeline", ["bubbles", "no-bubbles"])
@pytest.mark.parametrize("concurrency", [1, 3, 8])
@pytest.mark.parametrize("policy", ["layers", "round-robin"])
def test_virtual_time_is_what_is_simulated_and_predicted(pipeline: str, concurrency: int, policy: str) -> None:
    plan = make(f"workload.concurrency={concurrency}", f"workload.pipeline={pipeline}", f"policy={policy}")
    plan = replace(plan, decide=None)

    async def main() -> Controller:
        async with cluster(plan) as run:
            return await run(plan)

    made, again = uvloop.run(main()), simulated(plan)
    assert [row[:2] for row in again.tokens] == [row[:2] for row in made.tokens]
    assert [row.emulated_s for row in again.tokens] == [row.emulated_s for row in made.tokens]
    ops = [(row.device, row.sequence, row.step, row.start_s, row.end_s) for row in made.ops]
    assert sorted(ops) == sorted((r.device, r.sequence, r.step, r.start_s, r.end_s) for r in again.ops)
    for sequence, times in enumerate(plan.predictions()):
        rows = [row for row in again.tokens if row.sequence == sequence]
        assert times.sampled_s == [row.emulated_s for row in rows]
        assert times.ttft_s == pytest.approx(rows[0].latency_s)


def test_with_bubbles_steps_go_together_and_without_they_do_not_wait() -> None:
    """A step goes when the one before has its token; with bubbles, when the last of all in flight has."""
    started: dict[str, list[list[float]]] = {}
    for pipeline in ("bubbles", "no-bubbles"):
        plan = make("workload.concurrency=3", "policy=layers", f"workload.pipeline={pipeline}")
        made = simulated(plan)
        sampled = {(row.sequence, row.step): row.emulated_s for row in made.tokens}
        began = {(op.sequence, op.step): op.ready_s for op in made.ops if op.block == "embed"}
        waited = [began[key] - sampled[key[0], key[1] - 1] for key in began if key[1] > 0]
        started[pipeline] = [waited, [max(sampled.values())]]
    assert max(started["no-bubbles"][0]) < 0.02
    assert max(started["bubbles"][0]) > max(started["no-bubbles"][0])
    assert started["bubbles"][1] > started["no-bubbles"][1]


def test_a_pipeline_of_three_is_faster_with_three_sequences_at_once() -> None:
    plans = [make(f"workload.concurrency={n}", "policy=layers") for n in (1, 3)]
    spans = [max(row.emulated_s for row in simulated(plan).tokens) for plan in plans]
    assert spans[1] < 0.6 * spans[0]


@pytest.mark.parametrize("mode", ["virtual", "realtime"])
@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_devices_never_need_more_memory_than_was_planned(mode: str, concurrency: int) -> None:
    """Each has to the byte what the plan says that it will hold, for as many sequences as run at once."""
    plan = make(f"time.mode={mode}", f"workload.concurrency={concurrency}", "policy=layers")
    tight = copy(plan.cluster)
    tight.devices = tuple(
        replace(device, memory_bytes=page.total_bytes)
        for device, page in zip(plan.cluster.devices, plan.pages, strict=True)
    )
    plan = replace(plan, cluster=tight)
    watcher = Silent()
    processes = ProcessDevices(plan, watcher.phase)
    made = Controller(plan, processes, watcher, watcher)
    uvloop.run(made.run())
    assert tokens_of(made) == reference_tokens(plan)
    for page, device in zip(plan.pages, tight.devices, strict=True):
        assert 0 < processes.measured.peak_bytes[device.name] <= page.total_bytes


def test_a_plan_for_several_sequences_needs_room_for_their_caches() -> None:
    alone = make("policy=single")
    room = f"devices[0].memory={max(page.total_bytes for page in alone.pages)} B"
    others = "devices[1].memory=1 kB"
    assert make(room, others, "policy=single").placement == alone.placement
    with pytest.raises(InfeasibleError, match="no single device can hold"):
        make(room, others, "policy=single", "workload.concurrency=2")
