"""Pictures along the tokens of a run: their latency, and what it was spent on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeemu.report.critical.breakdown import WORDS
from edgeemu.report.critical.critical_path import TimePart
from edgeemu.report.drawn.bins import Bins, bins, quantiles
from edgeemu.report.drawn.palette import ALARM, DEVICES, PARTS
from edgeemu.report.drawn.run_data import RunData, part_totals, places_of_changes, token_axis
from edgeemu.report.drawn.sheet import Drawing, Sheet, beside
from edgeemu.report.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MAX_POINTS = 400  # that are drawn one by one
FAR = 4.0  # times what nearly all tokens take: those beyond would make a line of the others
MAX_MARKS = 12  # of changes of placement, on one picture


def latency_drawing(data: RunData) -> Drawing | None:
    """Latency of the tokens after the first of each sequence; None: there are none."""
    later = ~data.tokens.first
    if not later.any():
        return None
    caption = "Latency of each token after the first of its sequence, in milliseconds"
    return Drawing("latency", "Latency of tokens", caption, lambda sheet: _latency(sheet, data))


def _latency(sheet: Sheet, data: RunData) -> None:
    later = ~data.tokens.first
    axis, what = token_axis(data)
    x, y = axis[later], 1000 * data.tokens.latency_s[later]
    axes = sheet.axes(250)
    axes.grid(visible=True, axis="y")
    handles: list[Artist] = []
    if len(x) <= MAX_POINTS:
        handles += axes.plot(x, y, color=DEVICES[0].light, marker=".", markersize=4, label="latency of a token")
    else:
        along = bins(float(x.min()), float(x.max()))
        found = quantiles(along.of(x), y, along.number)
        there = ~np.isnan(found[:, 1])
        least, median, most = found[there].T
        middles = along.middles[there]
        handles.append(
            axes.fill_between(
                middles, least, most, step="mid", color=DEVICES[5].light, alpha=0.45, label="shortest to longest"
            )
        )
        handles += axes.step(middles, median, where="mid", color=DEVICES[0].light, label="median of tokens beside it")
    limit_ms, beyond = _limit(y)
    axes.set_ylim(0, limit_ms)
    axes.set(xlabel=what + beyond, ylabel="latency (ms)")
    _count_tokens(axes, data)
    handles += mark_changes(axes, data)
    sheet.legend(handles if len(handles) > 1 else [])


def _count_tokens(axes: Axes, data: RunData) -> None:
    """Have whole numbers along the axis, where tokens are counted along it."""
    if data.one_sequence:
        axes.locator_params(axis="x", integer=True)


def _limit(latencies_ms: Floats) -> tuple[float, str]:
    """Return where an axis of latencies ends, and words for the few that are far beyond all others."""
    most = float(latencies_ms.max())
    usual = float(np.quantile(latencies_ms, 0.98, method="lower"))
    if most <= FAR * usual:
        return 1.08 * most, ""
    count = int((latencies_ms > FAR * usual).sum())
    return FAR * usual, f"; {count} beyond, up to {most:,.0f} ms"


def mark_changes(axes: Axes, data: RunData) -> list[Artist]:
    """Mark the instants at which the placement changed; return one of the lines for a legend."""
    places = places_of_changes(data)
    if not len(places):
        return []
    shown = places if len(places) <= MAX_MARKS else places[np.linspace(0, len(places) - 1, MAX_MARKS).astype(int)]
    few = "" if len(shown) == len(places) else f" ({len(shown)} of {len(places)})"
    lines = [axes.axvline(place, color=ALARM.light, linewidth=1.2, linestyle=(0, (4, 2))) for place in shown]
    lines[0].set_label(f"placement changes{few}")
    return [lines[0]]


def time_parts_drawing(data: RunData) -> Drawing | None:
    """Parts of the time of each token, along the run; None: there is no token after a first one."""
    if not (~data.tokens.first).any():
        return None
    caption = "Mean time of a token by what it was spent on, in milliseconds, along the run"
    return Drawing("time-parts", "What tokens wait for, along the run", caption, lambda sheet: _along(sheet, data))


def _along(sheet: Sheet, data: RunData) -> None:
    later = ~data.tokens.first
    axis, what = token_axis(data)
    x, ms = axis[later], 1000 * part_totals(data, len(TimePart))[later]  # [n], [n, kinds]
    n = len(x)
    along = _one_each(x) if n <= MAX_POINTS else bins(float(x.min()), float(x.max()))
    means = _means(along, x, ms)
    kinds = [part for part in PARTS if means[:, part].any()]
    axes = sheet.axes(250)
    axes.grid(visible=True, axis="y")
    base = np.zeros(along.number)
    handles = []
    for part in kinds:
        top = base + means[:, part]
        handles.append(
            axes.stairs(top, along.edges, baseline=base, fill=True, color=PARTS[part].light, label=WORDS[part])
        )
        base = top
    axes.set_xlim(along.edges[0], along.edges[-1])
    limit_ms, beyond = _limit(1000 * data.tokens.latency_s[later])
    axes.set_ylim(0, limit_ms if beyond else 1.08 * float(base.max() or 1))
    axes.set(xlabel=what + beyond, ylabel="time per token (ms)")
    _count_tokens(axes, data)
    sheet.legend([*handles, *mark_changes(axes, data)])


def _one_each(x: Floats) -> Bins:
    """Bins with one value each, of values that are sorted or nearly so."""
    ordered = np.unique(x)
    if len(ordered) == 1:
        return Bins(np.array([ordered[0] - 0.5, ordered[0] + 0.5]))
    between = (ordered[1:] + ordered[:-1]) / 2
    ends = [ordered[0] - (between[0] - ordered[0])], [ordered[-1] + (ordered[-1] - between[-1])]
    return Bins(np.concatenate([ends[0], between, ends[1]]))


def _means(along: Bins, x: Floats, values: Floats) -> Floats:
    """Means of columns in each bin, that of the bin before where one is empty: [bins, columns]."""
    at = along.of(x)
    counts = np.bincount(at, minlength=along.number)
    sums = np.stack([np.bincount(at, column, along.number) for column in values.T], axis=1)
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(along.number), 0))
    means: Floats = (sums / np.maximum(counts, 1)[:, None])[last]
    return means


def breakdown_drawing(data: RunData) -> Drawing | None:
    """Mean time of a token by what it was spent on; None: no token is recorded."""
    if not data.lost.tokens:
        return None
    parts = ", ".join(f"{WORDS[part]} {ms:.3g} ms" for part, ms in data.lost.parts_ms.items())
    return Drawing("breakdown", "Where a token's time goes", f"Mean time of a token: {parts}", lambda s: _bar(s, data))


def _bar(sheet: Sheet, data: RunData) -> None:
    rows = [("all", data.lost.parts_ms)]
    bars(sheet, rows, "time per token (ms)")


def bars(sheet: Sheet, rows: list[tuple[str, dict[TimePart, float]]], what: str) -> None:
    """Draw horizontal bars of parts of time, with the name of each and its sum."""
    axes = sheet.axes(64 + 26 * len(rows))
    kinds = [part for part in PARTS if any(ms.get(part) for _, ms in rows)]
    begin = np.zeros(len(rows))
    handles = []
    at = np.arange(len(rows))
    for part in kinds:
        width = np.array([ms.get(part, 0.0) for _, ms in rows])
        handles.append(axes.barh(at, width, left=begin, height=0.7, color=PARTS[part].light, label=WORDS[part]))
        begin = begin + width
    for place, total in enumerate(begin.tolist()):
        beside(axes, (total, place), f"{total:.3g}" if total < 1000 else f"{total:,.0f}")
    axes.set_yticks(at, [name for name, _ in rows] if len(rows) > 1 else [""])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * float(begin.max() or 1))
    axes.set_xlabel(what)
    sheet.legend(handles)
