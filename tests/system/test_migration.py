"""Blocks move between real processes while tokens are generated, and the text stays the reference's."""

import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import uvloop
from support.clusters import cluster
from support.in_time import in_time
from support.moving import Shuffle, assert_reference, make, reference_tokens, simulated
from support.watching import RecordedRun

from edgeemu.placement.blocks import head
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.rows import OperationRow
from edgeemu.run.plan import Plan


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


def on_processes(plan: Plan) -> RecordedRun:
    """Run a plan, whose text is the reference's."""

    async def main() -> RecordedRun:
        async with cluster(plan) as run:
            return await run(plan)

    made = uvloop.run(main())
    assert_reference(made, plan, reference_tokens(plan))
    return made


BUSY = (
    "devices[0].message_overhead=1 ms",
    "devices[1].message_overhead=0.5 ms",
    "devices[1].byte_overhead=200 ns",
)
PACES = pytest.mark.parametrize(("busy", "dilation"), [((), 2), (BUSY, 8)], ids=["", "busy"])


def transfers(run: RecordedRun) -> list[OperationRow]:
    """Rows of chunks, which keep processors busy, of each device in the order of time."""
    return sorted((row for row in run.ops if row.sequence < 0), key=lambda row: (row.device, row.start_s))


def paced(mode: str, dilation: int) -> tuple[str, ...]:
    return (f"migration.mode={mode}", "migration.chunk=1 kB", "time.mode=realtime", f"time.dilation={dilation}")


def durations_agree(told: RecordedRun, made: RecordedRun) -> bool:
    """Whether chunks begin and end at the same instants in both, and tokens take as long."""
    times_s = [[(row.ready_s, row.start_s, row.end_s) for row in transfers(run)] for run in (told, made)]
    latencies_s = [[row.latency_s for row in run.tokens] for run in (told, made)]
    return all(
        len(expected) == len(found) and np.allclose(found, expected, rtol=1e-6, atol=0)
        for expected, found in (times_s, latencies_s)
    )


@pytest.mark.alone  # messages that wait for a processor are in the order of arrivals only on a host that is in time
@PACES
def test_migrations_that_are_waited_for_take_the_time_that_the_simulator_says(
    busy: tuple[str, ...], dilation: int
) -> None:
    def plan_of(dilation: int) -> Plan:
        return make(*paced("pause", dilation), *busy, decide=Shuffle(3, 0.2))

    told = simulated(plan_of(dilation))
    made = in_time(lambda slower: on_processes(plan_of(slower)), partial(durations_agree, told), dilation)
    assert made.migrations
    sent, taken_in = ([row for row in transfers(made) if row.block == block] for block in ("send", "receive"))
    assert bool(sent) == bool(taken_in) == bool(busy)
    what = [[(row.device, row.sequence, row.block) for row in transfers(run)] for run in (made, told)]
    assert what[0] == what[1]
    assert durations_agree(told, made)
    moved = [[(row.epoch, row.block, row.bytes) for row in run.migrations] for run in (made, told)]
    assert moved[0] == moved[1]


@PACES
def test_migrations_in_the_background_take_the_time_that_the_simulator_says(
    busy: tuple[str, ...], dilation: int
) -> None:
    """That a copy is through may be noticed one token later where the host is late: times are not equal to the bit."""

    def gather(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return current.moved([head(0, group) for group in range(4)], 2)

    def plan_of(dilation: int) -> Plan:
        return make(*paced("precopy", dilation), *busy, decide=gather)

    def total_s(run: RecordedRun) -> float:
        return sum(row.latency_s for row in run.tokens)

    told = simulated(plan_of(dilation))
    as_long = pytest.approx(total_s(told), rel=0.05)
    made = in_time(lambda slower: on_processes(plan_of(slower)), lambda run: total_s(run) == as_long, dilation)
    assert [row.block for row in told.migrations] == [row.block for row in made.migrations]
    assert {row.outcome for row in made.migrations} == {"committed"}
    assert total_s(made) == as_long


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
