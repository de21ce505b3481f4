"""Page of one run: what is said, tabled and drawn of it, in which order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeemu.cluster.cluster import Cluster
from edgeemu.report.basis import basis_line
from edgeemu.report.certificate import TELLS_WHAT_IT_MEANS
from edgeemu.report.critical.breakdown import breakdown_lines, breakdown_tables
from edgeemu.report.drawn.run_data import RunData
from edgeemu.report.drawn.run_drawings import Topic, run_drawings
from edgeemu.report.failures import failure_lines, recovery_table
from edgeemu.report.figures import RecordTables
from edgeemu.report.formats import Table, counted, ms_text, number_text, size
from edgeemu.report.html.changes import change_lines, change_table
from edgeemu.report.html.page import Section, Tile, render
from edgeemu.report.html.use_tables import link_table, placement_tables
from edgeemu.report.summary_tables import ENDED, summary_lines, summary_tables
from edgeemu.report.usage_tables import device_table
from edgeemu.units import ENERGY

MAX_TEXTS = 50  # sequences whose text is shown
MAX_LETTERS = 400_000  # of all of them


def run_page(
    records: RecordTables,
    data: RunData,
    summary: Mapping[str, Any],
    cluster: Cluster | None,
    what_if: tuple[Sequence[Table], Sequence[str]] = ((), ()),
) -> Iterator[str]:
    """Yield the page of a run. `what_if`: tables and sentences about what would help, if they were asked for."""
    drawn = run_drawings(data, cluster)
    *latencies, memory = summary_tables(summary)
    devices = _rows(device_table(records, summary["utilisation"]))
    lines = summary_lines(summary)
    sections = [
        Section("text", "Text", _text_lines(summary), texts=_texts(summary)),
        Section("latency", "Latency", lines[:1], latencies, drawn[Topic.LATENCY]),
        Section(
            "time",
            "Where the time went",
            [*breakdown_lines(data.lost), *what_if[1]],
            [*breakdown_tables(data.lost, summary["utilisation"]), *what_if[0]],
            drawn[Topic.TIME],
        ),
        Section("devices", "Devices", _idle_lines(lines), devices, drawn[Topic.DEVICES]),
        Section("memory", "Memory", (), _rows(memory), drawn[Topic.MEMORY]),
        Section("placement", "Placement", (), placement_tables(data), drawn[Topic.PLACEMENT]),
        Section("links", "Links", (), _rows(link_table(data)), drawn[Topic.LINKS]),
        Section("decisions", "Decisions", change_lines(data, summary), _rows(change_table(data))),
        *_faults(summary, records),
        Section("trust", "How far to trust it", _trust(summary)),
        Section("run", "The run", (), [_about(summary)]),
    ]
    state = "" if summary["ended"] == "done" else f"; {ENDED[summary['ended']]}"
    subtitle = f"{summary['model']} on {counted(summary['devices'], 'device')}, policy {summary['policy']}{state}"
    return render(f"{summary['scenario']}: {summary['policy']}", subtitle, _tiles(summary), sections)


def _faults(summary: Mapping[str, Any], records: RecordTables) -> list[Section]:
    """Make the section of faults, of a run that had some."""
    lines = list(failure_lines(summary["failures"]))
    return [Section("faults", "Faults", lines, _rows(recovery_table(records)))] if lines else []


def _rows(table: Table) -> list[Table]:
    return [table] if table.rows else []


def _tiles(summary: Mapping[str, Any]) -> list[Tile]:
    tpot, ttft, energy = summary["tpot_ms"], summary["ttft_ms"], summary["energy"]
    rate, moved = summary["throughput_tok_s"], summary["migrations"]
    tiles = [
        Tile("time per token", ms_text(tpot["mean"]), f"99th percentile {ms_text(tpot['p99'])}"),
        Tile("time to first token", ms_text(ttft["mean"]), ""),
        Tile("tokens per second", "–" if rate is None else number_text(rate, 2), _count(summary)),
        Tile(
            "blocks moved", str(moved["count"]), f"{counted(moved['changes'], 'change')}, {size(moved['bytes'])} sent"
        ),
        Tile("most memory", size(summary["memory"]["peak_bytes_max"]), "of one device"),
    ]
    if energy["per_token_j"] is not None:
        tiles.append(Tile("energy per token", ENERGY.format_human(energy["per_token_j"]), ""))
    return [*tiles, Tile("certificate", summary["certificate"]["verdict"], summary["mode"])]


def _count(summary: Mapping[str, Any]) -> str:
    sequences = [tokens for tokens in summary["tokens"] if tokens]
    return f"{counted(sum(map(len, sequences)), 'token')} of {counted(len(sequences), 'sequence')}"


def _text_lines(summary: Mapping[str, Any]) -> list[str]:
    if not any(summary["tokens"]):
        return ["No token was generated."]
    if not any(summary["text"]):
        return ["Simulated: no text was generated."]
    left_out = len(summary["text"]) - MAX_TEXTS
    return [f"The first {MAX_TEXTS} of {len(summary['text'])} texts."] if left_out > 0 else []


def _texts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    texts, left = [], MAX_LETTERS
    several = len(summary["text"]) > 1
    for number, text in enumerate(summary["text"][:MAX_TEXTS]):
        if text and left > 0:
            cut = "" if len(text) <= left else " …"
            texts.append((f"Sequence {number + 1}" if several else "", text[:left] + cut))
            left -= len(text)
    return texts


def _idle_lines(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.startswith(("devices idle", "energy", "goodput"))]


def _trust(summary: Mapping[str, Any]) -> list[str]:
    certificate = summary["certificate"]
    means = f": {certificate['means']}" if certificate["verdict"] in TELLS_WHAT_IT_MEANS else ""
    basis = basis_line(summary["basis"])
    return [
        f"certificate: {certificate['verdict']}{means}",
        *certificate["reasons"],
        *([basis] if basis else []),
        *(f"limitation of this host: {limitation}" for limitation in summary["weaker"]),
    ]


def _about(summary: Mapping[str, Any]) -> Table:
    rows = [
        ("scenario", summary["scenario"]),
        ("model", summary["model"]),
        ("policy", summary["policy"]),
        ("objective", summary["objective"]),
        ("devices", str(summary["devices"])),
        ("sequences at once", str(summary["concurrency"])),
        ("time", f"{summary['mode']}, dilation {summary['dilation']:g}"),
        ("links", summary["links"]),
        ("costs", summary["cost"]),
        ("ended", summary["ended"]),
    ]
    return Table(("of this run", ""), [list(row) for row in rows])
