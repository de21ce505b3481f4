"""Comparison of policies from the summaries of their runs: figures, ranking, equality of tokens. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from edgeemu.report.basis import basis_line
from edgeemu.report.certificate import TELLS_WHAT_IT_MEANS, VERDICTS
from edgeemu.report.formats import Table, counted, percent_text, size
from edgeemu.report.intervals import Interval
from edgeemu.report.statistics import percentile

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy: the summary of each repetition of its run, or why there are none."""

    policy: str
    summaries: Sequence[Summary]
    directories: Sequence[str] = ()
    problem: str = ""
    status: int = 0  # exit status of a single run with this problem


class Figure(NamedTuple):
    """A compared figure: its place in a summary, and its format. `best` is min or max; None: no ranking by it."""

    key: str
    heading: str
    path: tuple[str, ...]
    unit: str
    best: Any = None

    @property
    def digits(self) -> int:
        """Decimals of the figure in tables."""
        return 1 if self.unit == "ms" else 2


FIGURES = (
    Figure("ttft_ms", ">first token", ("ttft_ms", "mean"), "ms", min),
    Figure("tpot_ms", ">per token", ("tpot_ms", "mean"), "ms", min),
    Figure("throughput_tok_s", ">tokens/s", ("throughput_tok_s",), "", max),
    Figure("energy_per_token_j", ">energy/token", ("energy", "per_token_j"), "J", min),
    Figure("peak_bytes", ">peak memory", ("memory", "peak_bytes_max"), "B"),
    Figure("decision_ms", ">decision", ("controller_ms", "mean"), "ms"),
    Figure("moved_blocks", ">blocks moved", ("migrations", "count"), "count"),
    Figure("availability", ">available", ("failures", "availability"), "share"),
)
ROUNDING = 1e-4  # of a figure that is below a bound, and not because it needs not respect it
NO_BOUND = "for this cluster: devices are given as a share of the host, or are too many, or results are gathered"
JUDGED = {"latency": "tpot_ms", "throughput": "throughput_tok_s", "energy": "energy_per_token_j"}  # by objective


def comparison(
    scenario: str,
    entries: Sequence[Entry],
    judged: str,
    *,
    words: bool,
    bounds: Mapping[str, float] = MappingProxyType({}),
    undivided: bool = False,
) -> dict[str, Any]:
    """Make the document of `edgeemu compare --json`, sorted by the figure `judged`; `words`: whether tokens are real.

    Every figure is the median over the repetitions, with the least and the most. `gap` is by what share a policy is
    worse than the best in the judged figure: 0 for the best. `bounds` has figures that no placement can beat, and
    `above_bound` is by what share a policy is worse than that of the judged figure; `undivided`: that none without
    divided layers can beat.
    """
    figure = next(figure for figure in FIGURES if figure.key == judged)
    rows = [_row(entry) for entry in entries]
    values = {row["policy"]: row["figures"][judged]["median"] for row in rows if row["figures"]}
    known = [value for value in values.values() if value is not None]
    best = figure.best(known) if known else None
    for row in rows:
        row["gap"] = _gap(values.get(row["policy"]), best, figure)
        row["above_bound"] = _gap(values.get(row["policy"]), bounds.get(judged), figure)
    rows.sort(key=lambda row: (row["gap"] is None, row["gap"] or 0.0))
    return {
        "scenario": scenario,
        "judged_by": judged,
        "basis": next((summary["basis"] for entry in entries for summary in entry.summaries), None),
        "first": rows[0]["policy"] if rows and rows[0]["gap"] is not None else None,
        "tokens_equal": _tokens_equal(entries) if words else None,
        "bounds": dict(bounds),
        "bounds_undivided": undivided,
        "policies": rows,
    }


def _row(entry: Entry) -> dict[str, Any]:
    certificates = [summary["certificate"] for summary in entry.summaries]
    return {
        "policy": entry.policy,
        "figures": {f.key: _spread(entry.summaries, f) for f in FIGURES} if entry.summaries else {},
        "certificate": worst([certificate["verdict"] for certificate in certificates]),
        "reasons": sorted({reason for certificate in certificates for reason in certificate["reasons"]}),
        "runs": list(entry.directories),
        "problem": entry.problem or None,
        "status": entry.status,
    }


def worst(verdicts: Sequence[str]) -> str | None:
    return max(verdicts, key=VERDICTS.index, default=None)


def _spread(summaries: Sequence[Summary], figure: Figure) -> dict[str, float | None]:
    return spread([value for summary in summaries if (value := figure_of(summary, figure)) is not None])


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median of some values, the least and the most of them; None of none."""
    if not values:
        return dict.fromkeys(("median", "least", "most"))
    ordered = sorted(values)
    return {"median": percentile(ordered, 50), "least": ordered[0], "most": ordered[-1]}


def figure_of(summary: Summary, figure: Figure) -> float | None:
    """Read a figure from the summary of a run; None where it is not known."""
    value: Any = summary
    for key in figure.path:
        value = None if value is None else value.get(key)  # runs of an earlier version lack some
    return None if value is None else float(value)


def _gap(value: float | None, best: float | None, figure: Figure) -> float | None:
    if value is None or best is None:
        return None
    return value / best - 1.0 if figure.best is min else best / value - 1.0


def _tokens_equal(entries: Sequence[Entry]) -> bool:
    """Tell whether all runs of all policies have generated equal tokens."""
    generated = [summary["tokens"] for entry in entries for summary in entry.summaries]
    return all(tokens == generated[0] for tokens in generated)


def comparison_table(document: Mapping[str, Any]) -> Table:
    """Make the table, in the order of the judged figure; policies that could not run are last, with a dash.

    A figure that no policy has is left out, and so is what is possible, if nobody knows.
    """
    rows, ran = [], [row["figures"] for row in document["policies"] if row["figures"]]
    bound = document["bounds"].get(document["judged_by"])
    known = [figure for figure in FIGURES if any(figures[figure.key]["median"] is not None for figures in ran)]
    for row in document["policies"]:
        figures = row["figures"]
        cells = [_shown(figures.get(figure.key), figure) for figure in known]
        versus_best = (
            "–" if row["gap"] is None else "best" if row["gap"] == 0 else percent_text(row["gap"], 1, signed=True)
        )
        versus_best += " n.s." if row.get("significant") is False and row["gap"] else ""
        above = [] if bound is None else [_above(row["above_bound"], undivided=document["bounds_undivided"])]
        rows.append([row["policy"], *cells, versus_best, *above, row["certificate"] or "did not run"])
    versus = (">vs best",) if bound is None else (">vs best", ">vs possible")
    columns = ("policy", *(figure.heading for figure in known), *versus, "certificate")
    judged = document["judged_by"]
    may_go = [figure.heading.removeprefix(">") for figure in reversed(FIGURES) if figure.key != judged]
    return Table(columns, rows, [*may_go, "certificate", "vs possible"])


def _above(share: float | None, *, undivided: bool) -> str:
    if share is None:
        return "–"
    return "divided" if undivided and share < -ROUNDING else f"+{percent_text(max(0.0, share), 1)}"


def _shown(spread: Mapping[str, float | None] | None, figure: Figure) -> str:
    if not spread or spread["median"] is None:
        return "–"
    median, least, most = (spread[key] or 0.0 for key in ("median", "least", "most"))
    if (mean := spread.get("mean")) is not None:  # over seeds
        return _interval(mean, spread, figure)
    if figure.unit == "B":
        return size(median)
    if figure.unit == "count":
        return f"{median:g}"
    if figure.unit == "share":
        return percent_text(median, 1)
    unit, digits = f" {figure.unit}" if figure.unit else "", figure.digits
    around = f" ±{(most - least) / 2:.{digits}f}" if most > least else ""
    return f"{median:.{digits}f}{around}{unit}"


def _interval(mean: float, spread: Mapping[str, float | None], figure: Figure) -> str:
    if figure.unit in ("B", "count"):
        return size(mean) if figure.unit == "B" else f"{round(mean, 1):g}"
    if figure.unit == "share":
        return percent_text(mean, 1)
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{Interval(mean, spread.get('low'), spread.get('high')).text(figure.digits)}{unit}"


def comparison_lines(document: Mapping[str, Any]) -> list[str]:
    """Make the lines below the table: whether the tokens are equal, and why some policies did not run."""
    lines = []
    if document["tokens_equal"] is not None:
        runs = sum(len(row["runs"]) for row in document["policies"])
        equal = "equal tokens" if document["tokens_equal"] else "DIFFERENT TOKENS: this is a bug of edgeemu"
        lines.append(f"{counted(runs, 'run')}: {equal}")
    lines += _possible_lines(document)
    lines += [f"{row['policy']}: {row['problem']}" for row in document["policies"] if row["problem"]]
    for row in document["policies"]:
        if row["certificate"] not in (None, *TELLS_WHAT_IT_MEANS):
            lines.append(f"{row['policy']}: {row['certificate']}: {'; '.join(row['reasons'])}")
    if basis := basis_line(document["basis"]):
        lines.append(basis)
    return lines


def _possible_lines(document: Mapping[str, Any]) -> list[str]:
    """Say what no placement can beat, or why nobody knows; nothing where no policy has a figure."""
    if all(row["gap"] is None for row in document["policies"]):
        return []
    if not document.get("one_cluster", True):
        return ["possible: not asked, since the runs differ in more than their policy"]
    figure = next(figure for figure in FIGURES if figure.key == document["judged_by"])
    bound = document["bounds"].get(figure.key)
    if bound is None:
        why = f"of {figure.heading[1:]}" if document["bounds"] else NO_BOUND
        return [f"possible: not known; there is no proven bound {why}"]
    than = "more" if figure.best is max else "less"
    unit = f"{bound:.1f} ms per token" if figure.unit == "ms" else f"{bound:.2f} tokens/s"
    which, how = ", divided or not,", "not always within reach"
    if document["bounds_undivided"]:
        which, how = " without divided layers", "sharding.divide is false"
    return [f"possible: no placement{which} has {than} than {unit} (proven; {how})"]
