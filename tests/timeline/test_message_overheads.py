"""Messages that keep processors busy: instants by hand, and what holds of any program and any overheads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, even_cluster, placements, shapes
from support.one_sequence import Prediction, predict

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.variation import Variation, scaled
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, all_blocks, head, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.operation_costs import message_s
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Collective, Op
from edgeemu.timeline.steps import Duration, Step
from edgeemu_kernels.shape import ModelShape

# Small enough to add up on paper: x is 16 bytes a row, a group's output 8, and every message has a header of 64.
PAPER = ModelShape("paper", 1, 4, 2, 2, 2, 8, 16, 64)
LINK = Link(bandwidth_bps=800.0, delay_s=0.25)  # 100 bytes a second
WORK_S = {Kind.EMBED: 1.0, Kind.HEAD: 2.0, Kind.PROJ: 1.0, Kind.FFN: 3.0, Kind.LM_HEAD: 4.0}
COSTS = PhysicalCosts(PAPER)
ALONE = Placement(dict.fromkeys(all_blocks(PAPER), 0))
Moved = tuple[Collective, int, float, float, float]


def durations(computes: list[Compute]) -> Duration:
    """Times of operations as on paper, and of messages as the devices have them."""

    def duration_s(op: Op, step: Step) -> float:
        return message_s(computes[op.device], op, step.rows, COSTS) if op.moves_message else WORK_S[op.kind]

    return duration_s


def busy(message_s: float, byte_s: float = 0.0) -> Compute:
    return Compute(1.0, 1.0, 0.0, message_s, byte_s)


def run(placement: Placement, computes: list[Compute], tokens: int = 1, link: Link = LINK) -> Prediction:
    devices = [index for index, compute in enumerate(computes) if compute.messages_cost]
    program = with_message_overheads(compile_routes(placement, PAPER), devices)
    return predict(even_cluster(len(computes), link), COSTS, program, durations(computes), 1, tokens)


def moved(made: Prediction) -> list[Moved]:
    """Messages that were sent and taken in: what, where, and when ready, begun and done."""
    return [(e.op.kind, e.op.device, *e.time) for e in made.executions if e.op.moves_message]


def test_a_chain_by_hand() -> None:
    """Everything on device 0 but the output matrix; its sender takes 0.5 s for a message, its receiver 0.1 s and 0.01 s
    for each of its 80 bytes.
    """
    made = run(ALONE.moved([LM_HEAD], 1), [busy(0.5), busy(0.1, 0.01)], tokens=2)
    sends, receives = moved(made)[::2], moved(made)[1::2]
    assert sends[0] == (Collective.SEND, 0, 7.0, 7.0, 7.5)  # 1 + 2 + 1 + 3 of computing
    assert receives[0] == pytest.approx((Collective.RECEIVE, 1, 8.55, 8.55, 9.45))  # 80 B at 100 B/s, and 0.25
    assert made.sampled_s[0] == pytest.approx(13.45)
    assert len(moved(made)) == 6  # the token is sent and taken in on its way back, too
    assert made.sampled_s[1] == pytest.approx(13.45 + 0.82 + 0.72 + 0.25 + 0.5 + 13.45)


def test_receivers_are_sent_to_one_after_the_other() -> None:
    """Groups on devices 1 and 2: x leaves for the second when it has left for the first, and device 0 goes on then."""
    made = run(ALONE.moved([head(0, 0)], 1).moved([head(0, 1)], 2), [busy(0.5), busy(0.0), busy(0.0)])
    assert moved(made)[:2] == [(Collective.SEND, 0, 1.0, 1.0, 1.5), (Collective.SEND, 0, 1.0, 1.5, 2.0)]
    ready = {e.op.device: e.time.ready_s for e in made.executions if e.op.kind is Kind.HEAD}
    assert ready == pytest.approx({1: 1.5 + 0.8 + 0.25, 2: 2.0 + 0.8 + 0.25})
    # Both outputs come to device 0 and are taken in one after the other: 72 bytes each.
    first, second = (each[2:] for each in moved(made)[2:])
    assert first == pytest.approx((5.52, 5.52, 6.02))  # 2.55 + 2 of computing + 0.72 + 0.25
    assert second == pytest.approx((6.02, 6.02, 6.52))
    (gathered,) = (e.time.ready_s for e in made.executions if e.op.kind is Kind.PROJ)
    assert gathered == pytest.approx(6.52)


def test_a_message_waits_for_a_kernel_and_two_for_each_other() -> None:
    """Device 0 computes a group when the outputs of two others arrive, at one instant."""
    shape = ModelShape("three", 1, 6, 3, 3, 2, 8, 16, 64)
    placement = Placement(dict.fromkeys(all_blocks(shape), 0)).moved([head(0, 1)], 1).moved([head(0, 2)], 2)
    computes = [busy(0.5), busy(0.0), busy(0.0)]
    program, costs = with_message_overheads(compile_routes(placement, shape), [0]), PhysicalCosts(shape)

    def duration_s(op: Op, step: Step) -> float:
        if op.moves_message:
            return message_s(computes[op.device], op, step.rows, costs)
        return 9.0 if (op.kind, op.device) == (Kind.HEAD, 0) else WORK_S[op.kind]

    made = predict(even_cluster(3, Link(1e12, 0.25)), costs, program, duration_s, 1, 1)
    own = next(e.time for e in made.executions if (e.op.kind, e.op.device) == (Kind.HEAD, 0))
    taken = [e.time for e in made.executions if e.op.kind is Collective.RECEIVE]
    assert own.end_s > max(each.ready_s for each in taken)
    assert [each.start_s for each in taken] == pytest.approx([own.end_s, own.end_s + 0.5])


def test_under_load_a_message_takes_longer_too() -> None:
    placement, computes = ALONE.moved([LM_HEAD], 1), [busy(0.5), busy(0.5)]
    half: Variation | None = scaled(None, 0.0, 0.5)
    cluster = even_cluster(2, LINK)
    object.__setattr__(cluster.devices[1], "availability", half)
    program = with_message_overheads(compile_routes(placement, PAPER), [0, 1])
    made = predict(cluster, COSTS, program, durations(computes), 1, 1)
    send, receive = (e.time for e in made.executions if e.op.moves_message)
    assert send.end_s - send.start_s == pytest.approx(0.5)
    assert receive.end_s - receive.start_s == pytest.approx(1.0)


def test_without_overheads_the_program_is_the_same() -> None:
    program = compile_routes(ALONE.moved([proj(0)], 1), PAPER)
    assert with_message_overheads(program, []) is program


@QUICK
@given(st.data())
def test_every_message_is_sent_and_taken_in_once(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    program = compile_routes(data.draw(placements(shape, 3)), shape)
    devices = data.draw(st.sets(st.integers(0, 2)))
    made = with_message_overheads(program, devices)
    ways = [(op, to) for op in program.ops for to in op.to if to != op.device]
    sends = [(op.emits, op.to[0]) for op in made.ops if op.kind is Collective.SEND]
    receives = [(op.needs[0], op.device) for op in made.ops if op.kind is Collective.RECEIVE]
    assert sends == [(op.emits, to) for op, to in ways if op.device in devices]
    assert receives == [(op.emits, to) for op, to in ways if to in devices]
    assert [op.index for op in made.ops] == list(range(len(made.ops)))
    sent = {(to, op.emits) for op in made.ops for to in op.to}
    assert all((op.device, slot) in sent for op in made.ops for slot in op.needs if slot.source >= 0)
    assert [op.kind for op in made.ops if not op.moves_message] == [op.kind for op in program.ops]


@QUICK
@given(st.lists(st.floats(0.0, 5.0), min_size=4, max_size=4), st.integers(0, 3))
def test_more_overhead_makes_no_token_of_a_chain_earlier(overheads_s: list[float], more: int) -> None:
    chain = ALONE.moved([EMBED], 1).moved([proj(0)], 2).moved([LM_HEAD], 3)
    before = run(chain, [busy(each) for each in overheads_s], tokens=2)
    after = run(chain, [busy(each + (index == more)) for index, each in enumerate(overheads_s)], tokens=2)
    assert all(b >= a - 1e-9 for a, b in zip(before.sampled_s, after.sampled_s, strict=True))
