"""Placements near one another: what each costs, and which costs least. Only what can be below a limit is computed."""

from typing import NamedTuple

from edgeemu.policies.compiled.share_bound import least_each_s
from edgeemu.policies.compiled.share_costs import ROUNDING
from edgeemu.policies.compiled.share_needs import migration_s, missing_bytes
from edgeemu.policies.compiled.share_neighbours import Base, changes, ends
from edgeemu.policies.compiled.share_step import fill_runs, step_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu_kernels.arrays import Floats, Ints

NONE = -1  # in place of a placement that is below a limit


class CostTerms(NamedTuple):
    """Terms of costs besides the step."""

    second: float  # of the migration
    missing: float  # added to the missing bytes of a placement that does not fit


class Best(NamedTuple):
    """Places to write in: the placements of a batch that cost least, and lower bounds of the steps of all."""

    at: Ints  # [3] NONE: there is none
    costs: Floats  # [3]
    bounds_s: Floats  # [k]


def _cost(
    t: StepTables, m: MemoryTables, y: WayTables, b: Batch, w: Scratch, p: CostTerms, r: Best, which: int, below: float
) -> float:
    """Cost of one placement, its step and its migration; if it is not below a limit, any above."""
    bound_s = r.bounds_s[which]
    if bound_s >= below * (1.0 + ROUNDING):
        return bound_s
    moving = migration_s(y, b, w, which) * p.second
    if bound_s >= (below - moving) * (1.0 + ROUNDING):
        return bound_s + moving
    over = missing_bytes(m, y, b, which)
    return (p.missing + over if over > 0 else step_s(t, b, w, which)) + moving


def _find_bounds(t: StepTables, b: Batch, w: Scratch, r: Best, count: int) -> None:
    """Compute lower bounds of the steps of the first placements of a batch."""
    fill_runs(b, w)
    least_each_s(t, b, w, count, r.bounds_s)


def near_costs(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    below: float,
    found: Floats,
) -> None:
    """Compute the costs of all placements of a batch, of which any that is not below a limit can be any above: [k]."""
    _find_bounds(t, b, w, r, b.k)
    for which in range(b.k):
        found[which] = _cost(t, m, y, b, w, p, r, which, below)


def best_near(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    below: float,
    beside: int,
    count: int,
) -> None:
    """Find the two placements that cost least of the first so many, and the one of the others, if below a limit.

    `count`: how many placements there are in all.
    """
    _find_bounds(t, b, w, r, count)
    _find_two(t, m, y, b, w, p, r, below, beside, count)
    r.at[2] = r.at[0]
    r.costs[2] = r.costs[0]
    _find_two(t, m, y, b, w, p, r, below, 0, beside)


def _find_two(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    below: float,
    begin: int,
    end: int,
) -> None:
    """Find the two placements that cost least, and less than a limit: of those alike the first."""
    first, second, first_cost, second_cost = NONE, NONE, below, below
    for which in range(begin, end):
        if r.bounds_s[which] < second_cost * (1.0 + ROUNDING):
            cost = _cost(t, m, y, b, w, p, r, which, second_cost)
            if cost < first_cost:
                second, second_cost = first, first_cost
                first, first_cost = which, cost
            elif cost < second_cost:
                second, second_cost = which, cost
    r.at[0] = first
    r.at[1] = second
    r.costs[0] = first_cost
    r.costs[1] = second_cost


def best_change(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    s: Base,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    below: float,
    ranges: Ints,
    n_ranges: int,
    with_ends: int,
    numbers: Ints,
) -> None:
    """Write small changes of a placement, of ranges of its layers, after those of its ends, and find the best.

    `numbers`, [2]: how many changes there are, and how many of them fit.
    """
    count, fitting = ends(s, b, 0) if with_ends == 1 else 0, 0
    for at in range(n_ranges):
        count = changes(s, b, count, ranges[2 * at], ranges[2 * at + 1])
    for which in range(count):
        fitting += missing_bytes(m, y, b, which) == 0
    numbers[0] = count
    numbers[1] = fitting
    _find_bounds(t, b, w, r, count)
    _find_two(t, m, y, b, w, p, r, below, 0, count)
