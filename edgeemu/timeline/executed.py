"""Executed operations as columns: what the simulator notes of a step, and what records and estimates are made of."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.program import Op
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.columns import table
from edgeemu.timeline.steps import OperationRecord, Step

Executed = tuple[int, float, float, float]  # place in the program; instants at which it became ready, started, ended


class OpColumns:
    """Operations of a program by column, [n_ops] each."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops = ops
        self.device = np.array([op.device for op in ops], np.int64)
        self.layer = np.array([op.layer for op in ops], np.int64)
        self.groups = np.array([len(op.groups) for op in ops], np.int64)  # number of them
        kinds = {op.kind: str(op.kind) for op in ops}
        self.kinds = list(kinds.values())  # names
        codes = {kind: code for code, kind in enumerate(kinds)}
        self.kind = np.array([codes[op.kind] for op in ops], np.int64)  # index of `kinds`


class ExecutedStep(Sequence[OperationRecord]):
    """Operations of one step that were executed, in the order of their starts; a record is made when it is asked for."""

    def __init__(self, about: OpColumns, step: Step, executed: Sequence[Executed]) -> None:
        self.about = about
        self.step = step
        place, self.ready_s, self.start_s, self.end_s = table(executed, 4)  # [n_executed] each
        self.place: IntArray = place.astype(np.int64)  # in the program

    def __len__(self) -> int:
        return len(self.place)

    def __iter__(self) -> Iterator[OperationRecord]:
        columns: tuple[NDArray[np.float64], ...] = self.ready_s, self.start_s, self.end_s
        ops, step = self.about.ops, self.step
        for place, *time in zip(self.place.tolist(), *(column.tolist() for column in columns), strict=True):
            yield OperationRecord(ops[place], step, Occupation(*time))

    @overload
    def __getitem__(self, at: int) -> OperationRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[OperationRecord]: ...
    def __getitem__(self, at: int | slice) -> OperationRecord | list[OperationRecord]:
        return list(self)[at]
