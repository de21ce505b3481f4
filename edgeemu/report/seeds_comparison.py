"""Comparison of policies over several seeds: means with intervals, and gaps of pairs, in the form of `comparison`."""

from collections.abc import Sequence
from typing import Any

from edgeemu.report.comparison import FIGURES, spread, worst
from edgeemu.report.statistics import average
from edgeemu.report.sweep import Cell, SweepDesign, failures, tokens_equal


def seeds_comparison(design: SweepDesign, cells: Sequence[Cell]) -> dict[str, Any]:
    """Make the document of `edgeemu compare --seeds N --json`: that of `comparison`, with these keys beside.

    Every figure has its `mean` over the seeds, the judged one with the ends of its interval, `low` and `high`. `gap` is
    of the means of pairs with equal seeds, with `gap_low` and `gap_high`; `significant` says whether zero is outside.
    Bounds are of one draw, and there are several: none is told.
    """
    rows = [_row(design, cell) for cell in cells]
    rows.sort(key=lambda row: (row["gap"] is None, row["gap"] or 0.0))
    runs = [run for cell in cells for run in cell.runs.values()]
    return {
        "scenario": design.scenario,
        "judged_by": design.judged,
        "seeds": list(design.seeds),
        "basis": next((run.basis for run in runs if run.problem is None), None),
        "first": rows[0]["policy"] if rows[0]["gap"] is not None else None,
        "tokens_equal": None if design.simulated else tokens_equal(runs),
        "bounds": {},
        "bounds_undivided": False,
        "policies": rows,
    }


def _row(design: SweepDesign, cell: Cell) -> dict[str, Any]:
    ran = [run for run in cell.runs.values() if run.problem is None]
    figures: dict[str, dict[str, float | None]] = {}
    for figure in FIGURES if ran else ():
        values = [value for run in ran if (value := run.figures[figure.key]) is not None]
        figures[figure.key] = {**spread(values), "mean": average(values)}
    if cell.mean is not None:
        figures[design.judged] |= {"low": cell.mean.low, "high": cell.mean.high}
    failed = failures(cell)
    return {
        "policy": cell.policy,
        "figures": figures,
        "certificate": worst([run.certificate for run in ran if run.certificate is not None]),
        "reasons": sorted({reason for run in ran for reason in run.reasons}),
        "runs": [run.directory for run in ran],
        "problem": failed.text if failed else None,
        "status": failed.status if failed else 0,
        "gap": cell.gap.value if cell.gap else None,
        "gap_low": cell.gap.low if cell.gap else None,
        "gap_high": cell.gap.high if cell.gap else None,
        "significant": cell.gap.differs_from_zero if cell.gap and not cell.best else None,
        "above_bound": None,
    }
