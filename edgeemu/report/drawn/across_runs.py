"""Pictures of several runs: time against tokens, parts of a token's time, gap to the optimum, scaling with devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgeemu.report.comparison import FIGURES
from edgeemu.report.critical.breakdown import Breakdown, breakdown
from edgeemu.report.critical.critical_path import critical_paths
from edgeemu.report.drawn.latency import bars
from edgeemu.report.drawn.palette import ALARM, DEVICES, INK, SOFT
from edgeemu.report.drawn.sheet import Drawing, Sheet, beside
from edgeemu.report.facts import RunFacts
from edgeemu.report.figures import RecordTables, sequence_rows, token_figures
from edgeemu.report.formats import counted, percent_text
from edgeemu.report.statistics import Floats

MAX_POINTS = 200  # of a line
STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))


class ComparedRun(NamedTuple):
    """One run of several, under a label that tells it from those that are no repetitions of it."""

    label: str
    policy: str
    n_devices: int
    tokens: Floats  # how many there are, at some instants
    elapsed_s: Floats  # since the first arrival, at these instants
    rate_tok_s: float | None  # after the first token of all
    lost: Breakdown


def compared_run(label: str, records: RecordTables, facts: RunFacts) -> ComparedRun:
    """Read what pictures show of one run among others."""
    tokens = token_figures(records, sequence_rows(records), facts.dilation)
    first = tokens.emulated_s[tokens.first] - tokens.latency_s[tokens.first]
    begin_s = float(first.min(initial=np.inf)) if len(first) else 0.0
    elapsed_s = np.sort(tokens.emulated_s) - begin_s
    n = len(elapsed_s)
    chosen = np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int)) if n else np.empty(0, np.int64)
    decoding_s = float(elapsed_s[-1] - elapsed_s[0]) if n else 0.0
    rate = (n - 1) / decoding_s if decoding_s > 0 else None
    lost = breakdown(critical_paths(records))
    numbers = np.asarray(chosen + 1, np.float64)
    return ComparedRun(label, facts.policy, len(facts.devices), numbers, elapsed_s[chosen], rate, lost)


def comparison_drawings(
    runs: Sequence[ComparedRun], document: Mapping[str, Any], measured: Sequence[tuple[int, float]] = ()
) -> list[Drawing]:
    """Choose the pictures of a comparison that there is something to see on.

    `measured`: numbers of devices, and tokens per second after the first that somebody measured with them.
    """
    runs = [run for run in runs if len(run.tokens)]
    found = [_gaps(document), _parts(runs), _against_tokens(runs), _scaling(runs, measured)]
    return [drawing for drawing in found if drawing is not None]


def labels(facts: Sequence[RunFacts]) -> list[str]:
    """Name each run by what tells it from others: policy, number of devices, model, scenario; equal: repetitions."""
    found = [each.policy for each in facts]
    more = (
        [counted(len(each.devices), "device") for each in facts],
        [each.model for each in facts],
        [each.scenario for each in facts],
    )
    if len(set(found)) == 1 and any(len(set(values)) > 1 for values in more):
        found = [""] * len(found)
    for values in more:
        longer = [f"{one}, {value}" if one else value for one, value in zip(found, values, strict=True)]
        if len(set(longer)) > len(set(found)):
            found = longer
    return found


def _one_each(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return the first run of each label."""
    return list({run.label: run for run in reversed(runs)}.values())[::-1]


def _line(number: int) -> dict[str, Any]:
    return {"color": DEVICES[number % 8].light, "linestyle": STYLES[number // 8 % len(STYLES)]}


def _against_tokens(runs: Sequence[ComparedRun]) -> Drawing | None:
    lines = [run for run in _one_each(runs) if len(run.tokens) > 1]
    if not lines:
        return None

    def draw(sheet: Sheet) -> None:
        axes = sheet.axes(300)
        axes.grid(visible=True)
        handles = []
        for number, run in enumerate(lines):
            handles += axes.plot(run.tokens, run.elapsed_s, label=run.label, **_line(number))
        axes.set(xlabel="tokens generated", ylabel="time (s)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        sheet.legend(handles)

    caption = "Time since the first arrival against tokens generated, a line for each of " + _named(lines)
    return Drawing("time-against-tokens", "Time against tokens", caption, draw)


def _parts(runs: Sequence[ComparedRun]) -> Drawing | None:
    rows = [(run.label, run.lost.parts_ms) for run in _one_each(runs) if run.lost.tokens]
    if not rows:
        return None
    caption = "Mean time of a token by what it was spent on, for each run"
    return Drawing(
        "compared-parts", "What a token waits for", caption, lambda sheet: bars(sheet, rows, "time per token (ms)")
    )


def _gaps(document: Mapping[str, Any]) -> Drawing | None:
    """Judged figure of each row, and what no placement can beat."""
    figure = next(each for each in FIGURES if each.key == document["judged_by"])
    bound = document["bounds"].get(figure.key)
    rows = [
        (row["policy"], row["figures"][figure.key], row["above_bound"])
        for row in document["policies"]
        if row["figures"]
    ]
    rows = [row for row in rows if row[1]["median"] is not None]
    if not rows:
        return None
    unit = {"tpot_ms": "time per token (ms)", "throughput_tok_s": "throughput (tokens/s)"}.get(
        figure.key, "energy per token (J)"
    )

    def draw(sheet: Sheet) -> None:
        axes = sheet.axes(64 + 26 * len(rows))
        at = np.arange(len(rows))
        median = np.array([spread["median"] for _, spread, _ in rows])
        ends = np.array(
            [[spread["median"] - spread["least"], spread["most"] - spread["median"]] for _, spread, _ in rows]
        )
        spread = ends.T if ends.any() else None
        axes.barh(at, median, height=0.66, color=DEVICES[0].light, xerr=spread, error_kw={"ecolor": INK.light})
        for place, (_, values, above) in enumerate(rows):
            gap = "" if above is None else f"  (+{percent_text(max(0.0, above), 1)})"
            beside(axes, (values["most"], place), f"{values['median']:.4g}{gap}")
        handles: list[Any] = []
        if bound is not None:
            handles.append(axes.axvline(bound, color=ALARM.light, linewidth=1.8, label="no placement can beat"))
        axes.set_yticks(at, [name for name, *_ in rows])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, (1.45 if sheet.narrow else 1.2) * float(max(values["most"] for _, values, _ in rows)))
        axes.set_xlabel(unit)
        sheet.legend(handles)

    gap = ", and how far each is from what no placement can beat" if bound is not None else ""
    title = "Gap to the optimum" if bound is not None else unit[: unit.index(" (")].capitalize()
    return Drawing("gap", title, f"{unit} of {', '.join(name for name, *_ in rows)}{gap}", draw)


def _scaling(runs: Sequence[ComparedRun], measured: Sequence[tuple[int, float]]) -> Drawing | None:
    """Tokens per second against the number of devices, a line for each policy; None: there is one number only."""
    by_policy: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        if run.rate_tok_s is not None:
            by_policy.setdefault(run.policy, {}).setdefault(run.n_devices, []).append(run.rate_tok_s)
    lines = {policy: points for policy, points in by_policy.items() if len(points) > 1}
    if not lines:
        return None

    def draw(sheet: Sheet) -> None:
        axes = sheet.axes(300)
        axes.grid(visible=True)
        handles = []
        numbers = sorted({n for points in lines.values() for n in points})
        base = max(
            float(np.median(points[numbers[0]])) / numbers[0] for points in lines.values() if numbers[0] in points
        )
        ideal = [base * n for n in numbers]
        handles += axes.plot(
            numbers, ideal, color=SOFT.light, linestyle=(0, (1, 1.5)), linewidth=1.2, label="in proportion"
        )
        for number, (policy, points) in enumerate(lines.items()):
            x = sorted(points)
            handles += axes.plot(x, [float(np.median(points[n])) for n in x], marker="o", label=policy, **_line(number))
        most = max(max(map(max, points.values())) for points in lines.values())
        if measured:
            counts, rates = zip(*measured, strict=True)
            look: dict[str, Any] = {"marker": "D", "linestyle": "none", "markersize": 7, "fillstyle": "none"}
            handles += axes.plot(counts, rates, color=INK.light, label="measured", **look)
            most = max(most, *rates)
        axes.set(xlabel="devices", ylabel="tokens/s after the first")
        axes.set_xticks(sorted({*numbers, *(n for n, _ in measured)}))
        axes.set_ylim(0, 1.5 * most)
        sheet.legend(handles)

    return Drawing("scaling", "Scaling", "Tokens per second after the first against the number of devices", draw)


def _named(runs: Sequence[ComparedRun]) -> str:
    return ", ".join(run.label for run in runs)
