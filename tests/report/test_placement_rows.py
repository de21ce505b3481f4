"""The rows of a placement say of every block who holds it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, divided_placements, placements, shapes

from edgeemu.placement.blocks import Block, Kind, n_shards
from edgeemu.placement.placement import Placement
from edgeemu.report.placement_rows import placement_of, placement_rows
from edgeemu_kernels.shape import ModelShape

NAMES = [f"d{index}" for index in range(4)]


@QUICK
@given(st.data())
def test_rows_have_every_block_once(data: st.DataObject) -> None:
    shape: ModelShape = data.draw(shapes())
    placement: Placement = data.draw(st.one_of(placements(shape, 4), divided_placements(shape, 4)))
    rows = placement_rows(placement, shape, NAMES, 3, (1, 7), 2.5)
    parts = [(Block(Kind(row.block), row.layer, n), row) for row in rows for n in range(row.first, row.end)]
    held = {block if block in placement.owner else block.whole: NAMES.index(row.device) for block, row in parts}
    assert held == dict(placement.owner)
    assert len(parts) == len(held)
    assert all(row.of == 1 for block, row in parts if block not in placement.owner)
    assert {row[:4] for row in rows} == {(3, 1, 7, 2.5)}
    assert [row.block for row in (rows[0], rows[-1])] == ["embed", "lm_head"]
    for before, after in pairwise(rows):
        if before[4:6] == after[4:6]:
            assert before.end == after.first, "in order, without a gap"
            assert before.device != after.device, "what is together is in one row"


@QUICK
@given(st.data())
def test_rows_say_the_placement_that_they_are_of(data: st.DataObject) -> None:
    shape: ModelShape = data.draw(shapes())
    placement: Placement = data.draw(st.one_of(placements(shape, 4), divided_placements(shape, 4)))
    rows = placement_rows(placement, shape, NAMES, 3, (1, 7), 2.5)
    found = placement_of(rows, {name: number for number, name in enumerate(NAMES)})
    found.check(shape, len(NAMES))
    only = {  # the one shard of a block that cannot be divided is the block
        block: block.whole if block.is_shard and n_shards(shape, block.kind) == 1 else block
        for block in placement.owner
    }
    assert dict(found.owner) == {only[block]: device for block, device in placement.owner.items()}
