"""Costs of faults in a run: figures of its faults and recoveries, and lines about them. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any

from edgeemu.cluster.faults import FaultKind
from edgeemu.links.stalls import STALL_S
from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import RecordTables, column_of
from edgeemu.report.formats import Table, counted, ms_text, percent_text, size
from edgeemu.report.rows import GIVEN_UP, FaultRow, RecoveryRow
from edgeemu.report.statistics import ExactSum, statistics_ms

_OUTAGES = (FaultKind.DOWN, FaultKind.STALL, FaultKind.PARTITION)


def failures_document(records: RecordTables, facts: RunFacts, begin_s: float, end_s: float) -> dict[str, Any] | None:
    """Figures of faults and recoveries, for summary.json; None if there were none, and nobody looks for any.

    `availability` is the share of the time from the first arrival (`begin_s`) to the last token that is in no recovery:
    one lasts from the fault until steps go on.
    """
    faults = list(_faults(records))
    recoveries = [RecoveryRow(**row) for table in records.read("recoveries") for row in table.to_pylist()]
    if not faults and not recoveries and facts.heartbeat is None:
        return None
    span_s = max(0.0, end_s - begin_s)
    down_s = _in_any_s([(max(row.began_s, begin_s), min(row.restored_s, end_s)) for row in recoveries])
    names = "notice_ms", "decide_ms", "place_ms", "fill_ms"
    parts_s = [_parts_s(row) for row in recoveries]
    spent_s = {name: [each[number] for each in parts_s] for number, name in enumerate(names)}
    spent_s["down_ms"] = [row.restored_s - row.began_s for row in recoveries]
    return {
        "faults": dict(Counter(row.kind for row in faults if row.moment == "begins" and row.kind != "join")),
        "joined": sum(row.kind == "join" for row in faults),
        "recoveries": len(recoveries),
        "failed": next((row.outcome for row in recoveries if row.outcome != "recovered"), ""),
        **{name: statistics_ms(values) for name, values in spent_s.items()},
        "blocks": sum(row.blocks for row in recoveries),
        "moves": sum(row.moves for row in recoveries),
        "bytes": sum(row.bytes for row in recoveries),
        "rows": sum(row.rows for row in recoveries),
        "given_up": _given_up(records) if recoveries else None,
        "delayed": sum(row.sequences for row in recoveries),
        "heartbeat": _heartbeat(facts, span_s),
        "availability": max(0.0, 1.0 - down_s / span_s) if span_s > 0 else None,
    }


def _in_any_s(spans: Iterable[tuple[float, float]]) -> float:
    """Time that is in any of some spans: one device can be lost, and not noticed, as the run recovers from another."""
    sum_s, until_s = 0.0, -inf
    for begin_s, end_s in sorted(spans):
        sum_s += max(0.0, end_s - max(begin_s, until_s))
        until_s = max(until_s, end_s)
    return sum_s


def _given_up(records: RecordTables) -> dict[str, float]:
    """Count what devices computed for steps that were given up."""
    operations, busy_s = 0, ExactSum()
    for table in records.read("ops", ("step", "start_s", "end_s")):
        step, start_s, end_s = (column_of(table, name) for name in ("step", "start_s", "end_s"))
        spent_s = (end_s - start_s)[step == GIVEN_UP]
        operations += len(spent_s)
        busy_s.add(spent_s.tolist())
    return {"operations": operations, "ms": 1000 * busy_s.value}


def _faults(records: RecordTables) -> Iterator[FaultRow]:
    return (FaultRow(**row) for table in records.read("faults") for row in table.to_pylist())


def _heartbeat(facts: RunFacts, span_s: float) -> dict[str, float] | None:
    """Count what heartbeats send while a run lasts: a beat of every device and its answer, at each interval."""
    if facts.heartbeat is None:
        return None
    beats = int(max(0.0, span_s) / facts.heartbeat.interval_s) * len(facts.devices)
    return {"beats": beats, "bytes": 2 * beats * facts.heartbeat.size_bytes}


def link_outages(records: RecordTables) -> int:
    """Count faults by which links let nothing pass."""
    return sum(row.kind in _OUTAGES and row.moment == "begins" for row in _faults(records))


def without_hangs(records: RecordTables, stalled_s: Mapping[str, float], dilation: float) -> dict[str, float]:
    """Return how long devices stood still by the clock, without the faults that had them stand still."""
    left_s, began_s = dict(stalled_s), dict[str, float]()
    for row in _faults(records):
        if row.kind == "hang" and row.moment == "begins":
            began_s[row.what] = row.at_s
        elif row.kind == "hang" and row.moment == "over" and row.what in left_s:
            left_s[row.what] -= dilation * (row.at_s - began_s.pop(row.what, row.at_s)) + STALL_S
    return {device: device_s for device, device_s in left_s.items() if device_s > 0.0}


def recovery_table(records: RecordTables) -> Table:
    """Make a table of the recoveries of a run, with the time that each part took."""
    recoveries = [RecoveryRow(**row) for table in records.read("recoveries") for row in table.to_pylist()]
    columns = ("lost", ">at", ">noticed after", ">decided in", ">placed in", ">filled in", ">cache rows", "outcome")
    rows = [
        [
            row.lost,
            f"{row.began_s:.3g} s",
            *(ms_text(1000 * max(0.0, spent_s)) for spent_s in _parts_s(row)),
            str(row.rows),
            row.outcome,
        ]
        for row in recoveries
    ]
    return Table(columns, rows, ("decided in", "cache rows"))


def _parts_s(row: RecoveryRow) -> tuple[float, float, float, float]:
    """Times to notice, to decide, to place blocks and to fill caches."""
    decided_s = max(row.decided_s, row.noticed_s)
    placed_s = max(row.placed_s, decided_s)
    return row.noticed_s - row.began_s, decided_s - row.noticed_s, placed_s - decided_s, row.restored_s - placed_s


def failure_lines(failures: Mapping[str, Any] | None) -> Iterator[str]:
    """Lines about faults and recoveries, for people."""
    if failures is None:
        return
    if not failures["faults"] and not failures["joined"] and not failures["recoveries"]:
        return
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(failures["faults"].items()))
    joined = f"; {counted(failures['joined'], 'device')} joined" if failures["joined"] else ""
    yield f"faults: {kinds or 'none of the scenario'}{joined}"
    if failures["recoveries"]:
        parts = [
            f"{word} {ms_text(failures[key]['mean'])}"
            for key, word in (
                ("notice_ms", "noticed after"),
                ("decide_ms", "decided in"),
                ("place_ms", "blocks placed in"),
                ("fill_ms", "caches filled in"),
            )
            if failures[key]["mean"]
        ]
        mean = " (mean)" if failures["recoveries"] > 1 else ""
        told = f"{failures['recoveries']} recoveries" if failures["recoveries"] > 1 else "1 recovery"
        yield f"{told}{mean}: {', '.join(parts) or 'at once'}; {failures['rows']} cache rows computed again"
        if failures["given_up"]["operations"]:
            lost = failures["given_up"]
            yield f"steps given up: {counted(lost['operations'], 'operation')}, {ms_text(lost['ms'])} of computing"
    if failures["availability"] is not None and failures["recoveries"]:
        yield f"available {percent_text(failures['availability'], 2)} of the time"
    if failures["heartbeat"]:
        beats = failures["heartbeat"]
        yield f"heartbeats: {counted(beats['beats'], 'beat')} with their answers, {size(beats['bytes'])}"
    if failures["failed"]:
        yield f"not recovered: {failures['failed']}"
