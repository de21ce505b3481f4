"""Steps that are given up, devices that go and come back, steps that only fill caches: on the simulator's timeline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, even_cluster, placements

from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Program
from edgeemu.placement.restoration import restoring
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step, roofline_durations
from edgeemu.timeline.virtual import VirtualTimeline

N_DEVICES = 3
CLUSTER = even_cluster(N_DEVICES, Link(1e8, 1e-3))
COSTS = PhysicalCosts(LLAMA)
DURATIONS = roofline_durations([Compute(1e9, 1e9, 1e-5)] * N_DEVICES, COSTS)
PROMPT = Step(0, 0, 5, 0)
LATE_S = 100.0  # all that has begun has ended


def own(step: Step) -> tuple[int, int]:
    return step[:2]


def timeline() -> VirtualTimeline:
    return VirtualTimeline(CLUSTER, COSTS, DURATIONS)


def token_s(program: Program, step: Step = PROMPT, at_s: float = 0.0) -> float:
    made = timeline()
    made.start(step, program, at_s)
    token = made.sampled()
    assert token is not None
    return token.sampled_s


@QUICK
@given(placements(LLAMA, N_DEVICES), st.floats(0.0, 1.0))
def test_a_step_that_is_given_up_takes_as_long_again(placement: Placement, share: float) -> None:
    program = compile_routes(placement, LLAMA)
    alone_s, made = token_s(program), timeline()
    made.start(PROMPT, program, 0.0)
    assert made.sampled(min(share * alone_s, 0.999 * alone_s)) is None
    made.halt(own)
    made.start(PROMPT, program, LATE_S)
    token = made.sampled()
    assert token is not None
    assert token.sampled_s == pytest.approx(LATE_S + alone_s)
    assert len(made.executions(PROMPT)) == len(program.ops)
    assert made.sampled(2 * LATE_S) is None


def test_a_step_is_in_flight_until_its_operations_are_taken() -> None:
    """Its results may never come, though it has its token here; then it can count for nothing."""
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA)
    for counts_for, kept in ((own, len(program.ops)), (lambda _: None, 0)):
        made = timeline()
        made.start(PROMPT, program, 0.0)
        assert made.sampled() is not None
        assert len(made.halt(counts_for)) == bool(kept)
        assert sum(len(step.executed) for step in made.given_up.take(LATE_S)) == kept
        made.start(PROMPT, program, LATE_S)
        assert made.sampled() is not None
        assert len(made.executions(PROMPT)) == len(program.ops)
        assert made.halt(own) == []


def test_an_operation_that_runs_when_its_step_is_given_up_keeps_its_device_busy() -> None:
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA)
    made, simulator = timeline(), Simulator(CLUSTER, COSTS, DURATIONS)
    simulator.start(PROMPT, program, 0.0)
    assert simulator.next_token() is not None
    second = simulator.executions[1]
    made.start(PROMPT, program, 0.0)
    now_s = (second.time.start_s + second.time.end_s) / 2
    assert made.sampled(now_s) is None
    made.halt(own)
    made.start(PROMPT, program, now_s)
    token = made.sampled()
    assert token is not None
    assert token.sampled_s == pytest.approx(second.time.end_s + token_s(program))


@QUICK
@given(placements(LLAMA, N_DEVICES), st.integers(0, N_DEVICES - 1))
def test_a_step_waits_for_ever_for_a_device_that_is_gone(placement: Placement, gone: int) -> None:
    program = compile_routes(placement, LLAMA)
    made = timeline()
    made.end_device(gone, 0.0)
    made.start(PROMPT, program, 0.0)
    has_part = gone in placement.devices()
    assert (made.sampled(LATE_S) is None) == has_part
    if has_part:
        made.halt(own)
        made.restart_device(gone, LATE_S)
        made.start(PROMPT, program, LATE_S)
        token = made.sampled()
        assert token is not None
        assert token.sampled_s == pytest.approx(LATE_S + token_s(program))


@QUICK
@given(placements(LLAMA, N_DEVICES), st.integers(1, LLAMA.n_layers), st.integers(1, 9))
def test_a_step_that_fills_caches_ends_with_its_last_operation(placement: Placement, layers: int, rows: int) -> None:
    program = compile_routes(placement, LLAMA)
    made, step = timeline(), Step(0, -1, rows, 0)
    made.start(step, restoring(program, layers), 0.0)
    ended = made.sampled()
    assert ended is not None
    assert ended.step == step
    executed = made.executions(step)
    assert ended.sampled_s == pytest.approx(max(record.time.end_s for record in executed))
    assert ended.sampled_s < token_s(program, Step(0, 0, rows, 0))


@QUICK
@given(placements(LLAMA, N_DEVICES), st.floats(0.0, 1.0))
def test_what_was_computed_and_sent_of_a_step_that_is_given_up_is_known(placement: Placement, share: float) -> None:
    """Operations that had begun are those of the undisturbed step, to their ends."""
    program = compile_routes(placement, LLAMA)
    whole, made = timeline(), timeline()
    whole.start(PROMPT, program, 0.0)
    token = whole.sampled()
    assert token is not None
    halted_s = min(share * token.sampled_s, 0.999 * token.sampled_s)
    undisturbed = [record for record in whole.executions(PROMPT) if record.time.start_s <= halted_s]
    made.start(PROMPT, program, 0.0)
    assert made.sampled(halted_s) is None
    (given_up,) = made.halt(own)
    (by_then, later) = (made.given_up.take(at_s) for at_s in (halted_s, LATE_S))
    assert all(record.time.end_s <= halted_s for step in by_then for record in step.executed)
    assert all(record.time.end_s > halted_s for step in later for record in step.executed)
    found = [record for step in (*by_then, *later) for record in step.executed]
    assert sorted(record.time for record in found) == sorted(record.time for record in undisturbed)
    assert all((step.done == 1.0).all() for step in (*by_then, *later))
    assert given_up.step == PROMPT[:2]
    assert sum(each.bytes for each in given_up.traffic) == sum(made.sent_bytes().values())
    assert made.given_up.take(LATE_S) == []
    made.start(PROMPT, program, LATE_S)
    assert made.sampled() is not None
    sums = [sum(each.bytes for each in timeline_.traffic(PROMPT)) for timeline_ in (whole, made)]
    assert sums[0] == sums[1]


@QUICK
@given(placements(LLAMA, N_DEVICES), st.floats(0.01, 0.99), st.integers(0, N_DEVICES - 1), st.booleans())
def test_what_a_lost_device_was_computing_ends_with_it(
    placement: Placement, share: float, lost: int, halted_before: bool
) -> None:
    program = compile_routes(placement, LLAMA)
    made, now_s = timeline(), share * token_s(program)
    made.start(PROMPT, program, 0.0)
    assert made.sampled(now_s) is None
    if halted_before:
        made.halt(own)
    made.end_device(lost, now_s)
    if not halted_before:
        made.halt(own)
    for step in made.given_up.take(LATE_S):
        for record, done in zip(step.executed, step.done.tolist(), strict=True):
            whole_s = DURATIONS(record.op, PROMPT)
            spent_s = record.time.end_s - record.time.start_s
            assert spent_s == pytest.approx(done * whole_s)
            assert record.time.end_s <= now_s or record.op.device != lost
            assert done == 1.0 or (record.op.device == lost and record.time.end_s == now_s)
