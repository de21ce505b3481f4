"""Migrations that go wrong: each ends in a clear error, or the run goes on as before and gives the reason."""

import asyncio
import os
import signal
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import uvloop
from support.builders import LLAMA
from support.clusters import cluster
from support.device_pids import device_pids
from support.moving import Shuffle, assert_reference, make, reference_tokens, simulated, to_device
from support.watching import RecordedRun

from edgeemu.device.executor import Executor
from edgeemu.device.sequences import ArrivedBlock, SequenceState
from edgeemu.errors import RunError
from edgeemu.placement.blocks import Kind, all_blocks, ffn
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.ledger import WORKSPACE, Ledger
from edgeemu.placement.memory import usages
from edgeemu.placement.migration import MigrationProtocol, needs
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.shipments import Shipment
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu_kernels.sampling import GREEDY
from edgeemu_kernels.weights.open_model import seeded_model

B = "gflops: 1 GFLOPS, mem_bandwidth: 0.05 GB/s"
DEVICE_A = "{name: a, gflops: 1 GFLOPS, mem_bandwidth: 0.1 GB/s, memory: 8 MiB}"
DEVICE_B1 = f"{{name: b-1, memory: 8 MiB, {B}}}"
PAUSE, PRECOPY = "migration.mode=pause", "migration.mode=precopy"


async def on_processes(plan: Plan) -> RecordedRun:
    async with cluster(plan) as run:
        return await run(plan)


def interrupted(plan: Plan, act: Callable[[], None]) -> None:
    """Runs a plan in which something happens as soon as a first round of copying has begun."""

    class Devices(ProcessBackend):
        async def ship(self, migration: MigrationProtocol, shipments: list[Shipment], at_s: float) -> None:
            await super().ship(migration, shipments, at_s)
            act()

    uvloop.run(RecordedRun(plan, Devices(plan, Silent().phase)).run())


@pytest.mark.parametrize("device", ["a", "b-2"], ids=["sender", "receiver"])
@pytest.mark.parametrize("mode", [PAUSE, PRECOPY])
def test_a_device_that_is_killed_in_a_migration_ends_the_run_with_its_name(mode: str, device: str) -> None:
    plan = make(mode, "time.mode=realtime", "network.default.bandwidth=100 kbit/s", decide=to_device(2))
    number = [d.name for d in plan.cluster.devices].index(device)
    with pytest.raises(RunError, match=f"device {device} was killed by SIGKILL"):
        interrupted(plan, lambda: os.kill(device_pids()[number], signal.SIGKILL))
    assert device_pids() == []


@pytest.mark.parametrize("mode", [PAUSE, PRECOPY])
def test_a_run_that_is_cancelled_in_a_migration_leaves_nothing(mode: str) -> None:
    def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    plan = make(mode, "time.mode=realtime", "network.default.bandwidth=100 kbit/s", decide=to_device(2))
    with pytest.raises(asyncio.CancelledError):
        interrupted(plan, cancel)
    assert device_pids() == []


def test_a_copy_under_way_when_a_sequence_ends_is_given_up_and_the_next_one_goes_well() -> None:
    """Also on devices that are then given another plan: an epoch whose parcels are dropped is not used again."""
    slow = make(PRECOPY, "decisions.interval=7", "migration.chunk=500 B", decide=to_device(2))
    quick = replace(slow, decide=to_device(1))
    expected = reference_tokens(slow)

    async def main() -> None:
        async with cluster(slow) as run:
            given_up = await run(slow)
            assert {row.outcome for row in given_up.migrations} == {"aborted: the sequence ended"}
            assert_reference(given_up, slow, expected)
            paused = replace(quick, rules=replace(quick.rules, precopy=False))
            committed = await run(paused)
            assert {row.outcome for row in committed.migrations} == {"committed"}
            assert_reference(committed, paused, expected)

    uvloop.run(main())


def test_devices_that_send_each_other_more_than_their_queues_hold_do_not_block() -> None:
    """Without pacing all chunks are due at once: two feed-forward blocks change places, byte by byte."""

    def swap(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return Placement({**current.owner, ffn(0): current.owner[ffn(1)], ffn(1): current.owner[ffn(0)]})

    plan = make("migration.chunk=1 B", "decisions.interval=7", "workload.prompts=[{tokens: 3}]", decide=swap)
    owner = {**plan.placement.owner, ffn(0): 0, ffn(1): 1}
    plan = replace(plan, placement=Placement(owner))

    async def main() -> None:
        async with cluster(plan) as run, asyncio.timeout(60):
            swapped = await run(plan)
            assert {row.outcome for row in swapped.migrations} == {"committed"}
            assert_reference(swapped, plan, reference_tokens(plan))

    uvloop.run(main())


@pytest.mark.parametrize("time", ["virtual", "realtime"])
@pytest.mark.parametrize("interval", [1, 3])
def test_routes_that_no_report_can_name_are_forgotten(time: str, interval: int) -> None:
    """Only programs of steps in flight are kept, however often they change."""
    kept = []
    programs: list[weakref.ref[Program]] = []

    class Devices(ProcessBackend):
        async def commit(self, migration: MigrationProtocol, program: Program) -> None:
            await super().commit(migration, program)
            programs.append(weakref.ref(program))
            kept.append(sum(known() is not None for known in programs))

    changes = (f"time.mode={time}", f"decisions.interval={interval}", "workload.prompts=[{tokens: 4}]")
    plan = make(*changes, "workload.max_tokens=20", decide=Shuffle(1, 0.3))
    uvloop.run(RecordedRun(plan, Devices(plan, Silent().phase)).run())
    assert len(kept) > 4
    assert max(kept) <= 3


@pytest.mark.parametrize("time", ["virtual", "realtime"])
def test_what_goes_on_growing_during_a_copy_has_room_or_the_copy_does_not_begin(time: str) -> None:
    """The link is so slow that rows are written all the while; to the byte: one less, and the receiver refuses."""
    prompt, slow = "workload.prompts=[{tokens: 7}]", "network.default.bandwidth=400 kbit/s"
    # Without dilation, a busy host is late by tens of emulated milliseconds: chunks overtake rows.
    paced = (f"time.mode={time}", "time.dilation=3")
    changes = (PRECOPY, prompt, slow, "decisions.interval=2", "workload.max_tokens=16", *paced)
    old = make(*changes, decide=to_device(2)).placement
    new = Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in old.owner.items()})
    roomy = make(*changes, decide=lambda *_: new)
    _, need = needs(MigrationProtocol(9, old, new), roomy.usages(old), 7 + 1, 7 + 16, roomy.costs)
    assert need.growth_bytes > 0
    for spare_bytes, outcome in ((0, "committed"), (-1, "aborted: b-2 is out of memory: incoming needs")):
        room = roomy.pages[2].total_bytes + need.reserve_bytes + spare_bytes
        devices = f"devices=[{DEVICE_A}, {DEVICE_B1}, {{name: b-2, memory: {room} B, {B}}}]"
        plan = make(*changes, devices, decide=lambda *_: new)
        assert plan.placement == roomy.placement
        real = uvloop.run(on_processes(plan))
        assert_reference(real, plan, reference_tokens(plan))
        for made in (real, simulated(plan)):
            assert made.migrations[0].outcome.startswith(outcome)
            assert made.migrator.placement == (old if spare_bytes < 0 else new)
            first = made.migrations[0]
            during = [token for token in made.tokens if first.began_s < token.emulated_s < first.ended_s]
            assert (len(during) > 2) == (spare_bytes == 0)
        assert real.migrations[0].outcome == made.migrations[0].outcome


def test_the_workspace_of_what_has_come_is_charged() -> None:
    """And of what has left is not: after an exchange the ledger's page is that of a device which began like this."""
    blocks = list(all_blocks(LLAMA))
    old = Placement({block: 0 if block.kind is Kind.LM_HEAD else 1 for block in blocks})
    new = Placement({block: 0 if block.kind is Kind.FFN else 1 for block in blocks})
    pages = []
    weights = seeded_model(LLAMA, 1).open_source()
    donor = Executor(weights, Ledger("b", 1 << 30))
    donor.load(compile_routes(old, LLAMA).on(1))
    for begins in (old, new):
        compute = Executor(weights, Ledger("a", 1 << 30))
        compute.load(compile_routes(begins, LLAMA).on(0))
        compute.open(0, 5, 9, SequenceState(GREEDY, keep_logits=False))
        if begins is old:
            coming = [block for block in blocks if block.kind is Kind.FFN]
            arriving = {block: ArrivedBlock(donor.export(block, -1, 0, 0, with_weights=True)) for block in coming}
            compute.exchange(compile_routes(new, LLAMA).on(0), arriving)
        pages.append(compute.ledger.page())
    assert pages[0] == pages[1]
    planned = usages(new, compute.costs, 2, 5, 9)[0].page()
    assert pages[0][WORKSPACE] == planned.workspace_bytes


def test_a_simulated_peak_is_that_of_all_placements() -> None:
    made = simulated(make(decide=to_device(2)))
    plan, peaks = made.plan, list(made.devices.measured.peak_bytes.values())
    for placement in (plan.placement, made.migrator.placement):
        for peak_bytes, usage in zip(peaks, plan.usages(placement), strict=True):
            assert peak_bytes >= usage.page().total_bytes
    assert peaks[2] > plan.pages[2].total_bytes
