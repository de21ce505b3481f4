"""Bytes that a step holds on each device: its messages, and the rows that it adds to caches. No devices, no time.

Messages count from the first operation that needs them to the last, in the order of the program. Which of them arrives
first on a host's processes is the host's affair, and is in no figure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.program import MessageKind, Op, Program, Slot

_ID_BYTES = 8
_FIRST_STEP = 0  # the last step that begins with ids from the controller


@dataclass(slots=True)
class StepPeaks:
    """Most bytes that steps of a program hold at once, by device; computed once for each number of rows."""

    costs: Costs
    n_devices: int
    _program: Program | None = None
    _known: dict[tuple[int, bool], IntArray] = field(default_factory=dict)

    def of(self, program: Program, step: int, rows: int) -> IntArray:
        """Most bytes of a step with so many rows, [n_devices]."""
        if program is not self._program:
            self._program, self._known = program, {}
        key = rows, step > _FIRST_STEP
        if key not in self._known:
            self._known[key] = self._peaks(program, step, rows)
        return self._known[key]

    def _peaks(self, program: Program, step: int, rows: int) -> IntArray:
        """Add what comes, and take off what goes, along the program's order; of the same instant, what goes first."""
        changes: list[list[tuple[int, int]]] = [[] for _ in range(self.n_devices)]  # instant and bytes, by device
        for device, begin, end, size_bytes in _held(program, step, rows, self.costs):
            changes[device] += [(begin, size_bytes), (end, -size_bytes)]
        return np.array(
            [max(accumulate(size for _, size in sorted(each)), default=0) for each in changes], dtype=np.int64
        )


def _held(program: Program, step: int, rows: int, costs: Costs) -> Iterator[tuple[int, int, int, int]]:
    """Device, first and end instant, and bytes. An operation begins at twice its index, and has ended one later."""
    ops = [op for op in program.ops if op.runs_in(step, rows)]
    senders = {(target, op.emits): op for op in ops for target in op.to}
    uses: dict[tuple[int, Slot], list[int]] = {}
    for op in ops:
        for slot in op.inputs(step):
            uses.setdefault((op.device, slot), []).append(op.index)
    for (device, slot), indices in uses.items():
        sender = senders.get((device, slot))
        is_own = sender is not None and sender.device == device and slot.kind is not MessageKind.TOKEN
        begin = 2 * sender.index + 1 if sender is not None and is_own else 2 * indices[0]  # a token is of the last step
        yield device, begin, 2 * indices[-1] + 1, _payload_bytes(sender, rows, costs)
    end = 2 * program.ops[-1].index + 2
    for op in ops:
        if op.emits.kind is MessageKind.ATTENTION and op.computes:
            yield op.device, 2 * op.index, end, rows * len(op.groups) * costs.kv_bytes(1)


def _payload_bytes(sender: Op | None, rows: int, costs: Costs) -> int:
    """Bytes of a message without its header; no operation sends ids."""
    if sender is None:
        return rows * _ID_BYTES
    return message_bytes(sender, rows, costs) - MESSAGE_HEADER_BYTES
