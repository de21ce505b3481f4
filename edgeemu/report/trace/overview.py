"""The part of a trace that shows the whole run: tokens, memory, load, bandwidth, decisions, changes of placement."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.report.critical.recorded_steps import NONE, Names, RecordedTokens, token_of
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.rows import MEMORY_COLUMNS
from edgeemu.report.statistics import Floats
from edgeemu.report.trace.events import Integers, TraceWriter, event_lines, microseconds, nanoseconds, numbers, texts
from edgeemu.report.trace.tracks import CHANGES, LINKS, TOKENS, Tracks

if TYPE_CHECKING:
    import pyarrow as pa

MAX_MEMORY_ROWS = 200_000  # of the table of devices; of longer runs every second token is shown, or every third …
_SAME_BANDWIDTH = 1e-9  # relative difference: rounding


def joined(begin_ns: Integers, end_ns: Integers) -> Integers:
    """Ends of spans that follow each other without a gap, less what rounding makes them overlap: [n], sorted."""
    ends = end_ns.copy()
    over = ends[:-1] - begin_ns[1:]
    ends[:-1] -= np.where((over > 0) & (over <= 2), over, 0)
    return ends


def write_tokens(writer: TraceWriter, tracks: Tracks, records: RecordTables) -> None:
    """Write a slice for each token, on the track of its sequence: from the token before it, or its arrival."""
    import pyarrow as pa

    columns = ("sequence", "step", "token", "text", "released_s", "emulated_s", "latency_s")
    pieces = [table.select(columns) for table in records.read("tokens", columns)]
    if not pieces:
        return
    table = pa.concat_tables(pieces).sort_by([("sequence", "ascending"), ("step", "ascending")])
    sequence, step, _, _, released_s, end_s, latency_s = (table.column(name).to_numpy() for name in columns)
    begin_ns = nanoseconds(end_s - latency_s)
    end_ns = nanoseconds(end_s)
    for number in np.unique(sequence).tolist():
        mine = sequence == number
        end_ns[mine] = joined(begin_ns[mine], end_ns[mine])
    threads = {number: tracks.thread(TOKENS, f"sequence {number}") for number in np.unique(sequence).tolist()}
    names = [f"token {number}" for number in step.tolist()]
    fields = {
        "ph": '"X"',
        "cat": '"token"',
        "name": texts(names),
        "pid": str(TOKENS),
        "tid": numbers(np.array([threads[number] for number in sequence.tolist()])),
        "ts": microseconds(begin_ns),
        "dur": microseconds(end_ns - begin_ns),
    }
    args = {
        "sequence": numbers(sequence),
        "step": numbers(step),
        "text": texts(table.column("text").to_pylist()),
        "token": numbers(table.column("token").to_numpy()),
        "released_s": numbers(released_s),
        "latency_ms": numbers(1000 * latency_s),
    }
    writer.write(event_lines(fields, args))


def write_memory(writer: TraceWriter, tracks: Tracks, records: RecordTables, tokens: RecordedTokens) -> None:
    """Write the memory that devices hold at the end of tokens, by kind."""
    names = Names()
    every = 1 + sum(len(table) for table in records.read("devices", ("step",))) // MAX_MEMORY_ROWS
    for table in records.read("devices", ("device", "sequence", "step", *MEMORY_COLUMNS)):
        device, at = names.device(table, "device"), _tokens_of(table, tokens)
        kept = (at != NONE) & (column_of(table, "step") % every == 0)
        if not kept.any():
            continue
        processes = np.array([tracks.device(name) for name in names.devices])[device[kept]]
        args = {column.removesuffix("_bytes"): numbers(column_of(table, column)[kept]) for column in MEMORY_COLUMNS}
        writer.write(_counters("memory", processes, tokens.sampled_s[at[kept]], args))


def write_conditions(writer: TraceWriter, tracks: Tracks, records: RecordTables) -> None:
    """Write the true speed of devices, and the memory that they have, where they change."""
    names = Names()
    for table in records.read("conditions", ("device", "at_s", "speed", "memory_bytes")):
        device, at_s = names.device(table, "device"), column_of(table, "at_s")
        processes = np.array([tracks.device(name) for name in names.devices], np.int64)[device]
        for name, unit, column in (("speed", "share", "speed"), ("memory for the run", "bytes", "memory_bytes")):
            writer.write(_counters(name, processes, at_s, {unit: numbers(column_of(table, column))}))


def write_bandwidth(writer: TraceWriter, records: RecordTables, tokens: RecordedTokens) -> None:
    """Write the bandwidth of each path that was used, where it is not as before."""
    names = Names()
    known_bps: dict[tuple[int, int], float] = {}
    for table in records.read("links", ("source", "target", "sequence", "step", "bytes", "transfer_s")):
        ends = names.device(table, "source"), names.device(table, "target")
        at, size, transfer_s = _tokens_of(table, tokens), column_of(table, "bytes"), column_of(table, "transfer_s")
        used = np.flatnonzero((at != NONE) & (transfer_s > 0))
        bandwidth_bps = 8.0 * size[used] / transfer_s[used]
        rows = zip(*(column[used].tolist() for column in ends), tokens.released_s[at[used]].tolist(), strict=True)
        changed = []
        for (source, target, at_s), now_bps in zip(rows, bandwidth_bps.tolist(), strict=True):
            before_bps = known_bps.get((source, target), 0.0)
            if abs(now_bps - before_bps) > _SAME_BANDWIDTH * now_bps:
                known_bps[source, target] = now_bps
                path = f"{names.devices[source]} -> {names.devices[target]}"
                changed.append(_bandwidth(path, at_s, now_bps))
        writer.write(changed)


def _bandwidth(path: str, at_s: float, bandwidth_bps: float) -> dict[str, Any]:
    return {"ph": "C", "name": path, "pid": LINKS, "ts": _us(at_s), "args": {"Mbit/s": bandwidth_bps / 1e6}}


def _counters(name: str, processes: Integers, at_s: Floats, args: dict[str, Any]) -> "pa.Array":
    """Make counters of one name, of a process each."""
    fields = {"ph": '"C"', "name": f'"{name}"', "pid": numbers(processes), "ts": microseconds(nanoseconds(at_s))}
    return event_lines(fields, args)


def _tokens_of(table: "pa.Table", tokens: RecordedTokens) -> NDArray[np.integer[Any]]:
    """Index of the token of each row; NONE: it was not recorded."""
    return token_of(tokens, *(column_of(table, name) for name in ("sequence", "step")))


def write_changes(writer: TraceWriter, tracks: Tracks, records: RecordTables, tokens: RecordedTokens) -> None:
    """Write decisions that changed the placement or had a problem, and migrations with the pause of their token."""
    writer.write(list(_decisions(tracks, records, tokens)))
    writer.write(list(_migrations(records)))


def _decisions(tracks: Tracks, records: RecordTables, tokens: RecordedTokens) -> Iterator[dict[str, Any]]:
    begin_s = tokens.sampled_s - tokens.latency_s
    thread = tracks.thread(CHANGES, "decisions")
    for table in records.read("decisions"):
        for at, row in zip(_tokens_of(table, tokens).tolist(), table.to_pylist(), strict=True):
            if at == NONE or (row["event"] == "decided" and row["moves"] is None and not row["problem"]):
                continue
            moves = "" if row["moves"] is None else f": {row['moves']} blocks to move"
            told = {key: value for key, value in row.items() if value not in (None, "")}
            place = {"ph": "i", "s": "t", "cat": "decision", "pid": CHANGES, "tid": thread}
            yield {**place, "name": row["event"] + moves, "ts": _us(float(begin_s[at])), "args": told}


def _migrations(records: RecordTables) -> Iterator[dict[str, Any]]:
    """Slices of changes of placement, and of the pauses in them: two tracks."""
    rows = [row for table in records.read("migrations") for row in table.to_pylist()]
    for epoch in sorted({row["epoch"] for row in rows}):
        blocks = [row for row in rows if row["epoch"] == epoch]
        began_s, ended_s = min(row["began_s"] for row in blocks), max(row["ended_s"] for row in blocks)
        pause_s = max(row["pause_s"] for row in blocks)
        moved: dict[str, int] = {}
        for row in blocks:
            path = f"{row['source']} -> {row['target']}"
            moved[path] = moved.get(path, 0) + 1
        args = {
            **{key: blocks[0][key] for key in ("sequence", "step", "epoch", "outcome")},
            "blocks": len(blocks),
            "bytes": sum(row["bytes"] for row in blocks),
            **moved,
        }
        yield from _span("migration", epoch, began_s, ended_s, args)
        if pause_s > 0:
            yield from _span("pause", epoch, ended_s - pause_s, ended_s, {"epoch": epoch, "step": blocks[0]["step"]})


def _span(name: str, number: int, begin_s: float, end_s: float, args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"cat": name, "name": name, "id2": {"local": str(number)}, "pid": CHANGES, "tid": 0}
    yield {**place, "ph": "b", "ts": _us(begin_s), "args": args}
    yield {**place, "ph": "e", "ts": _us(end_s)}


def _us(time_s: float) -> float:
    return round(time_s * 1e9) / 1000
