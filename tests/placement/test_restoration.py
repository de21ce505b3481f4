"""Programs that only fill caches: all that fills those of the first layers, what that needs, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, divided_placements, placements, shapes

from edgeemu.placement.blocks import Kind, head
from edgeemu.placement.compile import CollectiveAlgorithm, compile_routes
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Program
from edgeemu.placement.restoration import layers_to_restore, restoring
from edgeemu_kernels.shape import ModelShape

N_DEVICES = 4


@st.composite
def programs(draw: st.DrawFn) -> tuple[ModelShape, Program]:
    shape = draw(shapes())
    placement = draw(st.one_of(placements(shape, N_DEVICES), divided_placements(shape, N_DEVICES)))
    algorithms: list[CollectiveAlgorithm] = ["ring", "star", "relay"]
    program = compile_routes(placement, shape, draw(st.sampled_from(algorithms)))
    busy = draw(st.frozensets(st.integers(0, N_DEVICES - 1)))
    return shape, with_message_overheads(program, busy) if busy else program


def attends(op: Op) -> bool:
    return op.emits.kind is MessageKind.ATTENTION and op.computes


@QUICK
@given(programs(), st.data())
def test_what_fills_caches_is_there_with_all_that_it_needs(
    made: tuple[ModelShape, Program], data: st.DataObject
) -> None:
    shape, program = made
    layers = data.draw(st.integers(1, shape.n_layers))
    part = restoring(program, layers)
    assert [op.index for op in part.ops] == list(range(len(part.ops)))

    def filling(ops: tuple[Op, ...]) -> list[object]:
        found = [(op.steps.low, op.layer, op.device, op.groups, op.chunk) for op in ops if attends(op)]
        return sorted(each for each in found if each[1] < layers)

    assert filling(part.ops) == filling(program.ops)
    assert not [op for op in part.ops if op.layer >= layers or op.kind is Kind.LM_HEAD]
    for op in part.ops:
        for slot in op.inputs(-1):
            made_by = [each for each in part.ops if each.emits == slot and each.steps == op.steps]
            assert slot.kind is MessageKind.PROMPT or any(op.device in each.to for each in made_by)


@QUICK
@given(programs(), st.data())
def test_nothing_is_there_that_nobody_needs(made: tuple[ModelShape, Program], data: st.DataObject) -> None:
    shape, program = made
    part = restoring(program, data.draw(st.integers(1, shape.n_layers)))
    needed = {(op.device, slot, op.steps) for op in part.ops for slot in op.inputs(-1)}
    for op in part.ops:
        assert all((target, op.emits, op.steps) in needed for target in op.to)
        assert op.to or attends(op)


def test_layers_up_to_the_last_lost_head_are_restored() -> None:
    shape = ModelShape("restored", 3, 16, 4, 2, 4, 32, 64, 64)
    placement = Placement({block: 0 for layer in range(3) for block in (head(layer, 0), head(layer, 1))})
    assert layers_to_restore(placement.moved([head(1, 1)], 2), {2}) == 2
    assert layers_to_restore(placement.moved([head(0, 0), head(2, 1)], 2), {2}) == 3
    assert layers_to_restore(placement, {2}) == 0
    assert shape.n_layers == 3
