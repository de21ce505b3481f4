"""Decisions of a run: what was measured, what was done, what was expected of it, and what it gained. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeemu.report.drawn.run_data import Epoch, RunData
from edgeemu.report.formats import Table, counted, ms_text, size
from edgeemu.report.rows import DecisionRow

MAX_ROWS = 100
AROUND = 4  # tokens before and after a change whose median latency is told


def change_lines(data: RunData, summary: Mapping[str, Any]) -> list[str]:
    """Say how often the policy was asked, and what became of that."""
    decisions = summary["decisions"]
    if not decisions["count"]:
        return ["The policy was not asked again."]
    asked = [row for row in data.decisions if row.event in ("decided", "cut") and row.took_s is not None]
    kept = sum(row.moves is None for row in asked)
    lines = [
        f"The policy was asked {counted(len(asked), 'time')} where blocks should be, and kept the placement "
        f"{counted(kept, 'time')}. "
        f"A decision took {ms_text(summary['controller_ms']['mean'])} of processor time."
    ]
    if decisions["given_up"]:
        lines.append(f"It is no longer asked: {decisions['given_up']}.")
    if data.changes:
        lines.append(
            f"Latencies before and after are medians of {AROUND} tokens next to a change, without the one that waited."
        )
    return lines


def change_table(data: RunData) -> Table:
    """Make the table of decisions that changed something or met a problem."""
    rows = [row for row in data.decisions if row.moves is not None or row.problem]
    shown = [_cells(data, row) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        shown.append([f"and {len(rows) - MAX_ROWS} more", *[""] * 8])
    headings = (
        "before token",
        "measured",
        "decided",
        ">expected before",
        ">after",
        ">wait expected",
        ">waited",
        ">measured before",
        ">after",
    )
    return Table(headings, shown)


def _cells(data: RunData, row: DecisionRow) -> list[str]:
    where = str(row.step + 1) if not row.sequence else f"{row.step + 1} of sequence {row.sequence + 1}"
    epoch = next((each for each in data.changes if (each.sequence, each.step) == (row.sequence, row.step)), None)
    moved = next((each for each in data.moved if (each.sequence, each.step) == (row.sequence, row.step)), None)
    made = moved is None or moved.outcome == "committed"
    what = row.event if row.moves is None else f"{counted(row.moves, 'block')} {'moved' if made else 'to move'}"
    if row.problem:
        what = f"{what}: {row.problem}"
    if moved is not None:
        what += f", {size(moved.bytes)} sent" if made else f"; {moved.outcome}"
    before_ms, after_ms = (None, None) if epoch is None else _around(data, epoch)
    expected = [None if value is None else 1000 * value for value in (row.before_s, row.after_s, row.migration_s)]
    waited_ms = None if moved is None else 1000 * moved.pause_s
    return [where, row.why, what, *(_ms(value) for value in (*expected, waited_ms, before_ms, after_ms))]


def _around(data: RunData, epoch: Epoch) -> tuple[float | None, float | None]:
    """Median latencies before and after a change, in milliseconds."""
    tokens = data.tokens
    others = [each.at_s for each in data.changes if each.number != epoch.number]
    since_s = max((at_s for at_s in others if at_s < epoch.at_s), default=-np.inf)
    until_s = min((at_s for at_s in others if at_s > epoch.at_s), default=np.inf)
    later = ~tokens.first
    begin_s = tokens.emulated_s - tokens.latency_s
    before = later & (tokens.emulated_s <= epoch.at_s) & (begin_s >= since_s)
    after = later & (begin_s >= epoch.at_s) & (tokens.emulated_s <= until_s)
    found = []
    for chosen, ends in ((before, slice(-AROUND, None)), (after, slice(0, AROUND))):
        order = np.flatnonzero(chosen)
        order = order[np.argsort(tokens.emulated_s[order], kind="stable")][ends]
        found.append(float(1000 * np.median(tokens.latency_s[order])) if len(order) else None)
    return found[0], found[1]


def _ms(value: float | None) -> str:
    return "" if value is None else ms_text(value)
