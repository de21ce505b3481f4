"""Blocks move while several sequences are in flight: all their caches travel, and every text is the reference's."""

import random
from dataclasses import replace

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK
from support.clusters import cluster
from support.moving import Shuffle
from support.several import make, reference_tokens, simulated, tokens_of
from support.watching import RecordedRun

from edgeemu.placement.blocks import Kind, all_blocks, ffn, head
from edgeemu.placement.migration import IllegalTransitionError, MigrationProtocol
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.plan import Plan

SAMPLED = "workload.sampling={temperature: 1.5, seed: 3}"


@pytest.mark.parametrize("flash", ["true", "false"])
@pytest.mark.parametrize("mode", ["pause", "precopy"])
def test_any_migrations_leave_every_text_as_it_is(mode: str, flash: str) -> None:
    """Before every token, or every other; sequences begin and end meanwhile. In virtual mode, and once paced."""
    changes = (f"migration.mode={mode}", f"migration.weights_on_flash={flash}", "migration.chunk=1 kB", SAMPLED)
    draw = random.Random(mode + flash)
    plans = [
        make(*changes, f"workload.concurrency={n}", f"decisions.interval={interval}", f"time.mode={time}")
        for n, interval, time in ((3, 1, "virtual"), (3, 2, "virtual"), (8, 1, "virtual"), (3, 1, "realtime"))
    ]
    expected = reference_tokens(plans[0])

    async def main() -> None:
        async with cluster(plans[0]) as run:
            for plan in plans:
                made = await run(replace(plan, decide=Shuffle(draw.randrange(99), draw.choice([0.1, 0.5]))))
                assert tokens_of(made) == expected
                assert any(row.outcome == "committed" for row in made.migrations)

    uvloop.run(main())


@pytest.mark.parametrize("mode", ["pause", "precopy"])
@pytest.mark.parametrize("interval", [1, 3])
def test_what_moves_and_when_is_as_simulated(mode: str, interval: int) -> None:
    changes = (f"migration.mode={mode}", "migration.chunk=1 kB", f"decisions.interval={interval}")

    def plan() -> Plan:
        return replace(make(*changes, "workload.concurrency=3"), decide=Shuffle(4, 0.3))

    async def main() -> RecordedRun:
        async with cluster(plan()) as run:
            return await run(plan())

    made, again = uvloop.run(main()), simulated(plan())
    assert made.migrations
    assert made.migrations == again.migrations
    assert [row.emulated_s for row in made.tokens] == [row.emulated_s for row in again.tokens]


def test_decisions_wait_for_all_in_flight_and_come_once_for_all() -> None:
    """Three at once, every two tokens of each: never more often than that, and with nothing in flight."""
    seen: list[float] = []

    def same(view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        assert view.sequences == 3
        seen.append(view.workload.cached)
        return current

    plan = make(
        "workload.concurrency=3", "decisions.interval=2", "workload.prompts=[{tokens: 4}, {tokens: 4}, {tokens: 4}]"
    )
    made = simulated(replace(plan, decide=same))
    assert seen == [3 * (4 + 1), 3 * (4 + 3)]
    assert len(made.decision_s) == 2


BLOCKS = list(all_blocks(LLAMA))
OLD = Placement(dict.fromkeys(BLOCKS, 0))


@given(st.data())
@QUICK
def test_rounds_ship_every_row_once_and_weights_once(data: st.DataObject) -> None:
    """Sequences begin, grow and end between rounds, in any order."""
    moved = data.draw(st.sets(st.sampled_from(BLOCKS), min_size=1))
    flash = data.draw(st.booleans())
    changing = MigrationProtocol(2, OLD, OLD.moved(moved, 1), flash)
    changing.prepared()
    open_: dict[int, int] = {}
    shipped: dict[tuple[object, int], list[int]] = {}
    weights = dict.fromkeys(moved, 0)
    for begun in range(data.draw(st.integers(1, 4))):
        open_ = {n: rows + data.draw(st.integers(0, 3)) for n, rows in open_.items() if data.draw(st.booleans())}
        open_ |= {10 * begun + n: data.draw(st.integers(1, 9)) for n in range(data.draw(st.integers(0, 2)))}
        shipments = changing.next_round(open_)
        for shipment in shipments:
            weights[shipment.block] += shipment.with_weights
            if shipment.block.kind is Kind.HEAD and shipment.sequence >= 0:
                rows = range(shipment.first_row, shipment.end_row)
                shipped.setdefault((shipment.block, shipment.sequence), []).extend(rows)
        if shipments:
            assert changing.arrived(1, changing.round)
    changing.committed()
    assert set(weights.values()) == {0 if flash else 1}
    for block in moved:
        for sequence, rows in open_.items():
            if block.kind is Kind.HEAD:
                assert shipped[block, sequence] == list(range(rows))


def test_a_cache_does_not_shrink() -> None:
    changing = MigrationProtocol(2, OLD, OLD.moved([head(0, 0), ffn(0)], 1))
    changing.prepared()
    changing.next_round({0: 4, 1: 9})
    changing.arrived(1, 0)
    with pytest.raises(IllegalTransitionError, match="a round for 8 rows of sequence 1, after 9"):
        changing.next_round({0: 5, 1: 8})
