"""Copies the rows of a run that count for another that goes on from it: what happened up to its last whole token."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.figures import column_of
from edgeemu.report.record_files import RecordWriter, read_tables
from edgeemu.report.rows import LOST, ROWS, Row, TableName, column_kinds
from edgeemu.run.resume.continuation import Continuation
from edgeemu.timeline.columns import Coded, Column, Columns

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]
_UNTIL: Mapping[TableName, str] = {  # column with the instant by which a row of the table was true
    "migrations": "ended_s",
    "placements": "at_s",
    "conditions": "at_s",
    "faults": "at_s",
    "recoveries": "restored_s",
}


def copy_rows(path: Path, resumed: Continuation, records: RecordWriter) -> None:
    """Copy rows of the run in the directory `path`. Sequences that have ended are those of `resumed`.

    Raises:
        RequestError: a table is damaged.
        RecordsError: the disk refuses the rows.
    """
    if not resumed.tokens:
        return
    tokens = [(row.emulated_s, row) for rows in resumed.tokens.values() for row in rows]
    records.append("tokens", [row for _, row in sorted(tokens)])
    records.append("sequences", [row for _, row in sorted((row.end_s, row) for row in resumed.ended.values())])
    counts = np.zeros(1 + max(resumed.tokens), np.int64)  # [sequences] tokens
    for sequence, rows in resumed.tokens.items():
        counts[sequence] = len(rows)
    for name in get_args(TableName):
        if name not in ("tokens", "sequences"):
            for table in read_tables(path, name):
                _copy(table, name, _counts_for(name, table, counts, resumed.at_s), records)


def _counts_for(name: TableName, table: "pa.Table", counts: NDArray[np.int64], at_s: float) -> Mask:
    """Return which rows count: [rows]. Faults of the scenario happen again."""
    until = _UNTIL.get(name)
    if until is not None:
        by_then: Mask = column_of(table, until) <= at_s
        return by_then if name != "faults" else by_then & (np.array(table.column("kind").to_pylist()) == LOST)
    sequence, step = column_of(table, "sequence"), column_of(table, "step")
    known = (sequence >= 0) & (sequence < len(counts))
    whole = known & (step < counts[np.where(known, sequence, 0)])
    if name == "ops":
        return whole | ((sequence < 0) & (column_of(table, "end_s") <= at_s))
    return whole | (sequence < 0)  # chunks for replicas, which were written with tokens


def _copy(table: "pa.Table", name: TableName, wanted: Mask, records: RecordWriter) -> None:
    kinds = column_kinds(name)
    if {"string", "bool"} & set(kinds.values()) and name != "ops":
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        records.append(name, [row for row, is_wanted in zip(rows, wanted.tolist(), strict=True) if is_wanted])
    elif wanted.any():
        columns = [_column(table, column, wanted) for column in kinds]
        records.append(name, Columns(cast(Callable[..., Row], ROWS[name]._make), columns))


def _column(table: "pa.Table", name: str, wanted: Mask) -> Column:
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        one = column.combine_chunks()
        array = one.chunk(0) if isinstance(one, pa.ChunkedArray) else one
        return Coded(array.indices.to_numpy()[wanted].astype(np.int64), array.dictionary.to_pylist())
    values: Any = column.to_numpy()
    return cast(Column, values[wanted])
