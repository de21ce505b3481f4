"""Wiring of a program: where its results go, and which operations wait for them. Made once for all steps."""

from edgeemu.placement.blocks import Kind
from edgeemu.placement.program import Op, Program
from edgeemu.timeline.steps import Step

_NEVER = 1 << 60  # inputs of an operation that no step of so many rows has


class Wiring:
    """Connections of the operations of a program, and how many inputs each waits for, by its place in the program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        waiting = program.consumers
        # Of each operation: the devices that its result goes to, each with the operations there that wait for it.
        self.consumers: list[list[tuple[int, tuple[Op, ...]]]] = [
            [(target, tuple(waiting.get((target, op.emits), ()))) for target in op.to] for op in program.ops
        ]
        numbers: dict[tuple[object, ...], int] = {}
        # Operations of one number send messages of one size in a step.
        self.message_kinds = [
            numbers.setdefault((op.emits.kind, op.emits.layer, len(op.groups), op.chunk, op.columns), len(numbers))
            for op in program.ops
        ]
        self._missing: dict[tuple[bool, int], list[int]] = {}

    def embed(self, step: Step) -> Op:
        """Return the operation that a step of so many rows begins with."""
        return next(op for op in self.program.ops if op.kind is Kind.EMBED and op.steps.has(step.rows))

    def missing(self, step: Step) -> list[int]:
        """Number of inputs of each operation in a step: [n_ops]. Not to be changed."""
        size = step.step == 0, step.rows
        found = self._missing.get(size)
        if found is None:
            self._missing = {
                size: [len(op.inputs(step.step)) if op.steps.has(step.rows) else _NEVER for op in self.program.ops]
            }
            found = self._missing[size]
        return found
