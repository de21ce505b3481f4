"""What a run leaves behind. Knows its files and their columns; not how what is in them came about.

Tables are appended to as the run goes, as Arrow IPC streams, and become Parquet files at its end: a run that was killed
can still be read. JSON and text files appear whole or not at all.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from edgeemu.report.rows import COLUMNS, MigrationRow, OperationRow, SequenceRow, TableName, TokenRow, schema

if TYPE_CHECKING:
    import pyarrow as pa


class RecordWriter:
    """Appends rows to a run's tables; a context manager, which finishes them also when the run failed."""

    def __init__(self, path: Path) -> None:
        """Open all tables in the directory `path`."""
        self._tables = {name: _TableFile(path, name) for name in get_args(TableName)}

    def append_tokens(self, rows: Sequence[TokenRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["tokens"].append(rows)

    def append_sequences(self, rows: Sequence[SequenceRow]) -> None:
        """Append and flush: the rows survive the end of this process."""
        self._tables["sequences"].append(rows)

    def append_ops(self, rows: Sequence[OperationRow]) -> None:
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


class _TableFile:
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
            column: {} for column, kind in COLUMNS[name].items() if kind == "name"
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
