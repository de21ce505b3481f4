"""Program: operations and the messages between them, compiled from a placement. Knows no sizes, no data.

The same program drives the devices and the simulator, so both execute the same dataflow.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cached_property
from typing import NamedTuple

from edgeemu.placement.blocks import Kind


class MessageKind(IntEnum):
    """Kind of a message. The `layer` of a message says where in the model.

    In collectives `layer` counts boundaries, of which a layer has two: 2 l after its projection, 2 l + 1 after its
    feed-forward. The last four are of `gather`.
    """

    PROMPT = 0  # ids from the controller to the embedding
    TOKEN = 1  # sampled id, from the output matrix back to the embedding
    HIDDEN = 2  # x into layer l, to its groups and its projection; l = n_layers is the output matrix
    ATTENTION = 3  # the outputs of one device's groups of layer l, to the projection
    RESIDUAL = 4  # x after attention of layer l, to the feed-forward block
    SHIPMENT = 5  # chunk of a block that migrates
    PARTIAL = 6  # partial sum of one device's shards: all rows (part 0), or only chunk c (part c + 1)
    REDUCE = 7  # chunk `part` of a sum in transit round the ring, with the terms of the devices so far
    ROWS = 8  # chunk `part` of x after a boundary; its device adds it to the next sum
    NORMED = 9  # chunk `part` of x after a boundary, standardized, for all devices that multiply it
    QKV = 10  # queries, keys and values of chunk `part` of layer l, waiting for those of the other chunks
    PROBE = 11  # padding, to measure links
    PROJECTED = 12  # queries, keys and values of one device's groups of layer l, to the device that attends
    INNER = 13  # the feed-forward's inner columns of one device's units of layer l
    LACKING = 14  # the inner columns of layer l that device `part` lacks
    COLUMNS = 15  # one device's columns of the result before boundary `layer`


class Slot(NamedTuple):
    """Input of an operation: its kind, and the device that sends it (-1: the controller)."""

    kind: MessageKind
    layer: int
    source: int
    part: int = 0
    taken_in: bool = False  # by the processor of the device where it has arrived (`Collective.RECEIVE`)

    @property
    def place(self) -> int:
        """Layer and part in one number, which distinguishes messages of one kind, step and path."""
        return self.layer + (self.part << 32)

    @property
    def is_chunk(self) -> bool:
        """Whether it has only some of a step's rows."""
        return self.kind in _CHUNKS or (self.kind is MessageKind.PARTIAL and self.part > 0)


# Partial sums, and the rows that a ring passes on: they have a format of their own (`Precision.partials`).
PARTIAL_KINDS = frozenset({MessageKind.PARTIAL, MessageKind.REDUCE, MessageKind.NORMED})
GATHERED_KINDS = frozenset({MessageKind.PROJECTED, MessageKind.INNER, MessageKind.LACKING, MessageKind.COLUMNS})
_CHUNKS = frozenset({MessageKind.REDUCE, MessageKind.ROWS, MessageKind.NORMED, MessageKind.QKV})


class Collective(Enum):
    """Operations without weights: they combine the shards of a layer, and the halves of divided heads.

    Its values are numbers, those of kinds of blocks are words: so a decoder of messages distinguishes them.
    """

    SUM = 0  # adds its inputs; with one input it only forwards its rows, or some of them
    NORM = 1  # standardizes rows; the norm's gain belongs to the next block
    GATHER = 2  # concatenates chunks
    ATTEND = 3  # attention on queries, keys and values that arrive in chunks, or from several devices
    JOIN = 4  # puts columns side by side, and adds x if that is among its inputs
    SEND = 5  # keeps a processor busy while it sends a result to one device
    RECEIVE = 6  # keeps a processor busy while it takes a message in

    def __str__(self) -> str:
        return self.name.lower()


class Chunk(NamedTuple):
    """Chunk of a step's rows: the `number`-th of `of` runs that are as equal as can be."""

    number: int = 0
    of: int = 1

    def bounds(self, rows: int) -> tuple[int, int]:
        """First row and end of the chunk in a step with that many rows."""
        return self.number * rows // self.of, (self.number + 1) * rows // self.of

    def size(self, rows: int) -> int:
        first, end = self.bounds(rows)
        return end - first


WHOLE = Chunk()


class RowRange(NamedTuple):
    """Range of steps that an operation belongs to, by their number of rows: from `low`, below `high` (0: no bound)."""

    low: int = 0
    high: int = 0

    def has(self, rows: int) -> bool:
        return self.low <= rows and (not self.high or rows < self.high)


ANY_ROWS = RowRange()

# An attribute of an enumeration is looked up by a function of Python; these are looked at for every execution.
_EMBED, _SUM, _NORM, _GATHER = Kind.EMBED, Collective.SUM, Collective.NORM, Collective.GATHER
_LACKING = MessageKind.LACKING
_SEND, _RECEIVE = Collective.SEND, Collective.RECEIVE
_TOKEN = MessageKind.TOKEN


@dataclass(frozen=True, slots=True)
class Op:
    """Operation: one block, or fused groups or shards of one layer, on one device. `index`: place in the program."""

    index: int
    kind: Kind | Collective
    layer: int
    groups: tuple[int, ...]  # of heads, or of a projection's or feed-forward's shards; (): an undivided block
    device: int
    needs: tuple[Slot, ...]
    emits: Slot
    to: tuple[int, ...]  # devices that need the result, this one included if it does
    parts: tuple[tuple[int, ...], ...] = ()  # the groups, or units, in each of its ATTENTION, PROJECTED, INNER inputs
    chunk: Chunk = WHOLE
    steps: RowRange = ANY_ROWS
    columns: tuple[int, ...] = ()  # first and end of the result's columns that it computes; (): all

    def inputs(self, step: int) -> tuple[Slot, ...]:
        """Inputs that must arrive before `step` can run: those up to 0 have a prompt, later ones a token."""
        if self.kind is _EMBED:
            return self.needs[:1] if step <= 0 else self.needs[1:]
        return self.needs

    def runs_in(self, step: int, rows: int) -> bool:
        """Whether it belongs to a step: no token is sent to those that have a prompt."""
        return self.steps.has(rows) and (step > 0 or not self.moves_message or self.emits.kind is not _TOKEN)

    @property
    def computes(self) -> bool:
        """Whether it computes. Other operations cost a device nothing: rows are sent from where they are."""
        if self.kind is _SUM:
            return len(self.needs) > 1
        return self.kind is not _GATHER and self.emits.kind is not _LACKING and not self.moves_message

    @property
    def moves_message(self) -> bool:
        """Whether it takes the time that a message costs a processor (`placement.message_overheads`)."""
        return self.kind is _SEND or self.kind is _RECEIVE

    @property
    def forwards(self) -> bool:
        """Whether it only passes its inputs on, some rows of one or columns of several, as the bytes that arrived."""
        if self.emits.kind is _LACKING or self.moves_message:
            return True
        if self.kind is not _SUM or len(self.needs) > 1:
            return False
        return (self.needs[0].kind in PARTIAL_KINDS) == (self.emits.kind in PARTIAL_KINDS)

    @property
    def starts_kernel(self) -> bool:
        """Whether it costs a device's fixed time per execution: the norm is part of the sum before it."""
        return self.computes and self.kind is not _NORM


class DraftOp(NamedTuple):
    """Operation of a program that is being compiled: its place and the receivers of its result are not known yet."""

    kind: Kind | Collective
    layer: int
    groups: tuple[int, ...]
    device: int
    needs: tuple[Slot, ...]
    emits: Slot
    parts: tuple[tuple[int, ...], ...] = ()
    chunk: Chunk = WHOLE
    columns: tuple[int, ...] = ()

    def addressed(self, index: int, to: tuple[int, ...], steps: RowRange) -> Op:
        """Make the operation, with what was not known."""
        kind, layer, groups, device, needs, emits, parts, chunk, columns = self
        return Op(index, kind, layer, groups, device, needs, emits, to, parts, chunk, steps, columns)


@dataclass(frozen=True)
class Program:
    """Operations of a placement in model order.

    With shards in a ring it has several sets of operations: for steps with few rows, with at least as many as a ring
    has devices, and with enough for tiles. A step runs one of them.
    """

    ops: tuple[Op, ...]
    embed_device: int
    lm_head_device: int

    def on(self, device: int) -> list[Op]:
        return [op for op in self.ops if op.device == device]

    @cached_property
    def consumers(self) -> dict[tuple[int, Slot], list[Op]]:
        """Operations that wait for an input, by (device, slot)."""
        waiting: dict[tuple[int, Slot], list[Op]] = defaultdict(list)
        for op in self.ops:
            for slot in op.needs:
                waiting[op.device, slot].append(op)
        return waiting

    @cached_property
    def _senders(self) -> dict[tuple[int, Slot], list[Op]]:
        """Operations that send an input, by (receiving device, slot): one for each size of steps."""
        sending: dict[tuple[int, Slot], list[Op]] = defaultdict(list)
        for op in self.ops:
            for target in op.to:
                sending[target, op.emits].append(op)
        return sending

    def sender(self, device: int, slot: Slot, rows: int) -> Op | None:
        """Return the operation that sends an input to a device in a step of so many rows; None: the controller does."""
        return next((op for op in self._senders.get((device, slot), ()) if op.steps.has(rows)), None)


def held_parts(ops: Iterable[Op]) -> dict[tuple[Kind, int], tuple[int, ...]]:
    """Blocks that a device's operations need: (kind, layer) -> groups or shards; () for an undivided block."""
    return {(op.kind, op.layer): op.groups for op in ops if isinstance(op.kind, Kind)}
