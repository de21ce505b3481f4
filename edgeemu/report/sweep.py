"""Figures of a sweep: for each point of the varied keys and each policy, from its runs with several seeds. Pure.

Every point and policy has the same seeds, so that runs are pairs: what is compared is the same draw.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

from edgeemu.report.comparison import FIGURES, Figure, figure_of, worst
from edgeemu.report.formats import counted
from edgeemu.report.intervals import CONFIDENCE, Interval, gap_interval, mean_interval
from edgeemu.report.statistics import average

Values = tuple[str, ...]  # of the varied keys, as they were written


class SweepDesign(NamedTuple):
    """Design of a sweep: what it varies, and by which figure it is judged.

    `numbers`: of the keys whose values are all numbers in one unit, those numbers by the values as they were written.
    """

    scenario: str
    keys: tuple[str, ...]
    points: tuple[Values, ...]
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    judged: str
    simulated: bool
    numbers: Mapping[str, Mapping[str, float]] = {}

    @property
    def figure(self) -> Figure:
        """The figure that everything is judged by."""
        return next(figure for figure in FIGURES if figure.key == self.judged)


class SweptRun(NamedTuple):
    """A run of a sweep: its place in the design, its figures, or why it has none."""

    point: Values
    policy: str
    seed: int
    figures: Mapping[str, float | None] = {}
    certificate: str | None = None
    reasons: tuple[str, ...] = ()
    tokens: str = ""  # a digest
    directory: str | None = None
    problem: str | None = None
    status: int = 0
    basis: Mapping[str, Any] | None = None  # of the figures


def swept_run(point: Values, policy: str, seed: int, summary: Mapping[str, Any], directory: str) -> SweptRun:
    """Take from the summary of a run what a sweep keeps of it."""
    return SweptRun(
        point,
        policy,
        seed,
        {figure.key: figure_of(summary, figure) for figure in FIGURES},
        summary["certificate"]["verdict"],
        tuple(summary["certificate"]["reasons"]),
        blake2b(repr(summary["tokens"]).encode(), digest_size=16).hexdigest(),
        directory,
        basis=summary["basis"],
    )


class Cell(NamedTuple):
    """Runs of one policy at one point, by seed, and how they compare with the best, by the figure of the design."""

    point: Values
    policy: str
    runs: Mapping[int, SweptRun]
    judged: Mapping[int, float]  # by seed; those that have the figure
    mean: Interval | None = None
    gap: Interval | None = None  # above the best; None for those without the figure
    best: bool = False


def cells_of(design: SweepDesign, runs: Sequence[SweptRun]) -> list[Cell]:
    """Put runs together by point and policy, in the order of the design, and compare them.

    Policies are compared with the best of their point; a policy alone, with its own best point.
    """
    by_cell: dict[tuple[Values, str], dict[int, SweptRun]] = {}
    for run in runs:
        by_cell.setdefault((run.point, run.policy), {})[run.seed] = run
    cells = []
    for point in design.points:
        for policy in design.policies:
            found = dict(sorted(by_cell.get((point, policy), {}).items()))
            judged = {
                seed: value for seed, run in found.items() if (value := run.figures.get(design.judged)) is not None
            }
            mean = mean_interval(list(judged.values())) if judged else None
            cells.append(Cell(point, policy, found, judged, mean))
    if len(design.policies) == 1:
        return _compared(cells, design.figure)
    by_point = (cells[n : n + len(design.policies)] for n in range(0, len(cells), len(design.policies)))
    return [cell for group in by_point for cell in _compared(group, design.figure)]


def _compared(group: Sequence[Cell], figure: Figure) -> list[Cell]:
    """Compare each cell of a group with the best of it."""
    known = [cell for cell in group if cell.mean is not None]
    if not known:
        return list(group)
    best = figure.best(known, key=lambda cell: cell.mean.value)
    return [cell._replace(gap=gap(cell, best, figure), best=cell is best) for cell in group]


def gap(cell: Cell, best: Cell, figure: Figure) -> Interval | None:
    """Share by which a cell is worse than another, from the seeds that both have; None where there are none."""
    seeds = [seed for seed in cell.judged if seed in best.judged]
    if not seeds:
        return None
    own, others = [cell.judged[seed] for seed in seeds], [best.judged[seed] for seed in seeds]
    return gap_interval(own, others) if figure.best is min else gap_interval(others, own)


class Failures(NamedTuple):
    """Runs of a cell that have no figures: why, of the first of them, and its exit status."""

    text: str
    status: int


def failures(cell: Cell) -> Failures | None:
    """Say which runs of a cell have failed, or found no placement; None: none has."""
    failed = [run for run in cell.runs.values() if run.problem is not None]
    if not failed:
        return None
    some = f"did not run with {counted(len(failed), 'seed')} of {len(cell.runs)}: "
    return Failures(f"{some if len(failed) < len(cell.runs) else ''}{failed[0].problem}", failed[0].status)


class Neighbors(NamedTuple):
    """Two neighboring values of a key, compared under one policy wherever all else is equal."""

    key: str
    values: tuple[str, str]
    policy: str
    compared: int
    level: int  # how many of the pairs show no significant difference


def neighbors(design: SweepDesign, cells: Sequence[Cell]) -> list[Neighbors]:
    """Compare neighboring values of each key, from the seeds that both have; those that cannot be are left out."""
    at = {(cell.point, cell.policy): cell for cell in cells}
    found = []
    for number, key in enumerate(design.keys):
        for one, other in pairwise(dict.fromkeys(point[number] for point in design.points)):
            pairs = [
                (point, (*point[:number], other, *point[number + 1 :]))
                for point in design.points
                if point[number] == one
            ]
            for policy in design.policies:
                gaps = [gap(at[first, policy], at[second, policy], design.figure) for first, second in pairs]
                differ = [each.differs_from_zero for each in gaps if each is not None]
                known = [each for each in differ if each is not None]
                found.append(Neighbors(key, (one, other), policy, len(known), known.count(False)))
    return [each for each in found if each.compared]


def tokens_equal(runs: Sequence[SweptRun]) -> bool:
    """Tell whether all policies have generated equal tokens from equal draws."""
    by_draw: dict[tuple[Values, int], set[str]] = {}
    for run in runs:
        if run.problem is None:
            by_draw.setdefault((run.point, run.seed), set()).add(run.tokens)
    return all(len(tokens) == 1 for tokens in by_draw.values())


def sweep_document(design: SweepDesign, cells: Sequence[Cell]) -> dict[str, Any]:
    """Make the document of `edgeemu sweep --json`."""
    runs = [run for cell in cells for run in cell.runs.values()]
    return {
        "scenario": design.scenario,
        "varied": list(design.keys),
        "policies": list(design.policies),
        "seeds": list(design.seeds),
        "judged_by": design.judged,
        "simulated": design.simulated,
        "confidence": CONFIDENCE,
        "tokens_equal": None if design.simulated else tokens_equal(runs),
        "points": [point_row(design, cell) for cell in cells],
        "runs": [run_row(design, run) for run in runs],
    }


def point_row(design: SweepDesign, cell: Cell) -> dict[str, Any]:
    """Make the row of a policy at a point: means over the seeds, and the judged figure's interval and gap."""
    ran = [run for run in cell.runs.values() if run.problem is None]
    mean, gap = (found or Interval(float("nan")) for found in (cell.mean, cell.gap))
    return {
        **dict(zip(design.keys, cell.point, strict=True)),
        "policy": cell.policy,
        "runs": len(ran),
        "failed": len(cell.runs) - len(ran),
        **{figure.key: _mean(ran, figure) for figure in FIGURES},
        "low": mean.low,
        "high": mean.high,
        "gap": None if cell.gap is None else gap.value,
        "gap_low": gap.low,
        "gap_high": gap.high,
        "best": cell.best,
        "significant": None if cell.best else gap.differs_from_zero,
        "certificate": worst([run.certificate for run in ran if run.certificate is not None]),
    }


def run_row(design: SweepDesign, run: SweptRun) -> dict[str, Any]:
    """Make the row of a run."""
    return {
        **dict(zip(design.keys, run.point, strict=True)),
        "policy": run.policy,
        "seed": run.seed,
        **{figure.key: run.figures.get(figure.key) for figure in FIGURES},
        "certificate": run.certificate,
        "directory": run.directory,
        "problem": run.problem,
    }


def _mean(runs: Sequence[SweptRun], figure: Figure) -> float | None:
    return average([value for run in runs if (value := run.figures[figure.key]) is not None])
