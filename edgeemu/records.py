"""What a run leaves behind. Knows its files and their columns; not how what is in them came about.

Tables are appended to as the run goes, as Arrow IPC streams, and become Parquet files at its end: a run that was killed
can still be read. JSON and text files appear whole or not at all.
"""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

if TYPE_CHECKING:
    import pyarrow as pa

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


class OpRow(NamedTuple):
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


_COLUMNS: dict[TableName, dict[str, str]] = {
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
    return pa.schema([(column, types[kind]) for column, kind in _COLUMNS[name].items()])


class RunDirectory:
    """`runs/<scenario>-<UTC time>-<policy>/` and the small files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, base: Path, scenario_name: str, policy: str, started_utc: datetime) -> Self:
        """A new directory below `base`; runs that start in the same second get a number at the end."""
        stamp = started_utc.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        stem = f"{_as_file_name(scenario_name)}-{stamp}-{_as_file_name(policy)}"
        base.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = base / (stem if number == 1 else f"{stem}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(path)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        _write_whole(self.path / "summary.json", to_json(summary) + "\n")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        _write_whole(self.path / "meta.json", to_json(meta) + "\n")

    def write_scenario(self, text: str) -> None:
        """The resolved scenario, which runs again to the same cluster."""
        _write_whole(self.path / "scenario.yaml", text)


def _as_file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.") or "unnamed"


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever looks sees the old one or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON text. JSON has no NaN and no infinity: they become null."""
    return json.dumps(_without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


class RecordWriter:
    """Appends rows to a run's tables; a context manager, which finishes them also when the run failed."""

    def __init__(self, path: Path) -> None:
        """Open all tables in the directory `path`."""
        self._tables = {name: _Table(path, name) for name in get_args(TableName)}

    def append_tokens(self, rows: Sequence[TokenRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["tokens"].append(rows)

    def append_sequences(self, rows: Sequence[SequenceRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["sequences"].append(rows)

    def append_ops(self, rows: Sequence[OpRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["ops"].append(rows)

    def append_migrations(self, rows: Sequence[MigrationRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["migrations"].append(rows)

    def close(self) -> None:
        """Turn the streams into Parquet files. Closing twice is closing once."""
        for table in self._tables.values():
            table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Table:
    """One table that is being written."""

    def __init__(self, path: Path, name: TableName) -> None:
        import pyarrow as pa

        self._path = path
        self._name = name
        self._schema = schema(name)
        self._file = (path / f"{name}.arrows").open("wb")
        # Dictionaries grow from batch to batch: send what is new, not all of it again.
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._stream = pa.ipc.new_stream(self._file, self._schema, options=options)
        self._names: dict[str, dict[str, int]] = {
            column: {} for column, kind in _COLUMNS[name].items() if kind == "name"
        }
        self._file.flush()

    def append(self, rows: Sequence[tuple[Any, ...]]) -> None:
        import pyarrow as pa

        if not rows:
            return
        columns = zip(self._schema, zip(*rows, strict=True), strict=True)
        arrays = [self._array(field, values) for field, values in columns]
        self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._file.flush()

    def _array(self, field: "pa.Field", values: tuple[Any, ...]) -> "pa.Array":
        import pyarrow as pa

        known = self._names.get(field.name)
        if known is None:
            return pa.array(values, field.type)
        indices = [known.setdefault(value, len(known)) for value in values]
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(known), pa.string()))

    def close(self) -> None:
        if self._file.closed:
            return
        self._stream.close()
        self._file.close()
        _to_parquet(self._path, self._name)


def _to_parquet(path: Path, name: TableName) -> None:
    import pyarrow.parquet as pq

    partial = path / f".{name}.parquet.partial"
    pq.write_table(_read_stream(path / f"{name}.arrows", name), partial, compression="zstd")
    partial.replace(path / f"{name}.parquet")
    (path / f"{name}.arrows").unlink()


def read_table(path: Path, name: TableName) -> "pa.Table":
    """A table of the run in the directory `path`, whether the run has ended, goes on, or was killed.

    Raises FileNotFoundError where there is none.
    """
    import pyarrow.parquet as pq

    with suppress(FileNotFoundError):
        return pq.read_table(path / f"{name}.parquet").cast(schema(name))
    return _read_stream(path / f"{name}.arrows", name)


def _read_stream(file: Path, name: TableName) -> "pa.Table":
    """All whole batches; the last one may have been cut off."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    with file.open("rb") as source, suppress(StopIteration, pa.ArrowInvalid):
        try:
            stream = pa.ipc.open_stream(source)
            while True:
                batches.append(stream.read_next_batch())
        except OSError as error:
            if error.errno is not None:  # the disk's; Arrow's own, for a message that is cut off, has none
                raise
    return pa.Table.from_batches(batches, schema(name)).unify_dictionaries()
