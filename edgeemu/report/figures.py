"""Figures of a run's tables, read in batches. Memory grows with the number of tokens by some bytes each, not with rows.

Sums are those that a list of all rows would give, to the last digit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.rows import DecisionRow, SequenceRow, TableName
from edgeemu.report.statistics import ExactSum, Floats

if TYPE_CHECKING:
    import pyarrow as pa


class RecordTables(Protocol):
    """The tables of a run, to be read."""

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
        """Yield the rows of a table in pieces of bounded size; `columns`: those to read, None: all."""
        ...


class TokenFigures(NamedTuple):
    """Latencies of all tokens in the order of their rows, [tokens]; and what was generated, by sequence."""

    sequence: NDArray[np.int32]
    step: NDArray[np.int32]  # 0: the sequence's first token, whose latency is a TTFT
    latency_s: Floats
    wall_latency_s: Floats
    emulated_s: Floats  # when it was sampled, on the timeline
    lag_s: Floats  # how far the clock was behind the timeline then, in emulated seconds
    end_s: float  # the last token, on the timeline
    span_s: float  # from the first arrival to that
    tokens: list[list[int]]
    texts: list[str]

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether each token is its sequence's first."""
        first: NDArray[np.bool_] = self.step == 0
        return first

    @property
    def number(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class OperationFigures:
    """How long devices computed, and how much. By device; sums are in the order of the rows."""

    count: int  # of operations of all devices
    busy_s: Mapping[str, float]
    exact_busy_s: Mapping[str, float]  # rounded once
    flops: Mapping[str, float]
    bytes_read: Mapping[str, float]


def token_figures(records: RecordTables, sequences: Sequence[SequenceRow], dilation: float) -> TokenFigures:
    """Read the table of tokens; `sequences` are the rows of those that have ended."""
    columns = ("sequence", "step", "latency_s", "wall_latency_s", "wall_s", "emulated_s")
    values: list[list[NDArray[Any]]] = [[np.empty(0, np.int32)] * 2 + [np.empty(0)] * 4]
    begin_s, end_s = np.inf, 0.0
    for table in records.read("tokens", columns):
        *kept, wall_s, emulated_s = (column_of(table, name) for name in columns)  # [rows] each
        values.append([*kept, emulated_s, wall_s / dilation - emulated_s])
        _, step, latency_s, _ = kept
        begin_s = min(begin_s, np.min((emulated_s - latency_s)[step == 0], initial=np.inf))
        end_s = max(end_s, np.max(emulated_s, initial=0.0))
    sequence, step, latency_s, wall_latency_s, all_emulated_s, lag_s = (
        np.concatenate(parts) for parts in zip(*values, strict=True)
    )
    ids, texts = _generated(records, sequences)
    return TokenFigures(
        sequence=sequence,
        step=step,
        latency_s=latency_s,
        wall_latency_s=wall_latency_s,
        emulated_s=all_emulated_s,
        lag_s=lag_s,
        end_s=float(end_s),
        span_s=float(end_s - (begin_s if begin_s < np.inf else 0.0)),
        tokens=ids,
        texts=texts,
    )


def _generated(records: RecordTables, sequences: Sequence[SequenceRow]) -> tuple[list[list[int]], list[str]]:
    """Tokens and text of every sequence, in the order of their steps."""
    numbers, pieces = [np.empty((3, 0), np.int64)], list[str]()
    for table in records.read("tokens", ("sequence", "step", "token", "text")):
        numbers.append(np.array([column_of(table, name) for name in ("sequence", "step", "token")], np.int64))
        pieces += table.column("text").to_pylist()
    sequence, step, token = np.concatenate(numbers, axis=1)  # [tokens] each
    order = np.lexsort((step, sequence))  # Arrow's own takes 50 ms to load
    tails = {row.sequence: row.tail_text for row in sequences}
    ids, texts = [], []
    for number in range(int(sequence.max(initial=-1)) + 1):
        here = order[slice(*np.searchsorted(sequence, [number, number + 1], sorter=order))]
        ids.append(token[here].tolist())
        texts.append("".join([pieces[at] for at in here.tolist()]) + tails.get(number, ""))
    return ids, texts


def token_counts(records: RecordTables) -> list[int]:
    """Count the tokens of each sequence."""
    counts = np.zeros(0, np.int64)  # [sequences]
    for table in records.read("tokens", ("sequence",)):
        found = np.bincount(column_of(table, "sequence"))
        longer, shorter = (counts, found) if len(counts) >= len(found) else (found, counts)
        counts = longer.copy()
        counts[: len(shorter)] += shorter
    return [int(count) for count in counts]


def operation_figures(records: RecordTables) -> OperationFigures:
    """Read from the table of operations how long devices computed, and how much."""
    count, totals = 0, dict[str, NDArray[np.float64]]()  # by device: seconds, arithmetic operations, bytes
    exact_s: dict[str, ExactSum] = defaultdict(ExactSum)
    for table in records.read("ops", ("device", "start_s", "end_s", "flops", "bytes_read")):
        durations_s = column_of(table, "end_s") - column_of(table, "start_s")  # [rows]
        columns = np.stack(
            [durations_s, column_of(table, "flops"), column_of(table, "bytes_read")], axis=1
        )  # [rows, 3]
        count += len(columns)
        for device, values in by_name(table, "device", columns):
            before = totals.get(device, np.zeros(3))
            totals[device] = np.cumsum(np.concatenate([before[None], values]), axis=0)[-1]
            exact_s[device].add(values[:, 0].tolist())
    busy_s, flops, bytes_read = ({name: float(sums[at]) for name, sums in totals.items()} for at in range(3))
    return OperationFigures(count, busy_s, {name: total.value for name, total in exact_s.items()}, flops, bytes_read)


def sequence_rows(records: RecordTables) -> list[SequenceRow]:
    """Read the rows of all sequences that have ended, in the order of the sequences."""
    return sorted(SequenceRow(**row) for table in records.read("sequences") for row in table.to_pylist())


class MigrationFigures(NamedTuple):
    """Blocks that moved, and when."""

    totals: dict[str, Any]
    spans_s: dict[int, tuple[float, float]]  # by epoch: from the beginning of the transfer to its end


def migration_figures(records: RecordTables) -> MigrationFigures:
    """Count what moved, what was sent for it, and how long tokens waited."""
    count = sent_bytes = 0
    pauses_s: dict[int, float] = {}  # by epoch that was committed
    epochs: set[int] = set()
    spans_s: dict[int, tuple[float, float]] = {}
    columns = ("epoch", "bytes", "began_s", "ended_s", "pause_s", "outcome")
    for table in records.read("migrations", columns):
        for row in table.to_pylist():
            epochs.add(row["epoch"])
            spans_s[row["epoch"]] = row["began_s"], row["ended_s"]
            sent_bytes += row["bytes"]
            if row["outcome"] == "committed":
                count += 1
                pauses_s[row["epoch"]] = row["pause_s"]
    totals = {
        "count": count,
        "bytes": sent_bytes,
        "ms": 1000 * sum(pauses_s.values()),
        "changes": len(pauses_s),
        "aborted": len(epochs - pauses_s.keys()),
    }
    return MigrationFigures(totals, spans_s)


class DecisionFigures(NamedTuple):
    """Processor times that the policy took, and times on the timeline, [decisions], and why placements were kept."""

    took_s: Floats
    charged_s: Floats
    problems: list[str]
    given_up: str | None
    failed: list[str]  # problems of decisions that failed or could not be used
    refused: list[str]  # problems of those that devices refused
    cut: list[str]  # problems of those that the limit cut, so that what had been offered until then was used


def decision_figures(records: RecordTables) -> DecisionFigures:
    """Read the table of decisions."""
    took_s, charged_s, problems, given_up = [], [], list[str](), None
    by_event: dict[str, list[str]] = defaultdict(list)
    for table in records.read("decisions"):
        took_s.append(_known(table, "took_s"))
        charged_s.append(_known(table, "charged_s"))
        for row in (DecisionRow(**row) for row in table.to_pylist()):
            if not row.problem:
                continue
            where = "" if row.event == "given up" else f"sequence {row.sequence}, step {row.step}: "
            problems.append(f"{where}{row.problem}")
            by_event[row.event].append(problems[-1])
            if row.event == "given up":
                given_up = row.problem
    times_s, charges_s = (np.concatenate([np.empty(0), *parts]) for parts in (took_s, charged_s))
    failed, refused, cut = (by_event[event] for event in ("decided", "refused", "cut"))
    return DecisionFigures(times_s, charges_s, problems, given_up, failed, refused, cut)


def largest_by_device(records: RecordTables, column: str) -> dict[str, int]:
    """Find the largest value of a column of the table of devices, by device."""
    largest: dict[str, int] = {}
    for table in records.read("devices", ("device", column)):
        for device, values in by_name(table, "device", column_of(table, column)):
            largest[device] = max(largest.get(device, 0), int(values.max()))
    return largest


def total_by_device(records: RecordTables, column: str) -> dict[str, float]:
    """Add up a column of the table of devices, by device; those with nothing are left out."""
    total: dict[str, float] = defaultdict(float)
    for table in records.read("devices", ("device", column)):
        for device, values in by_name(table, "device", column_of(table, column)):
            total[device] += float(values.sum())
    return {device: value for device, value in total.items() if value}


def message_count(records: RecordTables) -> int:
    """Count the messages of steps."""
    return sum(int(column_of(table, "messages").sum()) for table in records.read("links", ("messages",)))


def column_of(table: "pa.Table", column: str) -> NDArray[Any]:
    """Return a column of numbers: [rows]."""
    values: NDArray[Any] = table.column(column).to_numpy()
    return values


def _known(table: "pa.Table", column: str) -> NDArray[Any]:
    """Numbers of a column that has null for some, without those."""
    values = column_of(table, column)  # null: NaN
    known: NDArray[Any] = values[~np.isnan(values)]
    return known


def by_name(table: "pa.Table", column: str, values: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the values of each name in the order of their rows; names in the order in which they first appear."""
    chunk = table.column(column).unify_dictionaries().combine_chunks()
    for part in getattr(chunk, "chunks", [chunk]):
        indices = part.indices.to_numpy()  # [rows]
        order = np.argsort(indices, kind="stable")
        present, begins, counts = np.unique(indices[order], return_index=True, return_counts=True)  # [names] each
        for at in np.argsort(order[begins]).tolist():
            begin = int(begins[at])
            yield part.dictionary[int(present[at])].as_py(), values[order[begin : begin + int(counts[at])]]
