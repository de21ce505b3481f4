"""Records in memory, as a run appends them and as figures are read from them. For few rows: nothing is in batches."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeemu.report.rows import Row, TableName, schema

if TYPE_CHECKING:
    import pyarrow as pa


class RowsInMemory:
    """Rows by table."""

    def __init__(self) -> None:
        self.rows: dict[TableName, list[Any]] = defaultdict(list)

    def append(self, table: TableName, rows: Sequence[Row]) -> None:
        """Append rows to a table."""
        self.rows[table] += rows

    def may_write(self) -> None:
        """Do nothing: rows are where they stay."""

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the rows of a table at once; `columns`: those to read, None: all."""
        import pyarrow as pa

        rows = pa.Table.from_pylist([row._asdict() for row in self.rows[table]], schema(table))
        yield rows if columns is None else rows.select(list(columns))
