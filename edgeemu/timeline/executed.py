"""Executed operations as columns: what the simulator notes of a step, and what records and estimates are made of."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.operation_costs import message_key
from edgeemu.placement.program import GATHERED_KINDS, MessageKind, Op
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.columns import table
from edgeemu.timeline.steps import OperationRecord, Step

Instants = NDArray[np.float64]
# Place in the program; instants at which it became ready, started, ended; place of the sender of its last input.
Executed = tuple[int, float, float, float, int]


class Alike(NamedTuple):
    """Operations in kinds: those of one kind are equal in what it is made for."""

    kinds: list[Op]  # one operation of each kind
    which: IntArray  # [n_ops] each operation's kind


class OpColumns:
    """Operations of a program by column, [n_ops] each."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops = ops
        self.index = np.array([op.index for op in ops], np.int64)  # in their programs
        self.device = np.array([op.device for op in ops], np.int64)
        self.layer = np.array([op.layer for op in ops], np.int64)
        self.groups = np.array([len(op.groups) for op in ops], np.int64)  # number of them
        self.chunks = np.array([op.chunk.of for op in ops], np.int64)  # that the step's rows are divided into
        self.gathered = np.array([op.emits.kind in GATHERED_KINDS for op in ops], np.bool_)  # a part of a block's work
        kinds = {op.kind: str(op.kind) for op in ops}
        self.kinds = list(kinds.values())  # names
        codes = {kind: code for code, kind in enumerate(kinds)}
        self.kind = np.array([codes[op.kind] for op in ops], np.int64)  # index of `kinds`

    @cached_property
    def messages(self) -> Alike:
        """Operations that send messages of one size in any step, as one kind."""
        numbers: dict[tuple[object, ...], int] = {}
        highest: dict[MessageKind, int] = {}  # layer of a result of each kind: no other can be the last
        for op in self.ops:
            highest[op.emits.kind] = max(op.emits.layer, highest.get(op.emits.kind, 0))
        keys = (message_key(op, last=op.emits.layer == highest[op.emits.kind]) for op in self.ops)
        which = [numbers.setdefault(key, len(numbers)) for key in keys]
        first = dict(zip(reversed(which), reversed(self.ops), strict=True))  # the last assignment of a kind counts
        return Alike([first[kind] for kind in range(len(numbers))], np.array(which, np.int64))


class ExecutedOps(Sequence[OperationRecord]):
    """Operations that were executed, in the order of their starts; a record is made when it is asked for."""

    def __init__(
        self,
        about: OpColumns,
        place: IntArray,
        steps: Sequence[Step],
        which_step: IntArray,
        times: Iterable[Instants],
        last: IntArray,
    ) -> None:
        """Keep columns of [n_executed] each.

        `place`: in `about`. `which_step`: index of `steps`. `times`: ready, start and end. `last`: place of the
        operation whose result arrived last, -1 where it is the step's release by the controller.
        """
        self.about = about
        self.place = place
        self.steps = steps
        self.which_step = which_step
        self.ready_s, self.start_s, self.end_s = times
        self.last = last

    @classmethod
    def of_step(cls, about: OpColumns, step: Step, executed: Iterable[Executed]) -> Self:
        """Make those of one step, by their place in its program."""
        place, *times, last = table(executed, 5)
        which_step = np.zeros(len(place), np.int64)
        return cls(about, place.astype(np.int64), [step], which_step, times, last.astype(np.int64))

    @classmethod
    def of(cls, records: Sequence[OperationRecord]) -> Self:
        """Make those of any steps and programs."""
        places = {step: place for place, step in enumerate(dict.fromkeys(record.step for record in records))}
        which_step = np.array([places[record.step] for record in records], np.int64)
        times = table([record.time for record in records], 3)
        senders = [record.last for record in records if record.last is not None]
        about = OpColumns([*(record.op for record in records), *senders])
        last = np.full(len(records), -1)
        last[[record.last is not None for record in records]] = len(records) + np.arange(len(senders))
        return cls(about, np.arange(len(records)), list(places), which_step, times, last)

    def in_order_of(self, step: Step, indices: IntArray) -> Self:
        """Make those of one step in another order, by their indices: its last of each, as some may be of a step before.

        Args:
            step: the step that they are of.
            indices: of operations in the program, [n].
        """
        index = self.about.index[self.place]
        at = np.full(max(index.max(), indices.max(), -1) + 1, len(index))  # one that is missing is out of range
        at[index] = np.arange(len(index))  # the last assignment of an index counts
        which = at[indices]
        times = self.ready_s[which], self.start_s[which], self.end_s[which]
        which_step = np.zeros(len(which), np.int64)
        return type(self)(self.about, self.place[which], [step], which_step, times, self.last[which])

    def __len__(self) -> int:
        return len(self.place)

    def __iter__(self) -> Iterator[OperationRecord]:
        columns = self.place, self.which_step, self.ready_s, self.start_s, self.end_s, self.last
        ops, steps = self.about.ops, self.steps
        for place, which, *time, last in zip(*(column.tolist() for column in columns), strict=True):
            yield OperationRecord(ops[place], steps[which], Occupation(*time), last=None if last < 0 else ops[last])

    @overload
    def __getitem__(self, at: int) -> OperationRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[OperationRecord]: ...
    def __getitem__(self, at: int | slice) -> OperationRecord | list[OperationRecord]:
        return list(self)[at]
