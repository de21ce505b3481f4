"""Every input of every operation is made once and sent to where it is needed, whatever the placement."""

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, placements, shapes

from edgeemu.placement.blocks import LM_HEAD, Block, Kind, all_blocks, head, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Program, Slot
from edgeemu_kernels.shape import ModelShape

N_DEVICES = 4


def drawn(data: st.DataObject, shape: ModelShape) -> tuple[Placement, Program]:
    placement = data.draw(placements(shape, N_DEVICES))
    return placement, compile_routes(placement, shape)


def blocks_of(op: Op) -> list[Block]:
    """The blocks that an operation executes."""
    if op.kind is Kind.HEAD:
        return [head(op.layer, group) for group in op.groups]
    return [Block(op.kind, op.layer)]


@QUICK
@given(st.data(), shapes())
def test_every_block_runs_once_on_its_device(data: st.DataObject, shape: ModelShape) -> None:
    placement, program = drawn(data, shape)
    assert [op.index for op in program.ops] == list(range(len(program.ops)))
    run = [(block, op.device) for op in program.ops for block in blocks_of(op)]
    assert sorted(run) == sorted(placement.owner.items())
    for layer in range(shape.n_layers):  # groups of one layer on one device are one operation
        at = [op.device for op in program.ops if op.kind is Kind.HEAD and op.layer == layer]
        assert at == sorted(set(at))
    by_device = [op for device in range(N_DEVICES) for op in program.on(device)]
    assert sorted(op.index for op in by_device) == list(range(len(program.ops)))


@QUICK
@given(st.data(), shapes())
def test_every_input_is_emitted_by_one_operation_and_sent_there(data: st.DataObject, shape: ModelShape) -> None:
    _, program = drawn(data, shape)
    emitters: dict[Slot, list[Op]] = defaultdict(list)
    for op in program.ops:
        emitters[op.emits].append(op)
        assert op.emits.source == op.device
    for op in program.ops:
        assert len(set(op.needs)) == len(op.needs)
        for slot in op.needs:
            if slot.kind is MessageKind.PROMPT:
                assert slot.source == -1
                continue
            (emitter,) = emitters[slot]
            assert op.device in emitter.to
            if slot.kind is not MessageKind.TOKEN:  # a token goes round; all else comes from earlier in the model
                assert emitter.index < op.index


@QUICK
@given(st.data(), shapes())
def test_results_go_to_exactly_those_who_need_them_in_ascending_order(data: st.DataObject, shape: ModelShape) -> None:
    _, program = drawn(data, shape)
    for op in program.ops:
        needed_at = {other.device for other in program.ops if op.emits in other.needs}
        assert list(op.to) == sorted(needed_at)
        for device in op.to:
            assert program.consumers[device, op.emits] == [
                other for other in program.ops if other.device == device and op.emits in other.needs
            ]


@QUICK
@given(st.data(), shapes())
def test_a_projection_gathers_every_group_once(data: st.DataObject, shape: ModelShape) -> None:
    _, program = drawn(data, shape)
    by_slot = {op.emits: op for op in program.ops}
    projections = [op for op in program.ops if op.kind is Kind.PROJ]
    assert len(projections) == shape.n_layers
    for op in projections:
        residual, *outputs = op.needs
        assert residual == Slot(MessageKind.HIDDEN, op.layer, by_slot[residual].device)
        assert [by_slot[slot].groups for slot in outputs] == list(op.parts)
        assert sorted(group for part in op.parts for group in part) == list(range(shape.n_groups))


def test_a_sequence_enters_with_a_prompt_and_goes_on_with_tokens() -> None:
    placement = Placement(dict.fromkeys(all_blocks(LLAMA), 0)).moved([LM_HEAD], 2)
    program = compile_routes(placement, LLAMA)
    embed, lm_head = program.ops[0], program.ops[-1]
    assert (program.embed_device, program.lm_head_device) == (0, 2)
    assert embed.inputs(0) == (Slot(MessageKind.PROMPT, 0, -1),)
    assert embed.inputs(1) == embed.inputs(9) == (Slot(MessageKind.TOKEN, 0, 2),)
    assert lm_head.emits == Slot(MessageKind.TOKEN, 0, 2)
    assert lm_head.to == (0,)
    assert lm_head.inputs(0) == lm_head.inputs(5) == (Slot(MessageKind.HIDDEN, 2, 0),)


def test_one_layer_by_hand() -> None:
    """Groups on three devices, the projection on a fourth: x goes to all four."""
    owner = dict.fromkeys(all_blocks(LLAMA), 0)
    owner |= {head(0, 0): 3, head(0, 1): 1, head(0, 2): 3, proj(0): 2}
    program = compile_routes(Placement(owner), LLAMA)
    embed, first, second, projection, feed_forward = program.ops[:5]
    hidden = Slot(MessageKind.HIDDEN, 0, 0)
    outputs = (Slot(MessageKind.ATTENTION, 0, 1), Slot(MessageKind.ATTENTION, 0, 3))
    assert (embed.emits, embed.to) == (hidden, (1, 2, 3))
    assert (first.device, first.groups, first.to) == (1, (1,), (2,))
    assert (second.device, second.groups, second.to) == (3, (0, 2), (2,))
    assert projection.needs == (hidden, *outputs)
    assert projection.parts == ((1,), (0, 2))
    assert feed_forward.needs == (Slot(MessageKind.RESIDUAL, 0, 2),)


@pytest.mark.parametrize("device", [0, 3])
def test_everything_on_one_device_stays_there(device: int) -> None:
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), device)), LLAMA)
    assert {op.to for op in program.ops} == {(device,)}
    assert len(program.ops) == 2 + 3 * LLAMA.n_layers


@QUICK
@given(st.data(), shapes(), st.sets(st.integers(1, 30), min_size=1))
def test_what_no_step_runs_can_be_left_out(data: st.DataObject, shape: ModelShape, rows: set[int]) -> None:
    placement = data.draw(divided_placements(shape, N_DEVICES))
    whole = compile_routes(placement, shape, tile_rows=4)
    some = compile_routes(placement, shape, tile_rows=4, rows=rows)
    expected = [op for op in whole.ops if any(map(op.steps.has, rows))]
    assert [replace(op, index=0) for op in some.ops] == [replace(op, index=0) for op in expected]
    assert [op.index for op in some.ops] == list(range(len(expected)))
