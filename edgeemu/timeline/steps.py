"""Steps, and records of their operations."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes, message_key, op_work, work_key
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


class _RooflineDurations:
    """Durations of operations. Work and sizes of messages, many alike, are kept until a step of another size asks."""

    def __init__(self, computes: Sequence[Compute], costs: Costs) -> None:
        self._computes = computes
        self._costs = costs
        self._size = (0, 0)  # rows and past
        self._layers = costs.shape.precision.layers
        self._works: dict[tuple[object, ...], Work] = {}  # by all that it follows from
        self._keys: dict[int, tuple[Op, tuple[object, ...]]] = {}  # by number of an operation: of the last program
        self._message_bytes: dict[tuple[object, ...], int] = {}  # by what says of what shape a result is

    def __call__(self, op: Op, step: Step) -> float:
        rows, past = step.rows, step.past
        compute, kind = self._computes[op.device], op.kind
        if self._size != (rows, past):
            if self._size[0] != rows:
                self._message_bytes.clear()
            self._size = rows, past
            self._works.clear()
        if op.moves_message:
            return compute.message_s + compute.byte_s * self._bytes_of(op, rows)
        key: tuple[object, ...]
        if not isinstance(kind, Kind) or op.chunk.of > 1 or (op.groups and kind is not Kind.HEAD):
            if not op.computes:
                return 0.0
            key = self._key_of(op)
            work = self._works.get(key)
            if work is None:
                work = self._works[key] = op_work(op, rows, past, self._costs)
            taken_s = roofline_s(compute, work)
            return taken_s if op.starts_kernel else taken_s - compute.overhead_s
        key = kind, op.emits.kind, len(op.groups), self._layers and self._layers[op.layer]
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = op_work(op, rows, past, self._costs)
        return roofline_s(compute, work)

    def _key_of(self, op: Op) -> tuple[object, ...]:
        """Key of the work of an operation of a divided layer, made once as long as its program runs."""
        known = self._keys.get(op.index)
        if known is None or known[0] is not op:
            known = self._keys[op.index] = op, work_key(op, self._costs)
        return known[1]

    def _bytes_of(self, op: Op, rows: int) -> int:
        key = message_key(op)
        size = self._message_bytes.get(key)
        if size is None:
            size = self._message_bytes[key] = message_bytes(op, rows, self._costs)
        return size
