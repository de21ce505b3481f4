"""Table and sentences of a sweep for a terminal of 80 columns. Knows its cells; no terminal."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from string import ascii_uppercase

from edgeemu.report.certificate import TELLS_WHAT_IT_MEANS
from edgeemu.report.formats import Table, counted, number_text, percent_text
from edgeemu.report.intervals import CONFIDENCE, Interval
from edgeemu.report.sweep import Cell, SweepDesign, SweptRun, failures, neighbors, tokens_equal

WIDEST_VALUE = 14  # of a varied key in the table; longer ones get a letter, and a line below
MOST_LINES = 8  # of one kind
FEW_SEEDS = 10
NOT_SIGNIFICANT = " n.s."


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest end of each key that no other key has: `bandwidth` of `network.default.bandwidth`."""
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[n:]) for n in range(len(parts) - 1, -1, -1)]
        others = [f".{other}" for other in keys if other != key]
        found[key] = next(end for end in ends if not any(other.endswith(f".{end}") for other in others))
    return found


def run_text(design: SweepDesign, run: SweptRun) -> str:
    """Say which run it is, and its figure."""
    names = short_names(design.keys)
    at = [f"{names[key]} {value}" for key, value in zip(design.keys, run.point, strict=True)]
    figure = run.figures.get(design.judged)
    unit = f" {design.figure.unit}" if design.figure.unit else ""
    text = run.problem or ("–" if figure is None else f"{number_text(figure, design.figure.digits)}{unit}")
    return f"{', '.join([*at, run.policy, f'seed {run.seed}'])}: {text}"


def sweep_table(design: SweepDesign, cells: Sequence[Cell]) -> Table:
    """Make the table: a row for each point and policy, in the order of the design."""
    names, letters, unit = short_names(design.keys), _letters(design), design.figure.unit
    several = len(design.policies) > 1
    heading = f"{design.figure.heading}{f' [{unit}]' if unit else ''}"
    columns = [*(f">{names[key]}" for key in design.keys), *(["policy"] if several else []), heading, ">vs best"]
    rows = []
    for cell in cells:
        values = [letters.get((key, value), value) for key, value in zip(design.keys, cell.point, strict=True)]
        policy = [cell.policy] if several else []
        judged = "did not run" if cell.mean is None else cell.mean.text(design.figure.digits)
        rows.append([*values, *policy, judged, gap_text(cell.gap, best=cell.best)])
    return Table(columns, rows)


def gap_text(found: Interval | None, *, best: bool) -> str:
    """Format how far a figure is behind the best; `n.s.` where that is no significant difference."""
    if best or found is None:
        return "best" if best else "–"
    if found == Interval(0.0, 0.0, 0.0):
        return "equal"
    return f"{percent_text(found.value, 1, signed=True)}{NOT_SIGNIFICANT if found.differs_from_zero is False else ''}"


def _letters(design: SweepDesign) -> dict[tuple[str, str], str]:
    """Give the values of each key that has a long one letters; with more values than letters they stay as they are."""
    found = {}
    for number, key in enumerate(design.keys):
        values = list(dict.fromkeys(point[number] for point in design.points))
        if max(map(len, values)) > WIDEST_VALUE and len(values) <= len(ascii_uppercase):
            found.update({(key, value): letter for value, letter in zip(values, ascii_uppercase, strict=False)})
    return found


def sweep_lines(design: SweepDesign, cells: Sequence[Cell]) -> Iterator[str]:
    """Say below the table what its words mean, what makes no difference, and which runs have no figure."""
    names = short_names(design.keys)
    for (key, value), letter in _letters(design).items():
        yield f"{names[key]} {letter}: {value}"
    yield _about_intervals(design, cells)
    if any(gap_text(cell.gap, best=cell.best).endswith(NOT_SIGNIFICANT) for cell in cells):
        of = "of its point" if len(design.policies) > 1 else "point"
        yield f"n.s.: no significant difference from the best {of}; pairs of equal seeds were compared"
    yield from _few(list(_level(design, cells)), "such pair")
    runs = [run for cell in cells for run in cell.runs.values()]
    if not design.simulated and (ran := [run for run in runs if run.problem is None]):
        equal = "equal tokens from equal draws" if tokens_equal(runs) else "DIFFERENT TOKENS: this is a bug of edgeemu"
        yield f"{counted(len(ran), 'run')}: {equal}"
    verdicts = Counter(run.certificate for run in runs if run.certificate is not None)
    if set(verdicts) - set(TELLS_WHAT_IT_MEANS):
        yield "certificates: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
        yield from _few(_verdicts(runs), "such line")
    yield from _few(list(_problems(cells)), "such row")


def _level(design: SweepDesign, cells: Sequence[Cell]) -> Iterator[str]:
    """Say between which neighboring values there is no significant difference, and under which policies."""
    names = short_names(design.keys)
    found: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for each in neighbors(design, cells):
        if each.level:
            times = f" ({each.level} of {each.compared} pairs)" if each.compared > 1 else ""
            found.setdefault((each.key, each.values), []).append(f"{each.policy}{times}")
    for (key, (one, other)), policies in found.items():
        under = f": {', '.join(policies)}" if len(design.policies) > 1 or len(design.keys) > 1 else ""
        yield f"no significant difference between {names[key]} {one} and {other}{under}"


def _about_intervals(design: SweepDesign, cells: Sequence[Cell]) -> str:
    seeds = counted(len(design.seeds), "seed")
    if all(cell.mean is None or cell.mean.low is None for cell in cells):
        return f"{seeds} each, the same for all rows; no intervals (--seeds 20 would give them)"
    text = f"{seeds} each, the same for all rows: mean, and its {percent_text(CONFIDENCE)} interval by the bootstrap"
    if all(len(set(cell.judged.values())) <= 1 for cell in cells):
        return f"{text}; no seed makes a difference: nothing that counts here is random"
    return f"{text}; of so few seeds it is too narrow" if len(design.seeds) < FEW_SEEDS else text


def _verdicts(runs: Sequence[SweptRun]) -> list[str]:
    """Say why runs have a verdict that needs words, once for reasons that differ in numbers alone."""
    alike: dict[tuple[str, ...], list[SweptRun]] = {}
    for run in runs:
        if run.certificate not in (None, *TELLS_WHAT_IT_MEANS):
            assert run.certificate is not None
            key = run.certificate, *(re.sub(r"[\d.,]+", "#", reason) for reason in run.reasons)
            alike.setdefault(key, []).append(run)
    return [
        f"{run.certificate}, {counted(1 + len(others), 'run')}, such as {run.directory}: {'; '.join(run.reasons)}"
        for run, *others in alike.values()
    ]


def _problems(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        if failed := failures(cell):
            yield f"{', '.join([*cell.point, cell.policy])}: {failed.text}"


def _few(lines: Sequence[str], noun: str) -> Iterator[str]:
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"… and {counted(len(lines) - MOST_LINES, f'more {noun}')}"
