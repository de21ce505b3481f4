"""Which operation may run: inputs in, ready operations out. Pure state; no kernels, no sockets, no clock."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Kind
from edgeemu.placement.program import ANY_ROWS, Op, Slot

_HISTORY = 16
_EMBED = Kind.EMBED


class DataflowError(EdgeemuError):
    """A message that no operation here waits for: of another epoch, a duplicate, or with a wrong address."""


class StepKey(NamedTuple):
    sequence: int
    step: int


class Input(msgspec.Struct, eq=False, weakref=True):
    """One arrived payload, shared by the operations that need it; `waiting` counts those that have not run yet."""

    arrival_s: float
    position: int
    payload: NDArray[np.generic]
    waiting: int = 0
    rows: int = 0  # of the step, of which the payload may have some


class ReadyOp(msgspec.Struct, eq=False):
    """An operation with all its inputs, in the order of their slots."""

    op: Op
    key: StepKey
    slots: tuple[Slot, ...]
    inputs: list[Input]
    ready_s: float  # when the last of them arrived

    @property
    def last_input(self) -> int:
        """Number of the input that arrived last."""
        inputs = self.inputs
        if len(inputs) == 1:
            return 0
        return next(number for number, each in enumerate(inputs) if each.arrival_s == self.ready_s)


class _StepState(msgspec.Struct, eq=False):
    """Progress of one step on the device."""

    left: int  # operations that have not run
    inputs: dict[Slot, Input | None] = {}  # that have arrived; None: no operation needs it any more
    lacking: dict[int, int] = {}  # inputs that are still to come, by the operation's index, of those that have some


class Dataflow:
    """The operations of a device, and the steps that are under way in them."""

    def __init__(self) -> None:
        self.epoch = -1
        self._ops: list[Op] = []
        self._consumers: Mapping[Slot, Sequence[tuple[Op, tuple[Slot, ...]]]] = {}  # with all that each waits for
        self._divides_steps = False  # whether some operations belong to steps of some sizes only
        self._steps: dict[StepKey, _StepState] = {}
        self._finished: dict[int, int] = {}  # sequence -> its last step that is finished here, of this epoch
        self._halted_epoch = -1  # steps of earlier epochs were given up
        self._history: deque[str | tuple[StepKey, Slot]] = deque(maxlen=_HISTORY)  # a pair: that step received that

    def install(self, epoch: int, ops: Sequence[Op]) -> None:
        """Installs the operations of a new epoch.

        Raises:
            DataflowError: the epoch is not newer, or steps of the old one are still under way.
        """
        if epoch <= self.epoch or self._steps:
            raise self._error(f"epoch {epoch} cannot follow epoch {self.epoch} with {len(self._steps)} steps under way")
        self.epoch = epoch
        self._finished.clear()
        self._ops = list(ops)
        consumers: dict[Slot, list[tuple[Op, tuple[Slot, ...]]]] = defaultdict(list)
        for op in ops:
            for slot in op.needs:
                consumers[slot].append((op, (slot,) if op.kind is _EMBED else op.needs))
        self._consumers = dict(consumers)
        self._divides_steps = any(op.steps != ANY_ROWS for op in ops)
        self._history.append(f"installed epoch {epoch} with {len(ops)} operations")

    def halt(self, epoch: int) -> int:
        """Gives up all steps; the operations stay, in a new epoch. Returns the bytes of inputs that are dropped.

        Raises:
            DataflowError: the epoch is not newer.
        """
        if epoch <= self.epoch:
            raise self._error(f"epoch {epoch} cannot follow epoch {self.epoch}")
        arrived = (each for step in self._steps.values() for each in step.inputs.values())
        dropped_bytes = sum([each.payload.nbytes for each in arrived if each is not None])
        self._history.append(f"halted before epoch {epoch} with {len(self._steps)} steps under way")
        self.epoch = self._halted_epoch = epoch
        self._steps.clear()
        self._finished.clear()
        return dropped_bytes

    def is_given_up(self, epoch: int) -> bool:
        """Whether what arrives of an epoch belongs to steps that were given up."""
        return epoch < self._halted_epoch

    def deliver(self, epoch: int, key: StepKey, slot: Slot, arrived: Input) -> list[ReadyOp]:
        """Takes one input; returns the operations that it completes.

        Raises:
            DataflowError: with the history that led there.
        """
        if epoch != self.epoch:
            raise self._error(f"{slot} of {key} is of epoch {epoch}, but epoch {self.epoch} is installed")
        last = self._finished.get(key.sequence)
        if last is not None and key.step <= last:
            raise self._error(f"{slot} of {key} has arrived, but that step is finished")
        rows = arrived.rows
        consumers = self._consumers.get(slot, ())
        if self._divides_steps:
            consumers = [each for each in consumers if each[0].steps.has(rows)]
        if not consumers:
            raise self._error(f"nothing here waits for {slot} of {key}")
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = _StepState(left=sum([op.runs_in(key.step, rows) for op in self._ops]))
        inputs, lacking = step.inputs, step.lacking
        if slot in inputs:
            raise self._error(f"{slot} of {key} has arrived twice")
        inputs[slot] = arrived
        self._history.append((key, slot))  # made a sentence only if something goes wrong
        ready = []
        for op, needs in consumers:
            if op.kind is _EMBED and slot not in op.inputs(key.step):
                raise self._error(f"{op.kind} does not take {slot} in step {key.step}")
            arrived.waiting += 1
            if len(needs) == 1:
                ready.append(ReadyOp(op, key, needs, [arrived], arrived.arrival_s))
            elif left := lacking.get(op.index, len(needs)) - 1:
                lacking[op.index] = left
            else:
                lacking.pop(op.index, None)
                taken = [each for need in needs if (each := inputs[need])]
                ready.append(ReadyOp(op, key, needs, taken, max([each.arrival_s for each in taken])))
        return ready

    def finish(self, ready: ReadyOp) -> tuple[list[Input], bool]:
        """Marks an operation as run. Returns inputs that are not needed any more, and whether the step is finished."""
        step = self._steps.get(ready.key)
        if step is None:
            raise self._error(f"{ready.op.kind} of {ready.key} has run, but no such step is under way")
        freed = []
        for slot, arrived in zip(ready.slots, ready.inputs, strict=True):
            arrived.waiting -= 1
            if not arrived.waiting:
                freed.append(arrived)
                step.inputs[slot] = None
        step.left -= 1
        if step.left:
            return freed, False
        del self._steps[ready.key]
        self._finished[ready.key.sequence] = ready.key.step
        return freed, True

    def forget(self, sequence: int) -> None:
        """Forgets a sequence that has ended; its number may be used again."""
        self._finished.pop(sequence, None)

    def check_epoch(self, epoch: int) -> None:
        """Raises: DataflowError, for any epoch but the installed one."""
        if epoch != self.epoch:
            raise self._error(f"a message of epoch {epoch} has arrived, but epoch {self.epoch} is installed")

    def only(self, kind: Kind) -> Op:
        """Returns the operation of a kind that a model has once (embed, lm_head).

        Raises:
            DataflowError: it is not here.
        """
        for op in self._ops:
            if op.kind is kind:
                return op
        raise self._error(f"{kind} is not here")

    def _error(self, what: str) -> DataflowError:
        before = (each if isinstance(each, str) else f"{each[0]} received {each[1]}" for each in self._history)
        return DataflowError(f"{what}. Before that: {'; '.join(before) or 'nothing'}")
