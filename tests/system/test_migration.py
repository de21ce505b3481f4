"""Blocks move between real processes while tokens are generated, and the text stays the reference's."""

import random
from dataclasses import replace

import pytest
import uvloop
from support.clusters import cluster
from support.moving import Shuffle, assert_reference, make, reference_tokens
from support.watching import RecordedRun

from edgeemu.placement.blocks import head
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import OperationRow
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend


@pytest.mark.parametrize("flash", ["true", "false"])
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_blocks_that_move_all_the_time_leave_the_text_of_every_sequence_as_it_is(mode: str, flash: str) -> None:
    """Blocks of any kind move before every token, in virtual mode. Any migrations of one: test_migration_any."""
    changes = (f"migration.mode={mode}", f"migration.weights_on_flash={flash}", "migration.chunk=1 kB")
    base = make(*changes, decide=Shuffle(0, 0.0))
    expected = reference_tokens(base)

    async def main() -> None:
        async with cluster(base) as run:

            async def one(seed: int, share: float) -> None:
                controller = await run(replace(base, decide=Shuffle(seed, share)))
                assert_reference(controller, base, expected)
                assert any(row.outcome == "committed" for row in controller.migrations)

            draw = random.Random(mode)
            for seed in range(4):
                await one(seed, draw.choice([0.1, 0.3, 0.9]))

    uvloop.run(main())


async def paced_and_simulated(plan: Plan, again: Plan) -> tuple[RecordedRun, RecordedRun]:
    async with cluster(plan) as run:
        paced = await run(plan)
    assert_reference(paced, plan, reference_tokens(plan))
    simulated = RecordedRun(again, SimulatedBackend(again))
    await simulated.run()
    return paced, simulated


BUSY = (
    "time.dilation=8",
    "devices[0].message_overhead=1 ms",
    "devices[1].message_overhead=0.5 ms",
    "devices[1].byte_overhead=200 ns",
)


def transfers(run: RecordedRun) -> list[OperationRow]:
    """Rows of chunks, which keep processors busy, of each device in the order of time."""
    return sorted((row for row in run.ops if row.sequence < 0), key=lambda row: (row.device, row.start_s))


@pytest.mark.alone  # messages that wait for a processor are in the order of arrivals only on a host that is in time
@pytest.mark.parametrize("busy", [(), BUSY], ids=["", "busy"])
def test_migrations_that_are_waited_for_take_the_time_that_the_simulator_says(busy: tuple[str, ...]) -> None:
    changes = ("migration.mode=pause", "time.mode=realtime", "migration.chunk=1 kB", *busy)
    plan, again = (make(*changes, decide=Shuffle(3, 0.2)) for _ in range(2))
    paced, simulated = uvloop.run(paced_and_simulated(plan, again))
    assert paced.migrations
    sent, taken_in = ([row for row in transfers(paced) if row.block == block] for block in ("send", "receive"))
    assert bool(sent) == bool(taken_in) == bool(busy)
    assert [row.device for row in transfers(paced)] == [row.device for row in transfers(simulated)]
    for row, told in zip(transfers(paced), transfers(simulated), strict=True):
        assert (row.sequence, row.block) == (told.sequence, told.block)
        assert (row.ready_s, row.start_s, row.end_s) == pytest.approx(
            (told.ready_s, told.start_s, told.end_s), rel=1e-6
        )
    assert [(row.epoch, row.block, row.bytes) for row in simulated.migrations] == [
        (row.epoch, row.block, row.bytes) for row in paced.migrations
    ]
    for a, b in zip(simulated.tokens, paced.tokens, strict=True):
        assert b.latency_s == pytest.approx(a.latency_s, rel=1e-6)


@pytest.mark.parametrize("busy", [(), BUSY], ids=["", "busy"])
def test_migrations_in_the_background_take_the_time_that_the_simulator_says(busy: tuple[str, ...]) -> None:
    """That a copy is through may be noticed one token later where the host is late: times are not equal to the bit."""

    def gather(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return current.moved([head(0, group) for group in range(4)], 2)

    changes = ("migration.mode=precopy", "time.mode=realtime", "migration.chunk=1 kB", *busy)
    plan = make(*changes, decide=gather)
    paced, simulated = uvloop.run(paced_and_simulated(plan, plan))
    assert [row.block for row in simulated.migrations] == [row.block for row in paced.migrations]
    assert {row.outcome for row in paced.migrations} == {"committed"}
    total_s = [sum(row.latency_s for row in run.tokens) for run in (simulated, paced)]
    assert total_s[1] == pytest.approx(total_s[0], rel=0.05)


def test_a_receiver_without_room_refuses_and_the_old_placement_stays() -> None:
    """Two devices are to exchange all they hold: either has room for the one or the other, but not for both at once."""

    def exchange(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in current.owner.items()})

    roomy = make(decide=exchange)
    need_bytes = max(page.total_bytes for page in roomy.pages[1:])
    plan = make(f"devices[1].memory={need_bytes + 1000} B", decide=exchange)
    assert plan.placement == roomy.placement
    expected = reference_tokens(plan)

    async def main() -> None:
        async with cluster(plan) as run:
            controller = await run(plan)
        assert_reference(controller, plan, expected)
        assert controller.migrator.placement == plan.placement
        assert controller.migrations, controller.problems
        assert all("is out of memory: incoming needs" in row.outcome for row in controller.migrations)

    uvloop.run(main())
