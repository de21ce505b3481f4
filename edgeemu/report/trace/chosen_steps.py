"""Steps of which a trace shows every operation and message: those asked for, or as many as open well."""

import re
from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeemu.errors import RequestError
from edgeemu.report.critical.recorded_steps import RecordedTokens
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.rows import NO_STEP, TableName

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
    """Records of the chosen steps alone, and of what belongs to no step while they were under way."""

    def __init__(self, records: RecordTables, steps: Steps, tokens: RecordedTokens) -> None:
        """`tokens`: all of the run."""
        self._records = records
        self._steps = steps
        chosen = (tokens.step >= steps.first) & (tokens.step < steps.end)
        begin_s, end_s = (tokens.sampled_s - tokens.latency_s)[chosen], tokens.sampled_s[chosen]
        self._begin_s = float(begin_s.min(initial=inf)) if steps.first else -inf
        self._end_s = float(end_s.max(initial=-inf)) if (tokens.step >= steps.end).any() else inf

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the rows of a table in pieces: all migrations and recoveries, which may hold back any token."""
        import pyarrow as pa

        if table in ("migrations", "faults", "recoveries"):
            yield from self._records.read(table, columns)
            return

        needed = ("step", "start_s") if table == "ops" else ("step",)
        wanted = None if columns is None else tuple(dict.fromkeys((*columns, *needed)))
        for rows in self._records.read(table, wanted):
            step = column_of(rows, "step")
            chosen = (step >= self._steps.first) & (step < self._steps.end)
            if table == "ops":
                start_s = column_of(rows, "start_s")
                chosen |= (step <= NO_STEP) & (start_s >= self._begin_s) & (start_s <= self._end_s)
            kept = rows.filter(pa.array(chosen))
            if len(kept):
                yield kept if columns is None else kept.select(list(columns))
