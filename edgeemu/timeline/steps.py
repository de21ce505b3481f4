"""Steps, and records of their operations."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from edgeemu.cluster.devices import Compute
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import op_s
from edgeemu.placement.program import Op
from edgeemu.timeline.clock import Occupation


class Step(NamedTuple):
    """Step: one pass of a sequence through the model, with `rows` new positions after `past` cached ones."""

    sequence: int
    step: int
    rows: int
    past: int


Duration = Callable[[Op, Step], float]


class OperationRecord(NamedTuple):
    """Record of an executed operation: its instants on the timeline, and measurements if a real kernel ran."""

    op: Op
    step: Step
    time: Occupation
    cpu_s: float = 0.0  # thread time of the kernel
    late_s: float = 0.0  # how far behind the timeline the clock was when the result was there, in emulated seconds
    overrun: bool = False  # the kernel took longer than the operation does on the timeline


class TokenTime(NamedTuple):
    """Event: a step's token was sampled at this instant."""

    step: Step
    sampled_s: float


def roofline_durations(computes: Sequence[Compute], costs: Costs) -> Duration:
    """Duration function by the roofline of each device, in the order of the cluster. It can be pickled."""
    return partial(_roofline_s, computes, costs)


def _roofline_s(computes: Sequence[Compute], costs: Costs, op: Op, step: Step) -> float:
    return op_s(computes[op.device], op, step.rows, step.past, costs)
