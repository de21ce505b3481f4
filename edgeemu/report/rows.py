"""Rows of the record tables, and their columns."""

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeemu.timeline.steps import OperationRecord


TableName = Literal["tokens", "sequences", "ops", "migrations"]


class TokenRow(NamedTuple):
    """One generated token. Emulated times in seconds of the timeline, wall times in seconds of the clock."""

    sequence: int
    step: int  # 0 is the token that prefill ends with
    token: int
    text: str
    emulated_s: float  # when it was sampled
    latency_s: float  # step 0: since the sequence came (TTFT); later: since the previous token
    wall_s: float  # when it was sampled, by the clock
    wall_latency_s: float  # latency by the clock, divided by the dilation: comparable with `latency_s`


class SequenceRow(NamedTuple):
    """One sequence that has ended. Times are of the timeline."""

    sequence: int
    prompt_tokens: int
    tokens: int
    arrival_s: float
    start_s: float  # when its first step was released
    queue_s: float  # what it waited for a slot, from its arrival to its start
    ttft_s: float  # from its arrival to its first token
    tpot_s: float | None  # mean of the later ones; None: there is none
    end_s: float
    ended_by: str  # length or stop
    good: bool | None  # whether it kept the latency target; None: there is none


class OperationRow(NamedTuple):
    """One fused block execution on a device."""

    device: str
    sequence: int
    step: int
    layer: int
    block: str  # embed, head, proj, ffn or lm_head; sum, norm, gather or attend
    groups: int  # how many head groups or shards were computed as one product; 0 where the block is whole
    rows: int  # positions computed: the prompt's length in prefill, 1 in decode
    ready_s: float  # when its last input arrived
    start_s: float
    end_s: float
    cpu_s: float  # thread time of the real kernel
    late_s: float  # how far behind `end_s` the clock was when the result was there, in emulated seconds
    overrun: bool


def operation_row(device: str, record: "OperationRecord") -> OperationRow:
    """The row of an operation that ran on a device of that name."""
    op, step, time, cpu_s, late_s, overrun = record
    block, groups = str(op.kind), len(op.groups)
    return OperationRow(
        device, step.sequence, step.step, op.layer, block, groups, step.rows, *time, cpu_s, late_s, overrun
    )


class MigrationRow(NamedTuple):
    """One block that was to move. Rows of one epoch belong to one change of placement."""

    sequence: int
    step: int  # the step before which it was decided
    epoch: int
    block: str
    source: str
    target: str
    bytes: int  # what was sent of it: weights, and rows of its cache
    began_s: float
    ended_s: float  # when the routes switched; where it was aborted, when it began
    pause_s: float  # how long the token waited for the whole change
    outcome: str  # committed, or aborted and why


COLUMNS: dict[TableName, dict[str, str]] = {
    "tokens": {
        "sequence": "int32",
        "step": "int32",
        "token": "int32",
        "text": "string",
        "emulated_s": "float64",
        "latency_s": "float64",
        "wall_s": "float64",
        "wall_latency_s": "float64",
    },
    "sequences": {
        "sequence": "int32",
        "prompt_tokens": "int32",
        "tokens": "int32",
        "arrival_s": "float64",
        "start_s": "float64",
        "queue_s": "float64",
        "ttft_s": "float64",
        "tpot_s": "float64",
        "end_s": "float64",
        "ended_by": "name",
        "good": "bool",
    },
    "ops": {
        "device": "name",
        "sequence": "int32",
        "step": "int32",
        "layer": "int16",
        "block": "name",
        "groups": "int16",
        "rows": "int32",
        "ready_s": "float64",
        "start_s": "float64",
        "end_s": "float64",
        "cpu_s": "float64",
        "late_s": "float64",
        "overrun": "bool",
    },
    "migrations": {
        "sequence": "int32",
        "step": "int32",
        "epoch": "int32",
        "block": "name",
        "source": "name",
        "target": "name",
        "bytes": "int64",
        "began_s": "float64",
        "ended_s": "float64",
        "pause_s": "float64",
        "outcome": "string",
    },
}


def schema(name: TableName) -> "pa.Schema":
    """The Arrow schema of a table. Strings out of a small set are dictionaries."""
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
    return pa.schema([(column, types[kind]) for column, kind in COLUMNS[name].items()])
