"""An operation becomes ready when its last input comes, whatever the order; what does not belong here is refused."""

import random
from weakref import ref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, scattered, shapes

from edgeemu.device.dataflow import Dataflow, DataflowError, Input, ReadyOp, StepKey
from edgeemu.placement.blocks import Kind, all_blocks, head, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Program, Slot
from edgeemu_kernels.shape import ModelShape

N_DEVICES = 3
EPOCH = 2
PROMPT = Slot(MessageKind.PROMPT, 0, -1)


def an_input(arrival_s: float = 0.0) -> Input:
    return Input(arrival_s, 0, np.zeros((1, 2), np.float32))


def installed(ops: list[Op]) -> Dataflow:
    flow = Dataflow()
    flow.install(EPOCH, ops)
    return flow


def needed(ops: list[Op], step: int) -> list[Slot]:
    """All that a device receives in a step."""
    return sorted({slot for op in ops for slot in op.inputs(step)})


@QUICK
@given(st.data(), shapes(max_layers=2), st.integers(0, N_DEVICES - 1), st.integers(0, 1))
def test_an_operation_is_ready_with_its_last_input(
    data: st.DataObject, shape: ModelShape, device: int, step: int
) -> None:
    """Deliveries in any order: each operation once, at its last input, with its inputs in the order of its slots."""
    ops = compile_routes(data.draw(placements(shape, N_DEVICES)), shape).on(device)
    flow, key = installed(ops), StepKey(0, step)
    order = data.draw(st.permutations(needed(ops, step)))
    arrived: dict[Slot, Input] = {}
    became_ready: dict[int, Slot] = {}
    for number, slot in enumerate(order):
        arrived[slot] = an_input(float(number))
        for ready in flow.deliver(EPOCH, key, slot, arrived[slot]):
            assert ready.op.index not in became_ready
            became_ready[ready.op.index] = slot
            assert ready.inputs == [arrived[need] for need in ready.op.inputs(step)]
            assert ready.ready_s == float(number)
    last = {op.index: max(op.inputs(step), key=order.index) for op in ops}
    assert became_ready == last


@QUICK
@given(st.data(), shapes(max_layers=2), st.integers(0, N_DEVICES - 1), st.integers(0, 10_000))
def test_inputs_are_freed_once_each_and_steps_do_not_touch_each_other(
    data: st.DataObject, shape: ModelShape, device: int, seed: int
) -> None:
    """Three sequences in one device: deliveries and executions interleaved at random."""
    ops = compile_routes(data.draw(placements(shape, N_DEVICES)), shape).on(device)
    chance, flow = random.Random(seed), installed(ops)
    keys = [StepKey(0, 3), StepKey(1, 0), StepKey(2, 1)]
    waiting = {key: chance.sample(slots := needed(ops, key.step), len(slots)) for key in keys}
    delivered: dict[int, StepKey] = {}
    freed: list[int] = []
    ran: list[tuple[StepKey, int]] = []
    done: list[StepKey] = []
    ready: list[ReadyOp] = []
    inputs: list[Input] = []
    while ready or any(waiting.values()):
        if ready and (chance.random() < 0.5 or not any(waiting.values())):
            run = ready.pop(chance.randrange(len(ready)))
            ran.append((run.key, run.op.index))
            now_free, step_done = flow.finish(run)
            freed += map(id, now_free)
            assert all(delivered[id(each)] == run.key for each in now_free)
            if step_done:
                done.append(run.key)
                assert [index for key, index in sorted(ran) if key == run.key] == [op.index for op in ops]
        else:
            key = chance.choice([key for key in keys if waiting[key]])
            inputs.append(an_input())
            delivered[id(inputs[-1])] = key
            ready += flow.deliver(EPOCH, key, waiting[key].pop(), inputs[-1])
    assert sorted(freed) == sorted(delivered)
    assert sorted(done) == (keys if ops else [])
    flow.install(EPOCH + 1, ops)  # nothing is under way any more


def test_an_input_of_two_operations_is_freed_by_the_second() -> None:
    """x goes to the groups and, as the residual, to the projection of the same layer."""
    ops = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA).on(0)
    flow, key = installed(ops), StepKey(0, 0)
    flow.deliver(EPOCH, key, PROMPT, an_input())
    x, output = an_input(), an_input()
    (heads,) = flow.deliver(EPOCH, key, Slot(MessageKind.HIDDEN, 0, 0), x)
    assert (heads.op.kind, x.waiting) == (Kind.HEAD, 2)
    assert flow.finish(heads) == ([], False)
    (projection,) = flow.deliver(EPOCH, key, Slot(MessageKind.ATTENTION, 0, 0), output)
    assert projection.inputs == [x, output]
    assert flow.finish(projection) == ([x, output], False)


# -- refusals -------------------------------------------------------------------------------------------------------


def split() -> Program:
    """Group 0 and the projection of layer 0 on device 1, all else on device 0."""
    return compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)).moved([head(0, 0), proj(0)], 1), LLAMA)


HIDDEN = Slot(MessageKind.HIDDEN, 0, 0)


@pytest.mark.parametrize("epoch", [EPOCH - 1, EPOCH + 1])
def test_another_epochs_message_is_refused_with_what_came_before(epoch: int) -> None:
    flow = installed(split().on(1))
    flow.deliver(EPOCH, StepKey(4, 7), HIDDEN, an_input())
    with pytest.raises(DataflowError) as refused:
        flow.deliver(epoch, StepKey(4, 7), Slot(MessageKind.ATTENTION, 0, 0), an_input())
    said = str(refused.value)
    assert f"is of epoch {epoch}, but epoch {EPOCH} is installed" in said
    assert f"Before that: installed epoch {EPOCH} with 2 operations; StepKey(sequence=4, step=7) received" in said
    assert "HIDDEN" in said.partition("Before that")[2]
    with pytest.raises(DataflowError, match=f"of epoch {epoch}"):
        flow.check_epoch(epoch)
    flow.check_epoch(EPOCH)


def test_a_duplicate_is_refused() -> None:
    flow = installed(split().on(1))
    flow.deliver(EPOCH, StepKey(0, 0), HIDDEN, an_input())
    with pytest.raises(DataflowError, match=r"HIDDEN.* has arrived twice.*Before that: installed epoch 2"):
        flow.deliver(EPOCH, StepKey(0, 0), HIDDEN, an_input())
    flow.deliver(EPOCH, StepKey(0, 1), HIDDEN, an_input())  # the same of another step
    flow.deliver(EPOCH, StepKey(1, 0), HIDDEN, an_input())  # and of another sequence


@pytest.mark.parametrize(
    "slot",
    [
        Slot(MessageKind.HIDDEN, 0, 2),  # from a device that does not make it
        Slot(MessageKind.HIDDEN, 1, 0),  # of a layer that is not here
        Slot(MessageKind.RESIDUAL, 0, 1),
        PROMPT,
    ],
)
def test_what_nothing_here_waits_for_is_refused(slot: Slot) -> None:
    with pytest.raises(DataflowError, match="nothing here waits for Slot"):
        installed(split().on(1)).deliver(EPOCH, StepKey(0, 0), slot, an_input())


@pytest.mark.parametrize(("slot", "step"), [(PROMPT, 1), (Slot(MessageKind.TOKEN, 0, 0), 0)])
def test_a_prompt_is_for_the_first_step_and_a_token_for_the_others(slot: Slot, step: int) -> None:
    with pytest.raises(DataflowError, match=f"embed does not take Slot.* in step {step}"):
        installed(split().on(0)).deliver(EPOCH, StepKey(0, step), slot, an_input())


def test_nothing_is_delivered_before_there_are_routes() -> None:
    with pytest.raises(DataflowError, match=r"epoch -1 is installed\. Before that: nothing"):
        Dataflow().deliver(0, StepKey(0, 0), HIDDEN, an_input())


def test_routes_are_replaced_only_by_newer_ones_and_between_steps() -> None:
    flow, ops = installed(split().on(1)), split().on(1)
    for epoch in (EPOCH - 1, EPOCH):
        with pytest.raises(DataflowError, match=f"epoch {epoch} cannot follow epoch {EPOCH}"):
            flow.install(epoch, ops)
    flow.deliver(EPOCH, StepKey(0, 0), HIDDEN, an_input())
    with pytest.raises(DataflowError, match="with 1 steps under way"):
        flow.install(EPOCH + 1, ops)


def test_an_operation_of_a_step_that_is_over_cannot_finish() -> None:
    (op,) = (op for op in split().on(1) if op.kind is Kind.HEAD)
    flow = installed([op])
    (ready,) = flow.deliver(EPOCH, StepKey(0, 0), HIDDEN, an_input())
    assert flow.finish(ready)[1]
    with pytest.raises(DataflowError, match=r"head of StepKey.* has run, but no such step is under way"):
        flow.finish(ready)


def test_the_history_is_short() -> None:
    (op,) = (op for op in split().on(1) if op.kind is Kind.HEAD)
    flow = installed([op])
    for step in range(100):
        (ready,) = flow.deliver(EPOCH, StepKey(0, step), HIDDEN, an_input())
        flow.finish(ready)
    with pytest.raises(DataflowError) as refused:
        flow.check_epoch(0)
    assert str(refused.value).count(";") == 15
    assert f"step={step}) received" in str(refused.value)


def test_the_one_block_of_its_kind_is_found() -> None:
    program = compile_routes(scattered(LLAMA, 2, 0), LLAMA)
    for kind, device in ((Kind.EMBED, program.embed_device), (Kind.LM_HEAD, program.lm_head_device)):
        assert installed(program.on(device)).only(kind).kind is kind
        elsewhere = [op for op in program.on(device) if op.kind is not kind]
        with pytest.raises(DataflowError, match=f"{kind} is not here"):
            installed(elsewhere).only(kind)


def test_what_is_freed_is_not_kept_until_the_step_ends() -> None:
    """The ledger gives its bytes back at once, so the memory has to be there at once."""
    flow, key = installed(compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA).on(0)), StepKey(0, 0)
    arrived = an_input()
    (ready,) = flow.deliver(EPOCH, key, PROMPT, arrived)
    assert flow.finish(ready) == ([arrived], False)
    payload = ref(arrived.payload)
    del arrived, ready
    assert payload() is None
    with pytest.raises(DataflowError, match="has arrived twice"):
        flow.deliver(EPOCH, key, PROMPT, an_input())


def test_a_message_of_a_step_that_is_done_is_refused_until_its_sequence_is_forgotten() -> None:
    flow = Dataflow()
    slot = Slot(MessageKind.RESIDUAL, 0, 0)
    flow.install(1, [Op(0, Kind.FFN, 0, (), 0, (slot,), Slot(MessageKind.HIDDEN, 1, 0), ())])
    (ready,) = flow.deliver(1, StepKey(4, 2), slot, Input(0.0, 0, np.zeros((1, 2), np.float32)))
    assert flow.finish(ready)[1]
    with pytest.raises(DataflowError, match="that step is finished"):
        flow.deliver(1, StepKey(4, 2), slot, Input(0.0, 0, np.zeros((1, 2), np.float32)))
    flow.forget(4)
    assert flow.deliver(1, StepKey(4, 0), slot, Input(0.0, 0, np.zeros((1, 2), np.float32)))
