"""The timeline of a whole run, against sums by hand and against what must hold of any run."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK, SHAPES, clusters, devices, even_cluster, placements, scattered, shapes
from support.one_sequence import Prediction, predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Mesh
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import Costs, PhysicalCosts
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Op, Program
from edgeemu.placement.work import roofline_s
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Duration, OperationRecord, Step, TokenTime, roofline_durations
from edgeemu_kernels.shape import ModelShape

N_DEVICES = 4

# Small enough to add up on paper: x is 16 bytes a row, a group's output 8, and every message has a header of 64.
PAPER = ModelShape("paper", 1, 4, 2, 2, 2, 8, 16, 64)
PAPER_LINK = Link(bandwidth_bps=800.0, delay_s=0.25)  # 100 bytes a second
PAPER_DURATIONS_S = {Kind.EMBED: 1.0, Kind.HEAD: 2.0, Kind.PROJ: 1.0, Kind.FFN: 3.0, Kind.LM_HEAD: 4.0}


def paper_duration_s(op: Op, step: Step) -> float:  # noqa: ARG001
    """The second device needs 3 s more for its group."""
    return PAPER_DURATIONS_S[op.kind] + (3.0 if (op.kind, op.device) == (Kind.HEAD, 1) else 0.0)


def on_paper(placement: Placement, prompt_tokens: int, new_tokens: int) -> Prediction:
    program = compile_routes(placement, PAPER)
    return predict(
        even_cluster(2, PAPER_LINK), PhysicalCosts(PAPER), program, paper_duration_s, prompt_tokens, new_tokens
    )


def test_two_devices_and_one_layer_by_hand() -> None:
    """Device 0: embed, head(0,0), proj. Device 1: head(0,1), ffn, lm_head."""
    first = Placement(dict.fromkeys(all_blocks(PAPER), 1)).moved([EMBED, head(0, 0), proj(0)], 0)
    made = on_paper(first, prompt_tokens=2, new_tokens=3)
    times = {(e.step.step, e.op.kind, e.op.device): tuple(e.time) for e in made.executions}
    expected = {
        (0, Kind.EMBED, 0): (0.0, 0.0, 1.0),
        (0, Kind.HEAD, 0): (1.0, 1.0, 3.0),
        (0, Kind.HEAD, 1): (2.21, 2.21, 7.21),  # 1 + 96 B at 100 B/s + 0.25
        (0, Kind.PROJ, 0): (8.26, 8.26, 9.26),  # 7.21 + 80 B + 0.25
        (0, Kind.FFN, 1): (10.47, 10.47, 13.47),  # 9.26 + 96 B + 0.25
        (0, Kind.LM_HEAD, 1): (13.47, 13.47, 17.47),
        (1, Kind.EMBED, 0): (18.44, 18.44, 19.44),  # 17.47 + 72 B + 0.25: the token goes back
        (1, Kind.HEAD, 0): (19.44, 19.44, 21.44),
        (1, Kind.HEAD, 1): (20.49, 20.49, 25.49),  # 19.44 + 80 B + 0.25
        (1, Kind.PROJ, 0): (26.46, 26.46, 27.46),  # 25.49 + 72 B + 0.25
        (1, Kind.FFN, 1): (28.51, 28.51, 31.51),
        (1, Kind.LM_HEAD, 1): (31.51, 31.51, 35.51),
    }
    assert len(made.executions) == 3 * len(PAPER_DURATIONS_S) + 3
    for key, instants in expected.items():
        assert times[key] == pytest.approx(instants, abs=1e-12), key
    assert made.sampled_s == pytest.approx([17.47, 35.51, 53.55], abs=1e-12)
    assert made.ttft_s == pytest.approx(17.47)
    assert made.tpot_s == pytest.approx(18.04)


def test_only_the_last_row_goes_to_a_distant_output_matrix() -> None:
    away = Placement(dict.fromkeys(all_blocks(PAPER), 0)).moved([LM_HEAD], 1)
    made = on_paper(away, prompt_tokens=5, new_tokens=1)
    assert made.sampled_s == pytest.approx([1 + 2 + 1 + 3 + (0.80 + 0.25) + 4])
    assert made.tpot_s is None


def test_results_of_one_device_leave_one_after_the_other() -> None:
    """Three devices behind interfaces of 100 B/s: x for the second leaves when x for the first is out."""
    owner = Placement(dict.fromkeys(all_blocks(PAPER), 0)).moved([head(0, 0)], 1).moved([head(0, 1)], 2)
    cluster = even_cluster(3, Link(1e12, 0.0), nic_bps=800.0)
    made = predict(cluster, PhysicalCosts(PAPER), compile_routes(owner, PAPER), paper_duration_s, 1, 1)
    ready = {e.op.device: e.time.ready_s for e in made.executions if e.op.kind is Kind.HEAD}
    assert ready == pytest.approx({1: 1.8, 2: 2.6})
    (gathered,) = (e.time.ready_s for e in made.executions if e.op.kind is Kind.PROJ)
    assert gathered == pytest.approx(1.8 + 5.0 + 0.72)  # device 1's part; device 2's was there at 5.32


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_one_device_takes_the_sum_of_its_rooflines(shape: ModelShape) -> None:
    compute = Compute(3e8, 2e8, 1e-4)
    cluster, costs = even_cluster(1, Link(1e6, 0.0), compute=compute), PhysicalCosts(shape)
    program = compile_routes(Placement(dict.fromkeys(all_blocks(shape), 0)), shape)
    made = predict(cluster, costs, program, roofline_durations([compute], costs), 7, 4)

    def step_s(rows: int, past: int) -> float:
        works = [costs.work(Kind.EMBED, 0, rows, past), costs.work(Kind.LM_HEAD, 0, rows, past)]
        for _ in range(shape.n_layers):
            works += [costs.work(kind, shape.n_groups, rows, past) for kind in (Kind.HEAD, Kind.PROJ, Kind.FFN)]
        return sum(roofline_s(compute, work) for work in works)

    expected = [step_s(7, 0)]
    for past in (7, 8, 9):
        expected.append(expected[-1] + step_s(1, past))
    assert made.sampled_s == pytest.approx(expected, rel=1e-12)
    assert made.tpot_s == pytest.approx((expected[3] - expected[0]) / 3)


@QUICK
@given(shapes(), st.integers(1, 9))
def test_sizes_of_messages_follow_from_what_they_carry(shape: ModelShape, rows: int) -> None:
    costs = PhysicalCosts(shape)
    for op in compile_routes(scattered(shape, N_DEVICES, 1), shape).ops:
        values = {
            Kind.EMBED: rows * shape.d_model,
            Kind.HEAD: rows * len(op.groups) * shape.group_dim,
            Kind.PROJ: rows * shape.d_model,
            Kind.FFN: (1 if op.layer == shape.n_layers - 1 else rows) * shape.d_model,
            Kind.LM_HEAD: 2,  # one int64
        }
        assert message_bytes(op, rows, costs) == 64 + 4 * values[op.kind]


# -- what holds of any run ------------------------------------------------------------------------------------------


def several(
    cluster: Cluster, costs: Costs, programs: list[Program], duration: Duration, new_tokens: int
) -> tuple[list[TokenTime], list[OperationRecord]]:
    """Sequences that are under way at the same time, each with a prompt and a program of its own."""
    simulator = Simulator(cluster, costs, duration)
    for sequence, program in enumerate(programs):
        simulator.start(Step(sequence, 0, 2 + sequence, 0), program, 0.001 * sequence)
    sampled = []
    for token in simulator.tokens():
        sampled.append(token)
        sequence, step, rows, past = token.step
        if step + 1 < new_tokens:
            simulator.start(Step(sequence, step + 1, 1, past + rows), programs[sequence], token.sampled_s)
    return sampled, simulator.executions


@QUICK
@given(st.data(), shapes(max_layers=2), clusters(N_DEVICES))
def test_several_sequences_at_once_keep_every_device_honest(
    data: st.DataObject, shape: ModelShape, cluster: Cluster
) -> None:
    programs = [compile_routes(data.draw(placements(shape, N_DEVICES)), shape) for _ in range(3)]
    costs = PhysicalCosts(shape)
    computes = [device.compute for device in cluster.devices if device.compute]
    duration = roofline_durations(computes, costs)
    sampled, executions = several(cluster, costs, programs, duration, 3)
    assert (sampled, executions) == several(cluster, costs, programs, duration, 3)

    # Every operation ran once in every step, and nothing else did.
    ran = sorted((e.step.sequence, e.step.step, e.op.index) for e in executions)
    assert ran == [(s, step, op.index) for s in range(3) for step in range(3) for op in programs[s].ops]
    assert sorted(token.step[:2] for token in sampled) == [(s, step) for s in range(3) for step in range(3)]
    assert [token.sampled_s for token in sampled] == sorted(token.sampled_s for token in sampled)

    # A device is never idle with work, never does two things at once, goes on with the step that it is at if it can,
    # and else takes what was ready first.
    by_device = defaultdict[int, list[OperationRecord]](list)
    for execution in executions:
        by_device[execution.op.device].append(execution)
    for found in by_device.values():
        free_s, last = 0.0, None
        in_order = sorted(found, key=lambda execution: execution.time.start_s)
        for number, (op, step, time, *_) in enumerate(in_order):
            assert time.start_s == max(free_s, time.ready_s)
            assert time.end_s == time.start_s + duration(op, step)
            if step != last:
                later = in_order[number + 1 :]
                assert all(other.time.ready_s >= time.ready_s for other in later)
                assert not any(other.step == last and other.time.ready_s < time.start_s for other in later)
            free_s, last = time.end_s, step

    # What is needed has been made before.
    ends = {(e.step.sequence, e.step.step, e.op.emits): e.time.end_s for e in executions}
    for op, step, time, *_ in executions:
        for slot in op.inputs(step.step):
            made_in = step.step - 1 if op.kind is Kind.EMBED else step.step
            assert time.ready_s >= ends.get((step.sequence, made_in, slot), 0.0)


@QUICK
@given(st.data(), shapes(max_layers=2), st.integers(0, N_DEVICES - 1), st.integers(1, N_DEVICES - 1))
def test_a_slower_link_never_makes_a_sequence_faster(
    data: st.DataObject, shape: ModelShape, source: int, beyond: int
) -> None:
    program = compile_routes(data.draw(placements(shape, N_DEVICES)), shape)
    costs, computes = PhysicalCosts(shape), [Compute(10.0**k, 1e8, 1e-5) for k in range(6, 6 + N_DEVICES)]
    slowed = source, (source + beyond) % N_DEVICES
    tokens = []
    for bandwidth_bps, delay_s in ((1e7, 1e-3), (1e7, 4e-3), (1e5, 4e-3), (1e4, 4e-3)):
        links = {slowed: Link(bandwidth_bps, delay_s)}
        topology = Mesh(N_DEVICES, lambda a, b, links=links: links.get((a, b), Link(1e7, 1e-3)))
        cluster = Cluster("slowed", 0, devices(computes), topology)
        tokens.append(predict(cluster, costs, program, roofline_durations(computes, costs), 5, 3).sampled_s)
    used = any(op.device == slowed[0] and slowed[1] in op.to for op in program.ops)
    for before, after in pairwise(tokens):
        assert all(late >= early for early, late in zip(before, after, strict=True))
        assert used or before == after


def test_faster_devices_finish_sooner_and_a_token_alone_has_no_tpot() -> None:
    program = compile_routes(scattered(GPT2, 2, 0), GPT2)
    costs, cluster = PhysicalCosts(GPT2), even_cluster(2, Link(1e6, 1e-3))
    slow, fast = (
        predict(cluster, costs, program, roofline_durations([Compute(speed, speed, 0.0)] * 2, costs), 4, 2)
        for speed in (1e6, 1e8)
    )
    assert fast.ttft_s < slow.ttft_s
    assert fast.tpot_s is not None
    assert slow.tpot_s is not None
    assert fast.tpot_s < slow.tpot_s


def test_a_step_starts_where_the_last_token_was_sampled() -> None:
    """The clusters' own time is kept between sequences: pipes and devices know what was before."""
    costs, cluster = PhysicalCosts(LLAMA), even_cluster(2, Link(1e5, 1e-3))
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)).moved([ffn(0), ffn(1)], 1), LLAMA)
    simulator = Simulator(cluster, costs, roofline_durations([Compute(1e8, 1e8, 0.0)] * 2, costs))
    simulator.start(Step(0, 0, 5, 0), program, 0.0)
    (first,) = simulator.tokens()
    simulator.start(Step(1, 0, 5, 0), program, first.sampled_s)
    (second,) = simulator.tokens()
    assert second.sampled_s == pytest.approx(2 * first.sampled_s)
    starts = [e.time.start_s for e in simulator.executions if e.op.kind is Kind.EMBED]
    assert starts == [0.0, first.sampled_s]
