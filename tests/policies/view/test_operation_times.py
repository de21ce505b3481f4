"""Sums over executed operations are what each operation takes for itself, whatever divides a layer."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, shapes

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.operation_costs import op_s
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.operation_times import OperationTimes
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.executed import ExecutedOps, OpColumns
from edgeemu.timeline.steps import OperationRecord, Step
from edgeemu_kernels.shape import ModelShape

N = 3
SPEEDS = [Compute(1e9 * (n + 1), 2e9 / (n + 1), 1e-5 * n) for n in range(N)]


@settings(QUICK, max_examples=15)
@given(st.data(), shapes(), st.sampled_from(["ring", "star"]))
def test_sums_are_those_of_operations_one_by_one(data: st.DataObject, shape: ModelShape, way: str) -> None:
    costs, known = PhysicalCosts(shape), OperationTimes(SPEEDS, PhysicalCosts(shape))
    placements = [data.draw(divided_placements(shape, N)) for _ in range(2)]
    programs = [compile_routes(placement, shape, "star" if way == "star" else "ring") for placement in placements]
    for number, program in enumerate((programs[0], programs[0], programs[1])):  # as before, and after blocks moved
        steps = [Step(0, number, rows, 5) for rows in (1, data.draw(st.integers(1, 20)))]
        executions = [
            OperationRecord(op, step, Occupation(op.index + 0.1, op.index + 0.3, op.index + 0.3 + 0.1 * step.rows))
            for step in steps
            for op in program.ops
        ]
        sums = np.zeros((N, 4))
        for op, step, time, *_ in executions:
            nominal_s = op_s(SPEEDS[op.device], op, step.rows, step.past, costs)
            if nominal_s:
                sums[op.device] += 1, nominal_s, time.end_s - time.start_s, time.start_s - time.ready_s
        assert np.array(known.totals(executions)).T.tolist() == sums.tolist()


@settings(QUICK, max_examples=15)
@given(st.data(), shapes())
def test_operations_of_a_program_can_be_executed_in_any_parts(data: st.DataObject, shape: ModelShape) -> None:
    costs = PhysicalCosts(shape)
    program = compile_routes(data.draw(divided_placements(shape, N)), shape, "ring")
    about, known = OpColumns(program.ops), OperationTimes(SPEEDS, costs)
    for number in range(3):  # what was executed before, what was not, or some of both
        step = Step(0, number, 1, 5)
        places = data.draw(st.lists(st.integers(0, len(program.ops) - 1), min_size=1, unique=True))
        executed = ExecutedOps.of_step(about, step, [(at, at + 0.1, at + 0.3, at + 0.4, -1) for at in places])
        sums = np.zeros((N, 2))
        for at in places:
            op = program.ops[at]
            nominal_s = op_s(SPEEDS[op.device], op, step.rows, step.past, costs)
            sums[op.device] += (1, nominal_s) if nominal_s else (0, 0.0)
        totals = known.totals(executed)
        assert totals.number.tolist() == sums[:, 0].tolist()
        np.testing.assert_allclose(totals.nominal_s, sums[:, 1], rtol=1e-12)


def test_a_step_of_which_nothing_has_arrived_yet_says_nothing() -> None:
    """Devices report on their own: a decision can come before any report of the last step."""
    program = compile_routes(Placement(dict.fromkeys(all_blocks(LLAMA), 0)), LLAMA, "ring")
    for executions in ([], ExecutedOps.of_step(OpColumns(program.ops), Step(0, 1, 1, 5), [])):
        totals = OperationTimes(SPEEDS, PhysicalCosts(LLAMA)).totals(executions)
        assert np.array(totals).tolist() == np.zeros((4, N)).tolist()
