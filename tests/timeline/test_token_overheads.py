"""Overheads of messages: when results are sent, and the token on its way back. Sums by hand, and what always holds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, even_cluster, placements
from support.one_sequence import Prediction, predict

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.blocks import LM_HEAD, Kind, all_blocks, ffn, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.operation_costs import message_s
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Collective, MessageKind, Op
from edgeemu.timeline.ready_queue import ReadyQueue, Waiting
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Duration, Step, roofline_durations
from edgeemu_kernels.shape import ModelShape

# Small enough to add up on paper: x is 16 bytes a row, a group's output 8, and every message has a header of 64.
PAPER = ModelShape("paper", 1, 4, 2, 2, 2, 8, 16, 64)
LINK = Link(bandwidth_bps=800.0, delay_s=0.25)  # 100 bytes a second
WORK_S: dict[Kind | Collective, float] = {
    Kind.EMBED: 1.0,
    Kind.HEAD: 2.0,
    Kind.PROJ: 1.0,
    Kind.FFN: 3.0,
    Kind.LM_HEAD: 4.0,
}
COSTS = PhysicalCosts(PAPER)
ALONE = Placement(dict.fromkeys(all_blocks(PAPER), 0))
TOKEN = MessageKind.TOKEN


def on_paper(overheads_s: list[tuple[float, float]]) -> Duration:
    """Seconds per message and per byte, of each device."""
    computes = [Compute(1.0, 1.0, 0.0, *each) for each in overheads_s]

    def duration_s(op: Op, step: Step) -> float:
        return message_s(computes[op.device], op, step.rows, COSTS) if op.moves_message else WORK_S[op.kind]

    return duration_s


def run(placement: Placement, overheads_s: list[tuple[float, float]], tokens: int) -> Prediction:
    devices = [index for index, each in enumerate(overheads_s) if any(each)]
    program = with_message_overheads(compile_routes(placement, PAPER), devices)
    cluster = even_cluster(len(overheads_s), LINK)
    return predict(cluster, COSTS, program, on_paper(overheads_s), 1, tokens)


def test_a_chain_of_two_and_its_token() -> None:
    """The output matrix on device 1: 0.1 s for a message and 0.01 s a byte there, 0.5 s a message on device 0."""
    made = run(ALONE.moved([LM_HEAD], 1), [(0.5, 0.0), (0.1, 0.01)], tokens=2)
    there_s = 7.0 + 0.5 + 0.8 + 0.25 + (0.1 + 0.8) + 4.0  # blocks, sent, wire, taken in, output matrix
    back_s = (0.1 + 0.72) + 0.72 + 0.25 + 0.5  # the token has 72 bytes
    assert made.sampled_s == pytest.approx([there_s, there_s + back_s + there_s])
    token = [(e.op.kind, e.op.device, e.step.step, *e.time) for e in made.executions if e.op.emits.kind is TOKEN]
    sent, taken_in = [each for each in token if each[0] is not Kind.LM_HEAD]
    assert sent == pytest.approx((Collective.SEND, 1, 1, there_s, there_s, there_s + 0.82))
    assert taken_in == pytest.approx((Collective.RECEIVE, 0, 1, *[there_s + 1.79] * 2, there_s + 2.29))


def test_a_chain_of_three() -> None:
    """Only the middle one, with the feed-forward block, has an overhead: it takes one message in and sends one."""
    made = run(ALONE.moved([ffn(0)], 1).moved([LM_HEAD], 2), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.0)], tokens=1)
    assert made.sampled_s == pytest.approx([4.0 + 1.05 + 0.5 + 3.0 + 0.5 + 1.05 + 4.0])
    kinds = [e.op.kind for e in made.executions if e.op.device == 1]
    assert kinds == [Collective.RECEIVE, Kind.FFN, Collective.SEND]


def test_results_leave_before_their_device_goes_on() -> None:
    """Device 0 embeds, and has a group of heads itself: x is sent to the other's device before that runs."""
    made = run(ALONE.moved([head(0, 1)], 1), [(0.5, 0.0), (0.0, 0.0)], tokens=1)
    ran = [(e.op.kind, *e.time) for e in made.executions if e.op.device == 0][:3]
    assert ran == [(Kind.EMBED, 0.0, 0.0, 1.0), (Collective.SEND, 1.0, 1.0, 1.5), (Kind.HEAD, 1.0, 1.5, 3.5)]


def test_what_a_step_has_to_send_goes_before_what_was_ready_earlier() -> None:
    queue: ReadyQueue[str] = ReadyQueue()
    queue.bypass(0, 4)
    queue.push(Waiting(1.0, 0, 4, 3), "operation")
    queue.push(Waiting(0.5, 1, 4, 3, sends=True), "of another sequence")
    queue.push(Waiting(2.0, 0, 4, 8, sends=True), "second")
    queue.push(Waiting(2.0, 0, 4, 7, sends=True), "first")
    assert [queue.pop()[1] for _ in range(4)] == ["first", "second", "operation", "of another sequence"]


def test_the_token_of_one_sequence_waits_for_an_operation_of_another() -> None:
    """The output matrix's device is busy with sequence 1 when sequence 0's next step is released."""
    program = with_message_overheads(compile_routes(ALONE.moved([LM_HEAD], 1), PAPER), [1])
    simulator = Simulator(even_cluster(2, LINK), COSTS, on_paper([(0.0, 0.0), (0.5, 0.0)]))
    for sequence in range(2):
        simulator.start(Step(sequence, 0, 1, 0), program, 0.0)
    first, second = simulator.next_token(), simulator.next_token()
    assert first is not None
    assert second is not None
    assert (first.sampled_s, second.sampled_s) == pytest.approx((12.55, 19.55))  # 7 + 1.05 + 0.5 + 4, and 7 later
    simulator.start(Step(0, 1, 1, 1), program, second.sampled_s)
    simulator.start(Step(1, 1, 1, 1), program, second.sampled_s)
    list(simulator.tokens())
    sent = [(e.step.sequence, *e.time) for e in simulator.executions if e.op.kind is Collective.SEND]
    assert [each[0] for each in sent] == [0, 1]
    assert [each[1:] for each in sent] == [
        pytest.approx(each) for each in ((19.55, 19.55, 20.05), (19.55, 20.05, 20.55))
    ]


@QUICK
@given(st.data(), st.lists(st.floats(0.0, 0.01), min_size=3, max_size=3), st.floats(0.0, 1e-5))
def test_devices_are_busy_for_their_operations_and_overheads(
    data: st.DataObject, overheads_s: list[float], byte_s: float
) -> None:
    plain = compile_routes(data.draw(placements(LLAMA, 3)), LLAMA)
    computes = [Compute(1e8, 1e8, 1e-5, each, byte_s) for each in overheads_s]
    costs, devices = PhysicalCosts(LLAMA), [n for n, each in enumerate(computes) if each.messages_cost]
    program, duration = with_message_overheads(plain, devices), roofline_durations(computes, costs)
    made = predict(even_cluster(3, Link(1e6, 1e-3)), costs, program, duration, 5, 3)
    steps = sorted({e.step for e in made.executions})
    for device, compute in enumerate(computes):
        expected_s = sum(duration(op, step) for op in plain.on(device) for step in steps)
        for op in plain.ops:
            crossed = [to for to in op.to if to != op.device and device in (to, op.device)]
            of_steps = steps[1:] if op.emits.kind is TOKEN else steps
            expected_s += len(crossed) * sum(message_s(compute, op, step.rows, costs) for step in of_steps)
        mine = sorted((e.time for e in made.executions if e.op.device == device), key=lambda time: time.start_s)
        assert sum(time.end_s - time.start_s for time in mine) == pytest.approx(expected_s)
        assert all(before.end_s <= after.start_s for before, after in pairwise(mine))
