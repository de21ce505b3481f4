"""Steps are given up at any point, caches shortened and filled again, and the text is what it would have been."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import LLAMA, SHAPES
from support.device_pair import DevicePair, Generation

from edgeemu.device.dataflow import Dataflow, DataflowError, Input, StepKey
from edgeemu.device.protocol_in import Ship
from edgeemu.device.protocol_out import Arrived, Report, Token
from edgeemu.device.sending import outgoing
from edgeemu.placement.blocks import Kind, all_blocks, head
from edgeemu.placement.ledger import CACHE, MESSAGES, WEIGHTS
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind, Op, Slot
from edgeemu.placement.shipments import Shipment
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

PROMPTS = ([3, 1, 4, 1, 5], [2, 7], [1, 6, 1])
NEW_TOKENS = 5


def split(shape: ModelShape) -> Placement:
    """Feed-forwards and first groups on d1, all else on d0."""
    return Placement({block: int(block.kind is Kind.FFN or block.group == 0) for block in all_blocks(shape)})


def begun(shape: ModelShape, sequences: int, *, paced: bool, message_s: float = 0.0) -> Generation:
    generation = Generation(shape, split(shape), DevicePair(message_s=message_s), paced=paced)
    for sequence in range(sequences):
        generation.open(sequence, list(PROMPTS[sequence]), NEW_TOKENS)
    return generation


def run_some(generation: Generation, steps: Sequence[int]) -> None:
    """Starts steps of the sequences, in this order, as far as those before them have ended, and lets some time pass."""
    pair = generation.pair
    flying: set[int] = set()
    for sequence in steps:
        if sequence not in flying and len(generation.tokens[sequence]) < NEW_TOKENS:
            generation.start(sequence)
            flying.add(sequence)
        pair.step()
        due_s = [device.due_s for device in pair.devices if device.due_s is not None]
        if not any(device.has_ready for device in pair.devices) and due_s:
            pair.now_s = max(pair.now_s, min(due_s))
        for token in pair.take(Token):
            generation.tokens[token.sequence].append(token.token)
            flying.discard(token.sequence)
        pair.take(Report)


def finish(generation: Generation) -> None:
    """Generates all other tokens: each text must be the reference's, and nothing but weights is held in the end."""
    reference = Reference(SeededSource(generation.shape, 0))
    for sequence, tokens in generation.tokens.items():
        generation.generate(sequence, NEW_TOKENS - len(tokens))
    for sequence, tokens in generation.tokens.items():
        assert tokens == reference.generate(list(PROMPTS[sequence]), NEW_TOKENS)
        generation.close(sequence)
    for device in generation.pair.devices:
        assert device.ledger.page().keys() == {WEIGHTS}


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    paced=st.booleans(),
    message_s=st.sampled_from([0.0, 1e-3]),
    order=st.lists(st.integers(0, 2), max_size=60),
    again=st.lists(st.integers(0, 2), max_size=30),
    layers=st.integers(0, 2),
    most_rows=st.integers(1, 5),
)
def test_steps_that_are_given_up_at_any_point_run_again(
    shape: ModelShape,
    paced: bool,
    message_s: float,
    order: list[int],
    again: list[int],
    layers: int,
    most_rows: int,
) -> None:
    """Twice in one run. What was on its way then arrives later, and is dropped."""
    generation = begun(shape, 3, paced=paced, message_s=message_s)
    for steps in (order, again):
        run_some(generation, steps)
        generation.halt()
        for device in generation.pair.devices:
            assert MESSAGES not in device.ledger.page()
        rows = {sequence: end // 2 for sequence, end in generation.rows.items()}
        generation.restore(layers, rows, most_rows)
        for number, device in enumerate(generation.pair.devices):
            groups = sum(block.kind is Kind.HEAD for block in generation.placement.on(number))
            cached = groups * generation.costs.kv_bytes(sum(generation.rows.values()))
            assert device.ledger.page().get(CACHE, 0) == cached
    finish(generation)


def test_a_migration_goes_on_though_steps_are_given_up() -> None:
    """Its chunks are no steps: what it has copied is there, and it can be aborted."""
    generation = begun(LLAMA, 1, paced=True)
    generation.generate(0, 2)
    migration = generation.migration({head(0, 1): 1})
    generation.prepare(migration, growth_rows=2)
    generation.ship(migration)
    generation.start(0)
    generation.pair.step()
    generation.halt()
    generation.pair.settle()
    assert len(generation.pair.take(Arrived)) == 1
    generation.abort(migration)
    generation.restore(0, {0: 0}, 5)
    finish(generation)


def test_weights_that_a_device_does_not_hold_are_shipped_from_its_storage() -> None:
    generation = begun(LLAMA, 1, paced=True)
    here, there = (device.executor for device in generation.pair.devices)
    for block, device in generation.placement.owner.items():
        elsewhere, holder = (there, here) if device == 0 else (here, there)
        assert holder.holds(block)
        assert not elsewhere.holds(block)
        shipment = Shipment(block, 1 - device, device, -1, 0, 0, with_weights=True)
        chunks = [
            [chunk.payload for chunk in outgoing(Ship(1, 0, 0.0, 1 << 30, [shipment], []), [shipment], executor)]
            for executor in (elsewhere, holder)
        ]
        assert b"".join(map(bytes, chunks[0])) == b"".join(map(bytes, chunks[1])) != b""


def op_and_slot() -> tuple[Op, Slot]:
    slot = Slot(MessageKind.RESIDUAL, 0, 0)
    return Op(0, Kind.FFN, 0, (), 0, (slot,), Slot(MessageKind.HIDDEN, 1, 0), ()), slot


def an_input() -> Input:
    return Input(0.0, 0, np.zeros((1, 2), np.float32))


def test_after_a_halt_a_step_that_was_finished_or_under_way_may_run_again_in_the_new_epoch() -> None:
    flow, (op, slot) = Dataflow(), op_and_slot()
    flow.install(1, [op])
    (ready,) = flow.deliver(1, StepKey(0, 1), slot, an_input())
    flow.finish(ready)
    flow.deliver(1, StepKey(1, 1), slot, an_input())
    assert flow.halt(5) == 8
    assert flow.is_given_up(4)
    assert not flow.is_given_up(5)
    with pytest.raises(DataflowError, match="of epoch 1, but epoch 5 is installed"):
        flow.deliver(1, StepKey(0, 1), slot, an_input())
    for sequence in (0, 1):
        (ready,) = flow.deliver(5, StepKey(sequence, 1), slot, an_input())
        assert flow.finish(ready)[1]
    with pytest.raises(DataflowError, match="epoch 5 cannot follow epoch 5"):
        flow.halt(5)


def test_steps_below_zero_come_one_after_the_other_and_each_once() -> None:
    flow, (op, slot) = Dataflow(), op_and_slot()
    flow.install(1, [op])
    for step in (-3, -2, -1):
        (ready,) = flow.deliver(1, StepKey(0, step), slot, an_input())
        assert flow.finish(ready)[1]
    with pytest.raises(DataflowError, match="that step is finished"):
        flow.deliver(1, StepKey(0, -2), slot, an_input())


def test_an_epoch_that_was_never_halted_is_an_error_as_always() -> None:
    flow, (op, slot) = Dataflow(), op_and_slot()
    flow.install(3, [op])
    assert not flow.is_given_up(2)
    with pytest.raises(DataflowError, match="of epoch 2, but epoch 3 is installed"):
        flow.deliver(2, StepKey(0, 0), slot, an_input())
