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
    made.halt()
    made.start(PROMPT, program, LATE_S)
    token = made.sampled()
    assert token is not None
    assert token.sampled_s == pytest.approx(LATE_S + alone_s)
    assert len(made.executions(PROMPT)) == len(program.ops)
    assert made.sampled(2 * LATE_S) is None


def test_an_operation_that_runs_when_its_step_is_given_up_keeps_its_device_busy() -> None:
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA)
    made, simulator = timeline(), Simulator(CLUSTER, COSTS, DURATIONS)
    simulator.start(PROMPT, program, 0.0)
    assert simulator.next_token() is not None
    second = simulator.executions[1]
    made.start(PROMPT, program, 0.0)
    now_s = (second.time.start_s + second.time.end_s) / 2
    assert made.sampled(now_s) is None
    made.halt()
    made.start(PROMPT, program, now_s)
    token = made.sampled()
    assert token is not None
    assert token.sampled_s == pytest.approx(second.time.end_s + token_s(program))


@QUICK
@given(placements(LLAMA, N_DEVICES), st.integers(0, N_DEVICES - 1))
def test_a_step_waits_for_ever_for_a_device_that_is_gone(placement: Placement, gone: int) -> None:
    program = compile_routes(placement, LLAMA)
    made = timeline()
    made.end_device(gone)
    made.start(PROMPT, program, 0.0)
    has_part = gone in placement.devices()
    assert (made.sampled(LATE_S) is None) == has_part
    if has_part:
        made.halt()
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
