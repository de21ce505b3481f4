"""Placements near one another: what each costs, and which costs least. Only what can be below a limit is computed."""

from typing import NamedTuple

from edgeemu.policies.compiled.share_loads import known_round_s, least_round_s, round_s
from edgeemu.policies.compiled.share_moves import layer_migration_s
from edgeemu.policies.compiled.share_needs import migration_s, missing_bytes
from edgeemu.policies.compiled.share_step import begin_batch
from edgeemu.policies.compiled.share_ways import known_way_s, least_below_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Floats, Ints

NONE = -1  # in place of a placement that is below a limit


class CostTerms(NamedTuple):
    """Terms of costs besides the step."""

    second: float  # of the migration
    missing: float  # added to the missing bytes of a placement that does not fit


class Best(NamedTuple):
    """Places to write in: the placements of a batch that cost least."""

    at: Ints  # [3] NONE: there is none
    costs: Floats  # [3]


def _cost(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    which: int,
    below: float,
    far: bool,
) -> float:
    """Cost of one placement, its step and its migration; if it is not below a limit, any above.

    `far`: of a model of one layer, and its migration is likely to matter: it is computed before more than one way.
    """
    limit, bound_s = below * (1.0 + ROUNDING), max(known_way_s(t, b, w, which), known_round_s(t, b, w, which))
    if bound_s < limit:
        bound_s = max(bound_s, least_round_s(t, b, w, which))
    if bound_s < limit and not far:
        bound_s = least_below_s(t, b, w, which, limit)
    if bound_s >= limit:
        return bound_s
    took_s = layer_migration_s(t, y, b, w, which) if far else migration_s(y, b, w, which)
    moving = took_s * p.second
    limit = (below - moving) * (1.0 + ROUNDING)
    if bound_s < limit and far:
        bound_s = least_below_s(t, b, w, which, limit)
    if bound_s >= limit:
        return bound_s + moving
    over = missing_bytes(m, y, b, which)
    return (p.missing + over if over > 0 else round_s(t, b, w, which)) + moving


def near_costs(
    t: StepTables, m: MemoryTables, y: WayTables, b: Batch, w: Scratch, p: CostTerms, below: float, found: Floats
) -> None:
    """Compute the costs of all placements of a batch, of which any that is not below a limit can be any above: [k]."""
    begin_batch(b, w)
    for which in range(b.k):
        found[which] = _cost(t, m, y, b, w, p, which, below, False)


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
    begin_batch(b, w)
    begin_best(r, below)
    find_best(t, m, y, b, w, p, r, beside, count, 0, False)
    keep_third(r)
    begin_best(r, below)
    find_best(t, m, y, b, w, p, r, 0, beside, 1, False)


def begin_best(r: Best, below: float) -> None:
    """Begin with no placements that are below a limit."""
    for rank in range(2):
        r.at[rank] = NONE
        r.costs[rank] = below


def keep_third(r: Best) -> None:
    """Keep the best so far as the third, beside two others."""
    r.at[2] = r.at[0]
    r.costs[2] = r.costs[0]


def find_best(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    begin: int,
    end: int,
    last: int,
    far: bool,
) -> None:
    """Find placements that cost less than those before, and least: of those alike the first.

    `last`: 0 if the best one is wanted, 1 if the two best ones are.
    """
    for which in range(begin, end):
        cost = _cost(t, m, y, b, w, p, which, r.costs[last], far)
        if cost < r.costs[last]:
            rank = last
            if cost < r.costs[0]:
                r.at[last] = r.at[0]
                r.costs[last] = r.costs[0]
                rank = 0
            r.at[rank] = which
            r.costs[rank] = cost
