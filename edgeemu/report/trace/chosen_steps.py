"""Steps of which a trace shows every operation and message: those asked for, or as many as open well."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeemu.errors import RequestError
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.rows import TableName

if TYPE_CHECKING:
    import pyarrow as pa

MAX_OPERATIONS = 300_000  # in a trace: some 250 MB of JSON, which a browser opens in half a minute


class Steps(NamedTuple):
    """Steps of every sequence from `first` to before `end`."""

    first: int
    end: int


def parse_steps(text: str, field: str) -> Steps:
    """Read "20-40", or "20"; `field` is what a message calls it.

    Raises:
        RequestError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise RequestError(f'"{text}" is not a range of tokens such as 20-40', field=field)
    return Steps(int(found[1]), 1 + int(found[2] or found[1]))


def choose_steps(records: RecordTables, asked: Steps | None) -> Steps:
    """Return the steps that are asked for; None: from 0 on, as many as have room.

    Raises:
        RequestError: those asked for have too many operations, or are after the last.
    """
    counts = np.zeros(1, np.int64)  # operations by step
    for table in records.read("ops", ("step",)):
        step = column_of(table, "step")
        found = np.bincount(step[step >= 0], minlength=len(counts))  # chunks of blocks that move are of no step
        found[: len(counts)] += counts
        counts = found
    first = 0 if asked is None else asked.first
    if first >= len(counts):
        raise RequestError(f"the run has tokens 0-{len(counts) - 1}", field="--tokens")
    fits = first + int(np.searchsorted(np.cumsum(counts[first:]), MAX_OPERATIONS, side="right"))
    if asked is None:
        return Steps(0, fits)
    if fits < min(asked.end, len(counts)):
        many = int(counts[first : asked.end].sum())
        fitting = f"those of {first}-{fits - 1}" if fits > first else "not even those of one token"
        raise RequestError(
            f"{first}-{asked.end - 1} are {many:,} operations, and a trace shows at most {MAX_OPERATIONS:,}: {fitting}",
            field="--tokens",
        )
    return Steps(first, min(asked.end, len(counts)))


class ChosenRecords:
    """Records of the chosen steps alone."""

    def __init__(self, records: RecordTables, steps: Steps) -> None:
        self._records = records
        self._steps = steps

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the rows of a table in pieces. Migrations are all there: they may hold back any token."""
        import pyarrow as pa

        if table == "migrations":
            yield from self._records.read(table, columns)
            return

        wanted = columns if columns is None or "step" in columns else (*columns, "step")
        for rows in self._records.read(table, wanted):
            step = column_of(rows, "step")
            kept = rows.filter(pa.array((step >= self._steps.first) & (step < self._steps.end)))
            if len(kept):
                yield kept if columns is None else kept.select(list(columns))
