"""A placement owns every block once, and its moves lead to the next one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, scattered, shapes

from edgeemu.placement.blocks import EMBED, LM_HEAD, all_blocks, ffn, head, proj
from edgeemu.placement.placement import Move, Placement, PlacementError, moves
from edgeemu_kernels.shape import ModelShape

N_DEVICES = 4


@QUICK
@given(st.data(), shapes())
def test_every_complete_placement_passes_and_its_parts_make_the_whole(data: st.DataObject, shape: ModelShape) -> None:
    placement = data.draw(placements(shape, N_DEVICES))
    placement.check(shape, N_DEVICES)
    everyone = range(N_DEVICES)
    assert sorted(block for device in everyone for block in placement.on(device)) == sorted(all_blocks(shape))
    assert placement.devices() == [device for device in everyone if placement.on(device)]
    for layer in range(shape.n_layers):
        held = placement.groups(layer, shape.n_groups)
        assert list(held) == sorted(held)
        assert sorted(group for groups in held.values() for group in groups) == list(range(shape.n_groups))
        for device, groups in held.items():
            assert list(groups) == sorted(groups)
            assert all(placement.owner[head(layer, group)] == device for group in groups)


@QUICK
@given(shapes(), st.integers(0, 99), st.integers(0, 99))
def test_moves_lead_from_one_placement_to_the_other(shape: ModelShape, a: int, b: int) -> None:
    old, new = scattered(shape, N_DEVICES, a), scattered(shape, N_DEVICES, b)
    found = moves(old, new)
    moved = old
    for block, source, target, ends_meet in found:
        assert moved.owner[block] == source != target
        other = {EMBED: LM_HEAD, LM_HEAD: EMBED}.get(block)
        had = other is not None and old.owner[other] == target
        assert ends_meet == (had or (block == LM_HEAD and new.owner[EMBED] == target))
        moved = moved.moved([block], target)
    assert moved.owner == new.owner
    assert len(found) == len({move.block for move in found})
    assert moves(old, old) == []


def test_moving_blocks_leaves_the_old_placement_as_it_was() -> None:
    whole = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
    split = whole.moved([head(0, 1), ffn(1)], 3)
    assert whole.devices() == [0]
    assert split.on(3) == [head(0, 1), ffn(1)]
    assert moves(whole, split) == [Move(ffn(1), 0, 3), Move(head(0, 1), 0, 3)]


@pytest.mark.parametrize("block", [EMBED, LM_HEAD, head(1, 2), proj(0), ffn(1)], ids=str)
def test_a_block_on_no_device_is_named(block: object) -> None:
    owner = {placed: 0 for placed in all_blocks(LLAMA) if placed != block}
    with pytest.raises(PlacementError) as error:
        Placement(owner).check(LLAMA, 1)
    assert str(error.value) == f"{block} is on no device"


@pytest.mark.parametrize("stranger", [head(0, 3), head(2, 0), ffn(2)], ids=str)
def test_a_block_that_the_model_has_not_is_named(stranger: object) -> None:
    owner = {**dict.fromkeys(all_blocks(LLAMA), 0), stranger: 0}
    with pytest.raises(PlacementError, match="not part of the model") as error:
        Placement(owner).check(LLAMA, 1)  # type: ignore[arg-type]
    assert str(error.value).startswith(str(stranger))


@pytest.mark.parametrize("device", [-1, 2])
def test_a_device_that_is_not_there_is_named(device: int) -> None:
    placement = Placement(dict.fromkeys(all_blocks(LLAMA), 0)).moved([proj(1)], device)
    with pytest.raises(PlacementError, match=rf"proj\(1\) is on device {device}, but there are 2 devices"):
        placement.check(LLAMA, 2)
