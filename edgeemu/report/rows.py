"""Rows of the record tables. The fields of a row are the columns of its table; their types give the columns' types."""

from collections.abc import Mapping
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeemu.timeline.operation_sizes import OperationSizes
    from edgeemu.timeline.steps import OperationRecord
    from edgeemu.timeline.transfers import HandledTransfer

NO_STEP = -1  # the sequence and step of an operation that belongs to none
GIVEN_UP = -2  # the step of an operation of a step that was given up at a fault; its sequence is `NO_STEP`

TableName = Literal[
    "tokens",
    "sequences",
    "ops",
    "migrations",
    "decisions",
    "placements",
    "conditions",
    "devices",
    "links",
    "faults",
    "recoveries",
]

Int16 = Annotated[int, "int16"]
Int32 = Annotated[int, "int32"]
Int64 = Annotated[int, "int64"]
Float64 = Annotated[float, "float64"]
Bool = Annotated[bool, "bool"]
Text = Annotated[str, "string"]
Name = Annotated[str, "name"]  # one of a small set: stored as a dictionary


class TokenRow(NamedTuple):
    """One generated token. Emulated times in seconds of the timeline, wall times in seconds of the clock."""

    sequence: Int32
    step: Int32  # 0 is the token that prefill ends with
    token: Int32
    text: Text
    released_s: Float64  # when its step was released to the devices
    emulated_s: Float64  # when it was sampled
    latency_s: Float64  # step 0: since the sequence arrived (TTFT); later: since the previous token
    wall_s: Float64  # when it was sampled, by the clock
    wall_latency_s: Float64  # latency by the clock, divided by the dilation: comparable with `latency_s`


class SequenceRow(NamedTuple):
    """One sequence that has ended. Times are those of the timeline."""

    sequence: Int32
    prompt_tokens: Int32
    tokens: Int32
    arrival_s: Float64
    start_s: Float64  # when its first step was released
    queue_s: Float64  # queueing delay: from its arrival to its start
    ttft_s: Float64  # from its arrival to its first token
    tpot_s: Float64 | None  # mean time of each later token; None: there is none
    end_s: Float64
    ended_by: Name  # length or stop
    good: Bool | None  # whether it met the latency target; None: there is none
    tail_text: Text = ""  # text after that of its last token: the replacement of a character that is incomplete


class OperationRow(NamedTuple):
    """One fused block execution on a device."""

    device: Name
    sequence: Int32  # -1, as the step: a transfer, or an operation that fills caches
    step: Int32  # -2: of a step that was given up at a fault, and runs again
    layer: Int16
    block: Name  # embed, head, proj, ffn or lm_head; sum, norm, gather, attend or join; send or receive
    groups: Int16  # head groups or shards that were computed as one product; 0 where the block is undivided
    rows: Int32  # positions computed: the prompt's length in prefill, 1 in decode
    past: Int32  # positions before them, which are cached
    op: Int32  # its number in the program of the placement in force
    last_op: Int32  # number of the operation whose result arrived last, of all inputs; -1: it began with the release
    last_bytes: Int64  # of the message with that result; 0: it was on the device already
    flops: Float64  # arithmetic operations of its work
    bytes_read: Float64  # from memory, of its work
    ready_s: Float64  # when its last input arrived
    start_s: Float64
    end_s: Float64
    cpu_s: Float64  # thread time of the real kernel
    late_s: Float64  # lateness: how long after `end_s` the result was there, in emulated seconds
    overrun: Bool


def operation_row(device: str, record: "OperationRecord", sizes: "OperationSizes") -> OperationRow:
    """Make the row of an operation that ran on a device of that name; `sizes` are those of its program."""
    op, step, time, cpu_s, late_s, overrun, last = record
    size = step.rows, step.past
    sent = last is not None and last.device != op.device
    of_last = (-1, 0) if last is None else (last.index, sizes.result_bytes(last.index, *size) if sent else 0)
    what = op.layer, str(op.kind), len(op.groups), *size, op.index, *of_last, *sizes.work(op.index, *size)
    return OperationRow._make((device, *step[:2], *what, *time, cpu_s, late_s, overrun))


def transfer_row(device: str, handled: "HandledTransfer") -> OperationRow:
    """Make the row of a transfer that has kept a device of that name busy."""
    block = "send" if handled.sends else "receive"
    no_operation = 0, 0, 0, -1, -1, 0, 0.0, 0.0  # groups, rows, past, numbers, bytes and work
    return OperationRow._make((device, NO_STEP, NO_STEP, -1, block, *no_operation, *handled.time, 0.0, 0.0, False))


class MigrationRow(NamedTuple):
    """One block that was to move. Rows of one epoch belong to one change of placement."""

    sequence: Int32
    step: Int32  # the step before which it was decided
    epoch: Int32
    block: Name
    source: Name
    target: Name
    bytes: Int64  # sent for it: weights, and rows of its cache
    began_s: Float64
    ended_s: Float64  # when the routes switched; of an aborted change, when it began
    pause_s: Float64  # how long the token waited for the change
    outcome: Text  # committed, or aborted and why


class DecisionRow(NamedTuple):
    """One decision of the policy, or why one was not carried out."""

    sequence: Int32
    step: Int32  # the step before which it was made
    # decided; cut (at its limit); explored (asked about idle links); tried (slow links); refused (no memory); given up
    event: Name
    took_s: Float64 | None  # processor time of the policy; None: it was not asked
    charged_s: Float64 | None  # what it took on the timeline; None: it was not asked
    problem: Text  # why the placement was kept, or the answer cut; empty: there is no problem
    # Of a decision to change the placement:
    moves: Int32 | None = None  # blocks that it moves; 0: it only divides blocks or puts them together
    before_s: Float64 | None = None  # step that the policy's closed form expects of the placement so far
    after_s: Float64 | None = None  # step that it expects of the new placement
    migration_s: Float64 | None = None  # time for which steps are expected to wait for the moves
    why: Text = ""  # what was measured to have changed since the last change


class PlacementRow(NamedTuple):
    """Holder of a block, or of consecutive groups or shards of one, from an instant on."""

    epoch: Int32  # 0: the first placement; later the number of the migration that led to it
    sequence: Int32
    step: Int32  # the step before which it was decided
    at_s: Float64  # when its routes were in force
    block: Name  # embed, head, proj, ffn or lm_head
    layer: Int16  # -1 where it has no meaning
    first: Int32  # number of the first group or shard
    end: Int32  # number after that of the last
    of: Int32  # groups or shards of the block; 1: it is undivided
    device: Name


class ConditionRow(NamedTuple):
    """True state of a device from a token on, where it is not as before: load, throttling, events."""

    device: Name
    sequence: Int32
    step: Int32
    at_s: Float64  # when the token was sampled
    speed: Float64  # share of its speed that other work leaves
    memory_bytes: Int64  # that it has for the run


MEMORY_COLUMNS = ("weights_bytes", "cache_bytes", "workspace_bytes", "messages_bytes", "incoming_bytes")


LOST = "lost"  # kind of the loss of a device without a fault of the scenario


class FaultRow(NamedTuple):
    """Moment of a fault of a device or a link."""

    at_s: Float64
    what: Name  # device, or link
    kind: Name  # crash, hang, down …; or `LOST`
    moment: Name  # begins, noticed or over


class RecoveryRow(NamedTuple):
    """Recovery of a run from the loss of devices that had blocks. Times are those of the timeline."""

    began_s: Float64  # when the first of them failed
    noticed_s: Float64  # from then on no step was in flight
    decided_s: Float64  # when the new placement was known
    placed_s: Float64  # when all blocks had arrived
    restored_s: Float64  # when all caches were filled, and steps went on
    lost: Text  # names of the devices
    blocks: Int32  # that they had
    moves: Int32  # blocks that were brought to other devices
    bytes: Int64  # sent over links for that
    rows: Int32  # of caches that were computed again, of all sequences
    sequences: Int32  # that waited
    attempts: Int32  # more than 1: something else was lost meanwhile
    outcome: Text  # recovered, or failed and why


class DeviceRow(NamedTuple):
    """One device's part in one token: memory held at its end, and the time and energy of its operations."""

    device: Name
    sequence: Int32
    step: Int32
    weights_bytes: Int64
    cache_bytes: Int64
    workspace_bytes: Int64
    messages_bytes: Int64
    incoming_bytes: Int64  # reserved for blocks that a migration brings
    peak_bytes: Int64  # of the memory ledger, so far
    reordered: Int32  # messages, so far, that reached a pipe after one that departs later
    stalled_s: Float64  # of the clock, that its process stood still since its last row; kernel and hybrid links
    busy_s: Float64
    queue_s: Float64  # that operations were ready and waited for the device, in all
    energy_j: Float64 | None  # of computing, on top of idle power; None: its power is not known


class LinkRow(NamedTuple):
    """Messages of one token from one device to another. Times are those of the timeline, of all messages together."""

    source: Name
    target: Name
    sequence: Int32  # -1, as the step: chunks for replicas
    step: Int32
    messages: Int32
    bytes: Int64
    transit_s: Float64  # from departure to arrival: the sum of the next three
    queue_s: Float64  # waiting for pipes; also what jitter, loss and variation add
    transfer_s: Float64  # at the path's bandwidth
    delay_s: Float64  # at the path's delay
    energy_j: Float64 | None  # of all devices on the path; None: not known


Row = (
    TokenRow
    | SequenceRow
    | OperationRow
    | MigrationRow
    | DecisionRow
    | PlacementRow
    | ConditionRow
    | DeviceRow
    | LinkRow
    | FaultRow
    | RecoveryRow
)
ROWS: Mapping[TableName, type[Row]] = MappingProxyType(
    {
        "tokens": TokenRow,
        "sequences": SequenceRow,
        "ops": OperationRow,
        "migrations": MigrationRow,
        "decisions": DecisionRow,
        "placements": PlacementRow,
        "conditions": ConditionRow,
        "devices": DeviceRow,
        "links": LinkRow,
        "faults": FaultRow,
        "recoveries": RecoveryRow,
    }
)


def column_kinds(table: TableName) -> dict[str, str]:
    """Return the kind of each column of a table: `int32`, …, or `name`."""
    return {column: _kind(hint) for column, hint in get_type_hints(ROWS[table], include_extras=True).items()}


def _kind(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    kind: str = get_args(hint)[1]
    return kind


UNITS = MappingProxyType(  # of columns, by the end of their names
    {"_s": "s", "bytes": "B", "_j": "J", "flops": "operations", "bytes_read": "B", "speed": "share"}
)


def unit(column: str) -> str | None:
    """Return the unit of a column; None: it has none."""
    return next((of for end, of in UNITS.items() if column.endswith(end)), None)


def schema(table: TableName, about: Mapping[str, str] = MappingProxyType({})) -> "pa.Schema":
    """Return the Arrow schema of a table. Its metadata are the units of columns, and `about` the run."""
    import pyarrow as pa

    types = {
        "int16": pa.int16(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "name": pa.dictionary(pa.int32(), pa.string()),
    }
    fields = [
        pa.field(column, types[kind], metadata={"unit": of} if (of := unit(column)) else None)
        for column, kind in column_kinds(table).items()
    ]
    return pa.schema(fields, metadata={f"edgeemu.{key}": value for key, value in about.items()})
