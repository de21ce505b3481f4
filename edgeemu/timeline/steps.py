"""Steps, and records of their operations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes, message_key, op_work, sends_last_row, work_key
from edgeemu.placement.program import Op
from edgeemu.placement.work import Work, roofline_s
from edgeemu.timeline.clock import Occupation


class Step(NamedTuple):
    """Step: one pass of a sequence through the model, with `rows` new positions after `past` cached ones.

    Step 0 is the prompt's, and ends with the first token. Steps below 0 fill caches that were lost, and have no token.
    """

    sequence: int
    step: int
    rows: int
    past: int

    @property
    def enters_at_embedding(self) -> bool:
        """Whether its input are ids from the controller, and not the token that was sampled last."""
        return self.step <= 0


BEFORE_ALL = Step(0, 0, 1, 0)  # stands for the step that waits where no sequence is open
Duration = Callable[[Op, Step], float]
StepDurations = Callable[[Step], NDArray[np.float64]]  # of all operations of a step: [n_ops]


class OperationRecord(NamedTuple):
    """Record of an executed operation: its instants on the timeline, and measurements if a real kernel ran."""

    op: Op
    step: Step
    time: Occupation
    cpu_s: float = 0.0  # thread time of the kernel
    late_s: float = 0.0  # how far behind the timeline the clock was when the result was there, in emulated seconds
    overrun: bool = False  # the kernel took longer than the operation does on the timeline
    last: Op | None = None  # whose result arrived last, of all inputs; None: the step's release by the controller


class TokenTime(NamedTuple):
    """Event: a step's token was sampled at this instant."""

    step: Step
    sampled_s: float


def roofline_durations(computes: Sequence[Compute], costs: Costs) -> Duration:
    """Duration function by the roofline of each device, in the order of the cluster. It can be pickled."""
    return _RooflineDurations(computes, costs)


def step_durations(duration: Duration, ops: Sequence[Op]) -> StepDurations:
    """Durations of some operations, all at once in each step."""
    if isinstance(duration, _RooflineDurations) and not any(op.moves_message for op in ops):
        return duration.of_step(ops)
    return lambda step: np.array([duration(op, step) for op in ops])


class _KnownWork(NamedTuple):
    """Kind of the work of an operation: all from which its durations follow, in steps of any size."""

    op: Op
    compute: Compute
    kind: int | None  # number of the kind of its work; None: it has none
    starts_kernel: bool


class _RooflineDurations:
    """Durations of operations. Work and sizes of messages, many alike, are kept until a step of another size asks."""

    def __init__(self, computes: Sequence[Compute], costs: Costs) -> None:
        self._computes = computes
        self._costs = costs
        self._size = (0, 0)  # rows and past
        self._layers = costs.shape.precision.layers
        self._kinds: dict[tuple[object, ...], int] = {}  # numbers of kinds of work, by all that it follows from
        self._works: dict[int, Work] = {}  # by kind
        self._known: dict[int, _KnownWork] = {}  # by number of an operation: of the last program
        self._message_bytes: dict[tuple[object, ...], int] = {}  # by what says of what shape a result is

    def __call__(self, op: Op, step: Step) -> float:
        _, _, rows, past = step
        if self._size != (rows, past):
            if self._size[0] != rows:
                self._message_bytes.clear()
            self._size = rows, past
            self._works.clear()
        known = self._known.get(op.index)
        if known is None or known[0] is not op:
            known = self._known[op.index] = self._know(op)
        _, compute, kind, starts_kernel = known
        if kind is None:
            return compute.message_s + compute.byte_s * self._bytes_of(op, rows) if op.moves_message else 0.0
        work = self._works.get(kind)
        if work is None:
            work = self._works[kind] = op_work(op, rows, past, self._costs)
        taken_s = roofline_s(compute, work)
        return taken_s if starts_kernel else taken_s - compute.overhead_s

    def of_step(self, ops: Sequence[Op]) -> StepDurations:
        """Durations of operations that move no message, by the same sums in arrays."""
        known = [self._know(op) for op in ops]
        computes = [(each.compute.flops_per_s, each.compute.mem_bytes_per_s, each.compute.overhead_s) for each in known]
        flops_per_s, mem_bytes_per_s, overhead_s = np.array(computes, np.float64).T  # [n_ops] each
        starts_kernel = np.array([each.starts_kernel for each in known], np.bool_)
        one = {kind: op for kind, op in zip((each.kind for each in known), ops, strict=True) if kind is not None}
        numbers: dict[int | None, int] = {kind: number for number, kind in enumerate(one)}
        computing = np.array([each.kind in numbers for each in known], np.bool_)
        which = np.array([numbers.get(each.kind, 0) for each in known], np.int64)

        def durations_s(step: Step) -> NDArray[np.float64]:
            works = [op_work(op, step.rows, step.past, self._costs) for op in one.values()]
            flops, bytes_read = np.array(works, np.float64)[which].T
            taken_s = np.maximum(flops / flops_per_s, bytes_read / mem_bytes_per_s) + overhead_s
            return np.where(computing, np.where(starts_kernel, taken_s, taken_s - overhead_s), 0.0)

        return durations_s

    def _know(self, op: Op) -> _KnownWork:
        """Find out once what kind of work an operation is, as long as its program runs."""
        key: tuple[object, ...]
        if not isinstance(op.kind, Kind) or op.chunk.of > 1 or (op.groups and op.kind is not Kind.HEAD):
            key = work_key(op, self._costs)
        else:
            key = op.kind, op.emits.kind, len(op.groups), self._layers and self._layers[op.layer]
        kind = self._kinds.setdefault(key, len(self._kinds)) if op.computes else None
        return _KnownWork(op, self._computes[op.device], kind, op.starts_kernel)

    def _bytes_of(self, op: Op, rows: int) -> int:
        key = message_key(op, last=sends_last_row(op, self._costs))
        size = self._message_bytes.get(key)
        if size is None:
            size = self._message_bytes[key] = message_bytes(op, rows, self._costs)
        return size
