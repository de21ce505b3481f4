"""Ends of a tied model that move between real processes: one table is sent, and the text stays the reference's."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvloop
from support.clusters import cluster
from support.moving import assert_reference, make, reference_tokens, simulated
from support.watching import RecordedRun

from edgeemu.placement.blocks import EMBED, LM_HEAD
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.run.plan import Plan

# Devices of the embedding and of the output matrix, and which of them then brings the table: both go, one leaves, they
# change places, they meet from different devices, either goes to the other.
WALK = [(0, 0, ""), (1, 1, "e"), (1, 2, "l"), (2, 1, ""), (0, 0, "e"), (0, 2, "l"), (2, 2, ""), (1, 2, "e"), (1, 1, "")]
LEARNED = ("model.shape.positions=learned", "model.shape.norm=layer", "model.shape.activation=gelu")
PACKED = ("precision.weights=q8_0",)


class Walk:
    """At each decision the ends go to the next devices."""

    def __init__(self) -> None:
        self._next = iter(WALK)

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        step = next(self._next, None)
        return current if step is None else Placement({**current.owner, EMBED: step[0], LM_HEAD: step[1]})


def expected_bytes(plan: Plan) -> Iterator[tuple[str, int]]:
    """The ends that move, and what they bring."""
    costs, flash = plan.costs, plan.rules.weights_on_flash
    at = plan.placement.owner[EMBED], plan.placement.owner[LM_HEAD]
    for embed, lm_head, brings in WALK:
        for block, here, there, name in ((EMBED, at[0], embed, "e"), (LM_HEAD, at[1], lm_head, "l")):
            size = costs.weight_bytes(block) - (0 if name in brings else costs.table_bytes())
            if here != there:
                yield str(block), 0 if flash else size
        at = embed, lm_head


@pytest.mark.parametrize(
    "changes",
    [
        ("migration.mode=pause", *LEARNED),
        ("migration.mode=pause", "migration.weights_on_flash=true", *LEARNED),
        ("migration.mode=precopy", *PACKED),
        ("migration.mode=precopy", "migration.weights_on_flash=true", *PACKED),
    ],
    ids=["pause", "pause from flash", "precopy packed", "precopy packed from flash"],
)
def test_one_table_goes_to_where_ends_meet(changes: tuple[str, ...]) -> None:
    """Blocks, bytes and times are those of the simulator; a device that held more than was planned would say so."""
    start = ("policy=single", "workload.prompts=[{tokens: 5}]", f"workload.max_tokens={2 * len(WALK) + 2}")
    plan = make(*start, "network.default.bandwidth=1 Gbit/s", "network.default.delay=0 ms", *changes, decide=Walk())

    async def run() -> RecordedRun:
        async with cluster(plan) as run_on:
            return await run_on(plan)

    made = uvloop.run(run())
    assert_reference(made, plan, reference_tokens(plan))
    assert made.problems == []
    rows = [(row.block, row.bytes, row.outcome) for row in made.migrations]
    assert rows == [(*moved, "committed") for moved in expected_bytes(plan)]
    again = simulated(replace(plan, decide=Walk()))
    assert [(r.epoch, r.block, r.bytes, r.ended_s) for r in again.migrations] == [
        (r.epoch, r.block, r.bytes, pytest.approx(r.ended_s, rel=1e-9)) for r in made.migrations
    ]
