"""Work of a program's operations and bytes of their results in a step, computed once for all that are alike. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray
from edgeemu.placement.blocks import Kind
from edgeemu.placement.costs import Costs
from edgeemu.placement.operation_costs import message_bytes, op_work, work_key
from edgeemu.placement.program import Collective, Op, Program
from edgeemu.placement.work import Work
from edgeemu.timeline.executed import ExecutedOps, OpColumns

ATTENDING = (Kind.HEAD, Collective.ATTEND)  # to what is cached


class KnownKinds:
    """Kinds of operations: those of one kind have the same work in any step, whatever their program."""

    def __init__(self, costs: Costs) -> None:
        self.ops: list[Op] = []  # one operation of each kind
        self._costs, self._numbers = costs, dict[object, int]()
        self._computes, self._starts_kernel = np.empty((2, 0), np.bool_)  # [n_known] each, of the first kinds
        self._by_rows: dict[int, NDArray[np.float64]] = {}  # [2, n_known, 2] as `table` says
        self._past = -1  # of the step for which they are, where works are others at every step

    def number(self, key: object, op: Op) -> int:
        """Number of the kind with a key; where there is none yet, an operation is its first."""
        number = self._numbers.setdefault(key, len(self.ops))
        if number == len(self.ops):
            self.ops.append(op)
        return number

    @property
    def computes(self) -> NDArray[np.bool_]:
        """Whether kinds compute: [n_kinds]."""
        self._know()
        return self._computes

    @property
    def starts_kernel(self) -> NDArray[np.bool_]:
        """Whether kinds cost a device's fixed time: [n_kinds]."""
        self._know()
        return self._starts_kernel

    def table(self, rows: int, past: int) -> NDArray[np.float64]:
        """Operations and bytes with nothing cached, and what a position adds; NaN: not known yet. [2, n_kinds, 2].

        Where works are others at every step they are those of this one, to which a position adds nothing.
        """
        if not self._costs.of_every_step and self._past != past:
            self._past = past
            self._by_rows.clear()
        self._know()
        table = self._by_rows.get(rows)
        if table is None:
            table = self._by_rows[rows] = np.full((2, len(self._computes), 2), np.nan)
        return table

    def works(self, which: IntArray, rows: int, past: int) -> NDArray[np.float64]:
        """Operations and bytes of kinds in a step: [m] -> [m, 2]."""
        table = self.table(rows, past)
        first, more = table.take(which, 1)  # [m, 2] each
        new = np.isnan(first[:, 0])
        if new.any():  # others may need more rows
            for kind in set(which[new].tolist()):
                table[:, kind] = self._affine(self.ops[kind], rows, past)
            first, more = table[:, which]
        works: NDArray[np.float64] = first + past * more
        return works

    def _affine(self, op: Op, rows: int, past: int) -> tuple[Sequence[float], Sequence[float]]:
        """Work of an operation with nothing cached, and what each position adds, as `table` says: whole numbers."""
        if not self._costs.of_every_step:
            return op_work(op, rows, past, self._costs), (0.0, 0.0)
        none = op_work(op, rows, 0, self._costs)
        if op.kind not in ATTENDING:
            return none, (0.0, 0.0)
        one = op_work(op, rows, 1, self._costs)
        return none, (one.flops - none.flops, one.bytes_read - none.bytes_read)

    def _know(self) -> None:
        """Make room for the kinds that are new: they come after those that are known."""
        new = self.ops[len(self._computes) :]
        if new:
            self._computes = np.append(self._computes, [op.computes for op in new])
            self._starts_kernel = np.append(self._starts_kernel, [op.starts_kernel for op in new])
            none = np.full((2, len(new), 2), np.nan)
            self._by_rows = {rows: np.concatenate([table, none], axis=1) for rows, table in self._by_rows.items()}


@lru_cache(maxsize=2)
def _known_kinds(costs: Costs) -> KnownKinds:
    """The kinds that programs of a model have had so far: most of a program's are those of the one before."""
    return KnownKinds(costs)


@lru_cache(maxsize=4)
def work_kinds(about: OpColumns, costs: Costs) -> "WorkKinds":
    """The kinds of a program's operations, made once for all who ask: `about` is known by its identity."""
    return WorkKinds(about, costs)


class WorkKinds:
    """Operations of a program that were executed, in kinds.

    Most operations of a divided placement are for prompts, and are not looked at before they are executed.
    """

    def __init__(self, about: OpColumns, costs: Costs) -> None:
        self.known = _known_kinds(costs)
        self._ops, self._costs = about.ops, costs
        self._plain, self._codes = _plain(about), self._plain_codes(about)  # [n_ops] each
        self.by_op: IntArray = np.full(len(self._ops), -1)  # [n_ops] each operation's kind; -1: not executed yet

    def which(self, at: IntArray) -> IntArray:
        """Kinds of the operations at some places: [m] -> [m]."""
        found: IntArray = self.by_op[at]
        if found.min(initial=0) < 0:
            self._tell_apart(_occurring(at[found < 0]))
            found = self.by_op[at]
        return found

    def number(self, at: int) -> int:
        """Kind of the operation at a place."""
        found = int(self.by_op[at])
        return found if found >= 0 else int(self.which(np.array([at]))[0])

    def _tell_apart(self, new: IntArray) -> None:
        """Find the kinds of operations that were not executed before: [n_new]."""
        plain, others = new[self._plain[new]], new[~self._plain[new]]
        _, first, of_plain = np.unique(self._codes[plain], return_index=True, return_inverse=True)
        kinds = [self._number(self._plain_key(self._ops[at]), at) for at in plain[first].tolist()]
        self.by_op[plain] = np.array(kinds, np.int64)[of_plain]
        self.by_op[others] = [self._number(work_key(self._ops[at], self._costs), at) for at in others.tolist()]

    def _number(self, key: object, at: int) -> int:
        return self.known.number(key, self._ops[at])

    def _plain_key(self, op: Op) -> tuple[object, ...]:
        """Key of an operation that is an undivided block."""
        layers = self._costs.shape.precision.layers
        return "whole", op.kind, len(op.groups), layers and layers[op.layer]

    def _plain_codes(self, about: OpColumns) -> IntArray:
        """Codes of operations that are undivided blocks, equal for those with one key: [n_ops]."""
        layers, number = self._costs.shape.precision.layers, dict[object, int]()  # of formats
        formats = np.array([number.setdefault(each, len(number)) for each in layers or (None,)])  # by layer
        of_layer = formats[about.layer] if layers else 0  # [n_ops]
        codes: IntArray = (about.kind * (1 + about.groups.max(initial=0)) + about.groups) * len(formats) + of_layer
        return codes


def _occurring(codes: IntArray) -> IntArray:
    """Return the codes that occur, which ascend; `np.unique` sorts all of them."""
    return np.flatnonzero(np.bincount(codes))


def _plain(about: OpColumns) -> NDArray[np.bool_]:
    """Whether operations are undivided blocks, whose work follows from kind, groups and format alone: [n_ops]."""
    blocks = np.array([kind in set(Kind) for kind in about.kinds], np.bool_)  # by code of a kind
    heads = np.array([kind == Kind.HEAD for kind in about.kinds], np.bool_)
    whole = (about.chunks == 1) & ~about.gathered  # [n_ops]
    plain: NDArray[np.bool_] = blocks[about.kind] & whole & ((about.groups == 0) | heads[about.kind])
    return plain


class SizeColumns(NamedTuple):
    """Columns of executed operations: [n_executed] each."""

    last_op: IntArray  # number of the operation whose result arrived last; -1: the step's release
    last_bytes: IntArray  # of the message with that result; 0: it was on the device
    flops: NDArray[np.float64]
    bytes_read: NDArray[np.float64]


class OperationSizes:
    """Work and results of the operations of one program, in steps of any size."""

    def __init__(self, about: OpColumns, costs: Costs) -> None:
        self.about = about
        self._costs = costs
        self._works, self._messages = work_kinds(about, costs), about.messages
        self._size = (-1, -1)  # rows and past of the step for which the next two are
        self._work: dict[int, Work] = {}  # by kind
        self._bytes: dict[int, int] = {}  # by kind

    def columns(self, executed: ExecutedOps) -> SizeColumns:
        """Return the sizes of operations of this program that were executed."""
        about, n = executed.about, len(executed)
        works, sent_bytes = np.empty((2, n)), np.zeros(n, np.int64)
        last, place = executed.last, executed.place
        sent = (last >= 0) & (about.device[last] != about.device[place])  # [n] from device to device
        for number, step in enumerate(executed.steps):
            size, mine = (step.rows, step.past), executed.which_step == number
            which = self._works.which(place[mine])
            works[:, mine] = self._works.known.works(which, *size).T
            mine &= sent
            which = self._messages.which[last[mine]]
            kinds, size_bytes = _occurring(which), np.empty(len(self._messages.kinds), np.int64)
            size_bytes[kinds] = [self._bytes_of(kind, *size) for kind in kinds.tolist()]
            sent_bytes[mine] = size_bytes[which]
        return SizeColumns(np.where(last < 0, -1, about.index[last]), sent_bytes, *works)

    def work(self, place: int, rows: int, past: int) -> Work:
        """Return the work of one operation in a step."""
        return self._work_of(self._works.number(place), rows, past)

    def result_bytes(self, place: int, rows: int, past: int) -> int:
        """Return bytes of the message with one operation's result in a step, header included."""
        return self._bytes_of(int(self._messages.which[place]), rows, past)

    def _work_of(self, kind: int, rows: int, past: int) -> Work:
        self._of_size(rows, past)
        found = self._work.get(kind)
        if found is None:
            found = self._work[kind] = op_work(self._works.known.ops[kind], rows, past, self._costs)
        return found

    def _bytes_of(self, kind: int, rows: int, past: int) -> int:
        self._of_size(rows, past)
        found = self._bytes.get(kind)
        if found is None:
            costs = self._costs.at_step(rows, past)
            found = self._bytes[kind] = message_bytes(self._messages.kinds[kind], rows, costs)
        return found

    def _of_size(self, rows: int, past: int) -> None:
        if self._size != (rows, past):
            self._size = rows, past
            self._work.clear()
            self._bytes.clear()


class ProgramSizes:
    """Sizes of the operations of whatever program is asked for; those of the last are kept."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._last: OperationSizes | None = None

    def of_program(self, program: Program) -> OperationSizes:
        """Return the sizes of a program's operations."""
        if self._last is None or self._last.about.ops is not program.ops:
            self._last = OperationSizes(OpColumns(program.ops), self._costs)
        return self._last

    def of(self, about: OpColumns) -> OperationSizes:
        """Return the sizes of a program's operations, given as columns."""
        if self._last is None or self._last.about is not about:
            self._last = OperationSizes(about, self._costs)
        return self._last
