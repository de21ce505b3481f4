"""Wiring of a program: where its results go, and which operations wait for them. Made once for all steps."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgeemu.placement.blocks import Kind
from edgeemu.placement.program import Collective, Op, Program
from edgeemu.timeline.executed import OpColumns
from edgeemu.timeline.network import BookedConnection
from edgeemu.timeline.steps import Step

_NEVER = 1 << 60  # inputs of an operation that no step of so many rows has


class Delivery(NamedTuple):
    """Delivery of a result to one device: the connection to it (None: it is there), and the operations that wait."""

    connection: BookedConnection | None
    waiting: Sequence[int]  # their places in the program


class Wiring:
    """Connections of the operations of a program, and how many inputs each waits for, by its place in the program."""

    def __init__(self, program: Program, connect: Callable[[int, int], BookedConnection]) -> None:
        """`connect` returns the connection from one device to another."""
        self.program = program
        self.columns = OpColumns(program.ops)
        self.devices = [op.device for op in program.ops]
        self.sends = [op.kind is Collective.SEND for op in program.ops]
        self.lm_head = next((op.index for op in program.ops if op.kind is Kind.LM_HEAD), -1)  # -1: it only fills caches
        waiting = program.consumers

        def delivery(op: Op, target: int) -> Delivery:
            connection = None if target == op.device else connect(op.device, target)
            return Delivery(connection, [consumer.index for consumer in waiting.get((target, op.emits), ())])

        self.deliveries = [[delivery(op, target) for target in op.to] for op in program.ops]
        self.slots = [(int(op.emits.kind), op.emits.place) for op in program.ops]  # they name messages
        self.message_kinds = self.columns.messages.which.tolist()  # of one size in a step
        self._missing: dict[tuple[bool, int], list[int]] = {}

    def embed(self, step: Step) -> int:
        """Return the place of the operation that a step of so many rows begins with."""
        return next(op.index for op in self.program.ops if op.kind is Kind.EMBED and op.steps.has(step.rows))

    def count(self, step: Step) -> int:
        """Return the number of operations that a step has."""
        return sum(number < _NEVER for number in self.missing(step))

    def missing(self, step: Step) -> list[int]:
        """Number of inputs of each operation in a step: [n_ops]. Not to be changed."""
        size = step.enters_at_embedding, step.rows
        found = self._missing.get(size)
        if found is None:
            self._missing = {
                size: [len(op.inputs(step.step)) if op.steps.has(step.rows) else _NEVER for op in self.program.ops]
            }
            found = self._missing[size]
        return found
