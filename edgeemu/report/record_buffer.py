"""Rows that wait to be written together: one batch of many steps costs a tenth of a batch for each step."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from edgeemu.report.disk import RecordsError
from edgeemu.report.record_files import RecordWriter
from edgeemu.report.rows import Row, TableName
from edgeemu.timeline.columns import Columns, joined

MAX_ROWS = 1 << 13  # of all tables, until they are written: a megabyte


class RecordBuffer:
    """Sink of rows in front of a writer. They are written when there are many, and soon after a tick of a clock."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._waiting: dict[TableName, list[Sequence[Row]]] = {}
        self._rows = 0
        self._refused: RecordsError | None = None
        self._due = False

    def append(self, table: TableName, rows: Sequence[Row]) -> None:
        """Append rows to a table, to be written later.

        Raises:
            RecordsError: the disk refuses them, or has refused rows before.
        """
        if self._refused is not None:
            raise self._refused
        if rows:
            self._waiting.setdefault(table, []).append(rows)
            self._rows += len(rows)
            if self._rows >= MAX_ROWS:
                self.flush()

    def tick(self) -> None:
        """Have rows written when it delays nothing; at the next tick it is done in any case. Raises as `flush`."""
        if self._due:
            self.flush()
        self._due = bool(self._rows)

    def may_write(self) -> None:
        """Write what waits, if it is time to. Raises as `flush`."""
        if self._due:
            self.flush()

    def flush(self) -> None:
        """Write what waits: it survives the end of this process.

        Raises:
            RecordsError: the disk refuses rows of a table; those of others are written.
        """
        waiting, self._waiting, self._rows, self._due = self._waiting, {}, 0, False
        for table, pieces in waiting.items():
            try:
                for rows in _together(pieces):
                    self._writer.append(table, rows)
            except RecordsError as error:
                self._refused = self._refused or error
        if self._refused is not None:
            raise self._refused


def _together(pieces: Sequence[Sequence[Row]]) -> Iterator[Sequence[Any]]:
    """Pieces as few longer ones, in their order: those of columns, and those of rows."""
    for by_column, group in groupby(pieces, lambda piece: isinstance(piece, Columns)):
        some: list[Any] = list(group)
        yield joined(some) if by_column else list(chain.from_iterable(some))
