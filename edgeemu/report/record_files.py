"""The record tables of a run as files. Knows files and columns; not how the rows are made.

Tables are appended to as the run goes, as Arrow IPC streams, and become Parquet files at its end: a run that was killed
can still be read. Both are written and read in batches, so that memory does not grow with the length of a run.
"""

import io
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.damage import checked
from edgeemu.report.disk import RecordsError, append_all, writing
from edgeemu.report.new_file import new_file
from edgeemu.report.rows import TableName, column_kinds, schema
from edgeemu.timeline.columns import Coded, Column, Columns

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1 << 16  # of a Parquet row group, and of what is read at a time
BATCH_PIECES = 1 << 12  # batches of a stream that are joined at most: a batch of one row takes kilobytes


class RecordWriter:
    """Appends rows to a run's tables; a context manager, which completes the files also when the run failed."""

    def __init__(self, path: Path, about: Mapping[str, str] = MappingProxyType({})) -> None:
        """Open all tables in the directory `path`. `about`: what every file says of its run."""
        self._tables = {name: _TableFile(path, name, about) for name in get_args(TableName)}

    def append(self, table: TableName, rows: Sequence[tuple[Any, ...]]) -> None:
        """Append at once: the rows survive the end of this process.

        Raises:
            RecordsError: the disk refuses them, or has refused some of this table before.
            ValueError: a row does not have the table's columns; nothing is appended.
        """
        self._tables[table].append(rows)

    def close(self) -> None:
        """Convert the streams to Parquet files. A second call does nothing.

        Raises:
            RecordsError: one of the tables could not be written; it stays as far as it was appended.
        """
        failed: list[RecordsError] = []
        for table in self._tables.values():
            try:
                table.close()
            except RecordsError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RecordsError:
            if not isinstance(error, RecordsError):  # the first is the cause
                raise


class _TableFile:
    """One table that is being written."""

    def __init__(self, path: Path, name: TableName, about: Mapping[str, str]) -> None:
        import pyarrow as pa

        self._path = path
        self._name = name
        self._schema = schema(name, about)
        self._stream_path = path / f"{name}.arrows"
        with writing(self._stream_path):
            self._file = new_file(self._stream_path)
        self._refused: RecordsError | None = None
        self._encoded = io.BytesIO()  # what the stream has written, and the file has not yet
        # Dictionaries grow from batch to batch: send what is new, not all of it again.
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._stream = pa.ipc.new_stream(self._encoded, self._schema, options=options)
        self._names: dict[str, dict[str, int]] = {
            column: {} for column, kind in column_kinds(name).items() if kind == "name"
        }
        self._dictionaries: dict[str, pa.Array] = {}  # of the names, as far as they have been written
        self._write()

    def append(self, rows: Sequence[tuple[Any, ...]]) -> None:
        import pyarrow as pa

        if not rows:
            return
        columns = rows.columns if isinstance(rows, Columns) else zip(*rows, strict=True)
        arrays = [self._array(field, values) for field, values in zip(self._schema, columns, strict=True)]
        self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._write()

    def _write(self) -> None:
        """Write what is encoded. What follows a piece that is missing cannot be read, and so is not written."""
        if self._refused is not None:
            raise self._refused
        encoded = self._encoded.getvalue()
        self._encoded.seek(0)
        self._encoded.truncate()
        try:
            append_all(self._file.fileno(), encoded, self._stream_path)
        except RecordsError as error:
            self._refused = error
            raise

    def _array(self, field: "pa.Field", values: Column | tuple[Any, ...]) -> "pa.Array":
        import pyarrow as pa

        known = self._names.get(field.name)
        if known is None:
            return _numbers(values, field.type) if isinstance(values, np.ndarray) else pa.array(values, field.type)
        if isinstance(values, Coded):
            codes = np.flatnonzero(np.bincount(values.codes, minlength=len(values.names)))  # that occur
            here = np.zeros(len(values.names), np.int32)
            here[codes] = [known.setdefault(values.names[code], len(known)) for code in codes.tolist()]
            indices = here[values.codes]
        else:
            indices = np.array([known.setdefault(value, len(known)) for value in values], np.int32)
        dictionary = self._dictionaries.get(field.name)
        if dictionary is None or len(dictionary) < len(known):
            dictionary = self._dictionaries[field.name] = pa.array(list(known), pa.string())
        return pa.DictionaryArray.from_arrays(_numbers(indices, pa.int32()), dictionary)

    def close(self) -> None:
        if self._file.closed:
            return
        self._stream.close()
        with self._file:
            self._write()
        partial = self._path / f".{self._name}.parquet.partial"
        try:
            with writing(partial, appended=True):
                _to_parquet(self._path, self._name, partial, self._schema)
        except RecordsError:
            partial.unlink(missing_ok=True)
            raise


def _numbers(values: NDArray[Any], kind: "pa.DataType") -> "pa.Array":
    """Make an array of a column's numbers, in which NaN is null.

    Arrow would do so, too, but looks for masked arrays first, and loads the module that they are from.
    """
    import pyarrow as pa

    validity = None
    if pa.types.is_boolean(kind):
        held = np.packbits(values, bitorder="little")
    else:
        held = np.ascontiguousarray(values, kind.to_pandas_dtype())
        if pa.types.is_floating(kind):
            known = ~np.isnan(held)
            validity = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
        elif held.dtype != values.dtype and not np.array_equal(held, values):
            raise OverflowError(f"a column of {kind} cannot hold all of its numbers")
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(held)])


def _to_parquet(path: Path, name: TableName, partial: Path, wanted: "pa.Schema") -> None:
    import pyarrow.parquet as pq

    repeated = [column for column, kind in column_kinds(name).items() if kind != "float64"]
    options = {"compression": "zstd", "write_page_checksum": True, "use_dictionary": repeated}
    with new_file(partial) as file, pq.ParquetWriter(file, wanted, **options) as writer:
        for table in _stream_tables(path / f"{name}.arrows", name, ours=True):
            writer.write_table(table)
    partial.replace(path / f"{name}.parquet")
    (path / f"{name}.arrows").unlink()


class RunRecords:
    """The tables of the run in a directory, to be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> Iterator["pa.Table"]:
        """Yield the rows of a table in pieces of bounded size; see `read_tables`."""
        return read_tables(self._path, table, columns)


def read_tables(path: Path, name: TableName, columns: Sequence[str] | None = None) -> Iterator["pa.Table"]:
    """Yield the rows of a table in pieces of bounded size, whether the run has ended, goes on, or was killed.

    Args:
        path: the run's directory.
        name: the table.
        columns: those to read; None: all.

    Raises:
        FileNotFoundError: there is no such table.
        RequestError: its file is damaged.
    """
    import pyarrow as pa

    wanted = schema(name)
    if columns is not None:
        wanted = pa.schema([wanted.field(column) for column in columns])
    parquet, stream = path / f"{name}.parquet", path / f"{name}.arrows"
    loose = name in ("ops", "links")  # what moves blocks is of no step
    if parquet.exists():
        yield from checked(_parquet_tables(parquet, wanted), parquet, may_be_of_no_step=loose)
    else:
        tables = checked(_stream_tables(stream, name, ours=False), stream, may_be_of_no_step=loose)
        yield from (table.select(wanted.names) for table in tables)


def _parquet_tables(file: Path, wanted: "pa.Schema") -> Iterator["pa.Table"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Arrow takes no name that is not UTF-8, and what it reads through Python is in memory twice.
    with file.open("rb") as source:
        name = f"/proc/self/fd/{source.fileno()}"
        with pq.ParquetFile(name, page_checksum_verification=True) as opened:
            for batch in opened.iter_batches(BATCH_ROWS, columns=wanted.names):
                table = pa.Table.from_batches([batch])
                yield table if table.schema.equals(wanted) else table.cast(wanted)


def read_table(path: Path, name: TableName, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read a table of the run in the directory `path` into memory. Arguments and errors are those of `read_tables`."""
    import pyarrow as pa

    none = schema(name).empty_table()
    tables = [none if columns is None else none.select(list(columns)), *read_tables(path, name, columns)]
    return pa.concat_tables(tables).unify_dictionaries()


def _stream_tables(file: Path, name: TableName, *, ours: bool) -> Iterator["pa.Table"]:
    """Yield the rows of a stream, many batches at a time. The last batch may have been cut off: it is left out.

    One that this process has not written is not `ours`, and may be damaged.
    """
    import pyarrow as pa

    def joined(batches: Iterable["pa.RecordBatch"]) -> "pa.Table":
        return pa.Table.from_batches(batches, schema(name)).unify_dictionaries().combine_chunks()

    batches: list[pa.RecordBatch] = []
    rows = 0
    with closing(_stream_batches(file)) as stream:
        for batch in stream:
            if not ours:
                batch.validate(full=True)  # before Arrow follows its indices: damaged ones would end the process
            batches.append(batch)
            rows += batch.num_rows
            if rows >= BATCH_ROWS or len(batches) == BATCH_PIECES:
                yield joined(batches)
                batches, rows = [], 0
    if batches:
        yield joined(batches)


def _stream_batches(file: Path) -> Generator["pa.RecordBatch", None, None]:
    import pyarrow as pa

    with file.open("rb") as source, suppress(StopIteration, pa.ArrowInvalid):
        try:
            stream = pa.ipc.open_stream(source)
            while True:
                yield stream.read_next_batch()
        except OSError as error:
            if error.errno is not None:  # the disk's; Arrow's own, for a message that is cut off, has none
                raise
