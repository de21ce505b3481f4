"""Operations and the messages between them: what a placement compiles to. Knows who needs what; no sizes, no data.

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
    """What a message carries. `layer` beside it says where in the model.

    Where shards are joined, `layer` counts seams, of which a layer has two: 2 l after its projection, 2 l + 1 after its
    feed-forward.
    """

    PROMPT = 0  # ids from the controller to the embedding: how a sequence enters
    TOKEN = 1  # the sampled id, from the output matrix back to the embedding
    HIDDEN = 2  # x into layer l, to its groups and its projection; l = n_layers is the output matrix
    ATTENTION = 3  # the outputs of one device's groups of layer l, to the projection
    RESIDUAL = 4  # x after attention of layer l, to the feed-forward block
    PARCEL = 5  # a chunk of a block that migrates
    PARTIAL = 6  # what one device's shards add to a seam's sum: all rows (part 0), or chunk c alone (part c + 1)
    REDUCE = 7  # chunk `part` of a seam's sum on its way round, with the terms of the devices that it has passed
    ROWS = 8  # chunk `part` of x after a seam: it stays with its device, which adds it to the next seam's sum
    NORMED = 9  # chunk `part` of x after a seam, standardised, on its way to all that multiply it
    QKV = 10  # queries, keys and values of chunk `part` of layer l, waiting for those of the other chunks
    PROBE = 11  # nothing: the links are being measured


class Slot(NamedTuple):
    """One input of an operation: what it is and which device sends it (-1: the controller)."""

    stage: MessageKind
    layer: int
    source: int
    part: int = 0

    @property
    def place(self) -> int:
        """Layer and part in one number: what tells this message from others of its stage, step and way."""
        return self.layer + (self.part << 32)

    @property
    def is_chunk(self) -> bool:
        """Whether it has some of a step's rows only."""
        return self.stage in _CHUNKS or (self.stage is MessageKind.PARTIAL and self.part > 0)


_CHUNKS = frozenset({MessageKind.REDUCE, MessageKind.ROWS, MessageKind.NORMED, MessageKind.QKV})


class Collective(Enum):
    """Operations that hold no weights: what joins the shards of a layer, and the halves of divided heads.

    Numbers, where kinds of blocks are words: by that a decoder of messages tells one from the other.
    """

    SUM = 0  # adds its inputs; with a single one it only passes on its rows, or some of them
    NORM = 1  # brings rows to the size that norms give them; the gain is the next block's
    GATHER = 2  # puts chunks together
    ATTEND = 3  # attention on queries, keys and values that are there in chunks

    def __str__(self) -> str:
        return self.name.lower()


class Chunk(NamedTuple):
    """Which of a step's rows: the `number`-th of so many runs, which are as equal as can be."""

    number: int = 0
    of: int = 1

    def bounds(self, rows: int) -> tuple[int, int]:
        """First row and end, of a step with so many."""
        return self.number * rows // self.of, (self.number + 1) * rows // self.of

    def size(self, rows: int) -> int:
        first, end = self.bounds(rows)
        return end - first


WHOLE = Chunk()


class RowRange(NamedTuple):
    """The steps that an operation belongs to, by their number of rows: from `low`, below `high` (0: no bound)."""

    low: int = 0
    high: int = 0

    def has(self, rows: int) -> bool:
        return self.low <= rows and (not self.high or rows < self.high)


ANY_ROWS = RowRange()


@dataclass(frozen=True, slots=True)
class Op:
    """One block, or the fused groups or shards of one layer, on one device. `index` is its place in the program."""

    index: int
    kind: Kind | Collective
    layer: int
    groups: tuple[int, ...]  # of heads, or of a projection's or a feed-forward's shards; none: it is whole
    device: int
    needs: tuple[Slot, ...]
    emits: Slot
    to: tuple[int, ...]  # devices that need the result, this one included if it does
    parts: tuple[tuple[int, ...], ...] = ()  # a projection's: the groups in each of its ATTENTION inputs
    chunk: Chunk = WHOLE
    steps: RowRange = ANY_ROWS

    def inputs(self, step: int) -> tuple[Slot, ...]:
        """What must have arrived before `step` can run: a sequence's first step has a prompt, later ones a token."""
        if self.kind is Kind.EMBED:
            return self.needs[:1] if step == 0 else self.needs[1:]
        return self.needs

    @property
    def computes(self) -> bool:
        """Whether it touches a number. What does not costs a device nothing: rows are sent from where they lie."""
        return self.kind is not Collective.GATHER and not (self.kind is Collective.SUM and len(self.needs) == 1)

    @property
    def starts_kernel(self) -> bool:
        """Whether it costs a device's fixed time per execution: the norm is done in the same pass as the last sum."""
        return self.computes and self.kind is not Collective.NORM


@dataclass(frozen=True)
class Program:
    """A placement's operations in model order, and what each device has of them.

    Where shards are joined in a ring there are several sets: for steps of few rows, of at least as many as a ring has
    devices, and of enough for tiles. A step runs one of them.
    """

    ops: tuple[Op, ...]
    embed_device: int
    lm_head_device: int

    def on(self, device: int) -> list[Op]:
        return [op for op in self.ops if op.device == device]

    @cached_property
    def consumers(self) -> dict[tuple[int, Slot], list[Op]]:
        """(device, slot) -> the operations there that wait for it."""
        waiting: dict[tuple[int, Slot], list[Op]] = defaultdict(list)
        for op in self.ops:
            for slot in op.needs:
                waiting[op.device, slot].append(op)
        return waiting


def held_parts(ops: Iterable[Op]) -> dict[tuple[Kind, int], tuple[int, ...]]:
    """What a device's operations need of it: (kind, layer) -> groups or shards; none of them: the whole block."""
    return {(op.kind, op.layer): op.groups for op in ops if isinstance(op.kind, Kind)}
