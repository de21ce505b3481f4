"""Tables of the work of devices and the traffic of paths, added up over all tokens of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeemu.report.figures import RecordTables
from edgeemu.report.formats import Table, ms_text, path_text, share_text, size
from edgeemu.report.rows import MEMORY_COLUMNS
from edgeemu.units import ENERGY

MAX_ROWS = 32  # devices that computed longest, and paths that carried most; the rest is in the tables of the run
_DEVICES = (*MEMORY_COLUMNS, "busy_s", "queue_s", "energy_j")
_LINKS = ("messages", "bytes", "transit_s", "queue_s", "energy_j")


def usage_tables(records: RecordTables, utilisation: Mapping[str, Mapping[str, float | None]]) -> list[Table]:
    """Make the tables of devices and of links; none of a run without a row of them. `utilisation`: of its summary."""
    tables = [device_table(records, utilisation)]
    links = totals_by_name(records, "links", ("source", "target"), _LINKS)
    return [table for table in (*tables, _link_table(links)) if table.rows]


@dataclass(slots=True)
class Total:
    """Sum and largest value of a column; the sum is None where a value is."""

    sum: float | None = 0
    largest: float = 0

    def add(self, total: float, largest: float, *, known: bool) -> None:
        self.sum = self.sum + total if known and self.sum is not None else None
        self.largest = max(self.largest, largest)


Totals = Mapping[tuple[str, ...], Mapping[str, Total]]


def totals_by_name(records: RecordTables, table: Any, names: tuple[str, ...], columns: tuple[str, ...]) -> Totals:
    """Add up columns of a table by the names in others."""
    totals: dict[tuple[str, ...], dict[str, Total]] = {}
    functions = [(column, function) for column in columns for function in ("sum", "max", "count")]
    for rows in records.read(table, (*names, *columns)):
        grouped = rows.group_by(list(names)).aggregate([*functions, ([], "count_all")])
        for row in grouped.to_pylist():
            mine = totals.setdefault(tuple(row[name] for name in names), {column: Total() for column in columns})
            for column in columns:
                known = row[f"{column}_count"] == row["count_all"]
                mine[column].add(row[f"{column}_sum"] or 0, row[f"{column}_max"] or 0, known=known)
    return totals


def device_table(records: RecordTables, utilisation: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Make the table of devices. `utilisation`: of the run's summary."""
    totals = totals_by_name(records, "devices", ("device",), _DEVICES)
    by_work = sorted(totals.items(), key=lambda item: item[1]["busy_s"].sum or 0, reverse=True)
    rows = [
        [
            name,
            *(size(total[column].largest) for column in MEMORY_COLUMNS),
            *(_seconds(total[column].sum) for column in ("busy_s", "queue_s")),
            *(share_text(utilisation.get(name, {}).get(key)) for key in ("mbu", "mfu")),
            _joules(total["energy_j"].sum),
        ]
        for (name,), total in by_work[:MAX_ROWS]
    ]
    if len(by_work) > MAX_ROWS:
        rows.append([f"and {len(by_work) - MAX_ROWS} less busy", *[""] * 10])
    kinds = (f">{column.removesuffix('_bytes')}" for column in MEMORY_COLUMNS)
    may_go = ("incoming", "messages", "workspace", "queued", "cache", "MFU", "compute energy")
    return Table(("device", *kinds, ">busy", ">queued", ">MBU", ">MFU", ">compute energy"), rows, may_go)


def _link_table(totals: Totals) -> Table:
    by_bytes = sorted(totals.items(), key=lambda item: item[1]["bytes"].sum or 0, reverse=True)
    rows = [
        [
            path_text(source, target),
            str(total["messages"].sum),
            size(total["bytes"].sum or 0),
            *(ms_text(_mean_ms(total[column], total["messages"])) for column in ("transit_s", "queue_s")),
            _joules(total["energy_j"].sum),
        ]
        for (source, target), total in by_bytes[:MAX_ROWS]
    ]
    if len(by_bytes) > MAX_ROWS:
        rows.append([f"and {len(by_bytes) - MAX_ROWS} with less", *[""] * 5])
    columns = ("path", ">messages", ">bytes", ">mean time", ">of that queued", ">radio energy")
    return Table(columns, rows, ("radio energy", "messages", "of that queued"))


def _mean_ms(seconds: Total, messages: Total) -> float | None:
    return 1000 * seconds.sum / messages.sum if seconds.sum is not None and messages.sum else None


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f} s"


def _joules(value: float | None) -> str:
    return "–" if value is None else ENERGY.format_human(value)
