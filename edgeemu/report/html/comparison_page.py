"""Page of a comparison: the table, the pictures, and how far each run can be trusted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeemu.report.comparison import FIGURES, comparison_lines, comparison_table
from edgeemu.report.critical.breakdown import WORDS
from edgeemu.report.critical.critical_path import TimePart
from edgeemu.report.drawn.across_runs import ComparedRun
from edgeemu.report.drawn.sheet import Drawing
from edgeemu.report.formats import Table, counted, ms_text, percent_text
from edgeemu.report.html.page import Section, Tile, render


def comparison_page(
    document: Mapping[str, Any], runs: Sequence[ComparedRun], drawings: Sequence[Drawing]
) -> Iterator[str]:
    """Yield the page of a comparison from the document of `edgeemu compare --json`, its runs, and its pictures."""

    def of(name: str) -> list[Drawing]:
        return [drawing for drawing in drawings if drawing.name == name]

    sections = [
        Section("figures", "Figures", comparison_lines(document), [comparison_table(document)], of("gap")),
        Section("time", "Where the time went", (), _parts_tables(runs), of("compared-parts")),
        Section("tokens", "Time against tokens", (), (), of("time-against-tokens")),
        Section("scaling", "Scaling with devices", (), (), of("scaling")),
        Section("runs", "Runs", (), [_run_table(document)]),
    ]
    rows = document["policies"]
    subtitle = f"{counted(len(rows), 'row')}, {counted(sum(len(row['runs']) for row in rows), 'run')}"
    return render(f"{document['scenario']}: comparison", subtitle, _tiles(document), sections)


def _tiles(document: Mapping[str, Any]) -> list[Tile]:
    figure = next(each for each in FIGURES if each.key == document["judged_by"])
    tiles = []
    for row in document["policies"][:3]:
        value = row["figures"].get(figure.key, {}).get("median") if row["figures"] else None
        if value is not None:
            behind = "first" if row["gap"] == 0 else f"+{percent_text(row['gap'], 1)}"
            tiles.append(Tile(row["policy"], f"{value:.4g} {figure.unit}".strip(), behind))
    bound = document["bounds"].get(figure.key)
    if bound is not None:
        tiles.append(Tile("no placement can beat", f"{bound:.4g} {figure.unit}".strip()))
    return tiles


def _parts_tables(runs: Sequence[ComparedRun]) -> list[Table]:
    kinds = [part for part in TimePart if any(run.lost.parts_ms.get(part) for run in runs)]
    rows = [
        [run.label, ms_text(run.lost.total_ms), *(ms_text(run.lost.parts_ms.get(part, 0.0)) for part in kinds)]
        for run in {run.label: run for run in reversed(runs)}.values()
        if run.lost.tokens
    ]
    return [Table(("run", ">per token", *(f">{WORDS[part]}" for part in kinds)), rows[::-1])] if rows else []


def _run_table(document: Mapping[str, Any]) -> Table:
    rows = [
        [row["policy"], directory, row["certificate"] or ""]
        for row in document["policies"]
        for directory in row["runs"]
    ]
    return Table(("run", "records", "certificate"), rows)
