"""Best small change of a placement; of shifts within a model of one layer, those that cannot be best are left out.

A shift shortens the longest way only if its source is on it, and what a device waits for only if that is its source:
so most cost at least a floor that shifts from the same device have in common, and are not even written.
"""

import numpy as np

from edgeemu.policies.compiled.share_costs import ROUNDING
from edgeemu.policies.compiled.share_descent import Best, CostTerms, begin_best, find_best
from edgeemu.policies.compiled.share_moves import fill_moves, layer_migration_s
from edgeemu.policies.compiled.share_needs import giver_of, missing_bytes
from edgeemu.policies.compiled.share_neighbours import (
    BOTH,
    GROUPS,
    UNITS,
    Base,
    ends,
    gathered,
    shifted,
    useful,
    write_base,
)
from edgeemu.policies.compiled.share_step import begin_batch
from edgeemu.policies.compiled.share_ways import known_way_s, least_below_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu_kernels.arrays import Ints

FEW = 2  # devices with heads, or with units: one of them may be left


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
    """Find the best of the small changes of a placement, of ranges of its layers, after those of its ends; write it.

    `numbers`, [3]: how many changes there are, how many of them fit, and how many are written.
    """
    begin_batch(b, w)
    begin_best(r, below)
    giver, far = fill_floors(t, y, s, b, w, p), t.n_layers == 1
    begin, count, numbers[0] = 0, ends(s, b, 0) if with_ends == 1 else 0, 0
    for at in range(n_ranges):
        first, after = ranges[2 * at], ranges[2 * at + 1]
        for what in range(BOTH + 1):
            before, number, most = 0, 1, s.n_units if what == UNITS else s.n_groups
            while before < most:
                limit = r.costs[0] * (1.0 + ROUNDING)
                count = _shifts_below(s, b, w, count, first, after, what, before, number, giver, limit, numbers)
                find_best(t, m, y, b, w, p, r, begin, count, far)
                begin, before, number = count, number, min(2 * number, most)
        count = gathered(s, b, count, first, after)
    find_best(t, m, y, b, w, p, r, begin, count, far)
    numbers[1] = numbers[0]
    for which in range(count):
        numbers[1] += missing_bytes(m, y, b, which) == 0
    numbers[0] += count
    numbers[2] = count


def _shifts_below(
    s: Base,
    b: Batch,
    w: Scratch,
    count: int,
    begin: int,
    end: int,
    what: int,
    before: int,
    number: int,
    giver: int,
    limit: float,
    numbers: Ints,
) -> int:
    """Write shifts of so many shares but for those that cost a limit or more; the number of placements.

    Those that are left out are counted in `numbers`.
    """
    for source in range(s.n):
        if useful(s, source, begin, end, what, before):
            first, after = 0, s.n
            if w.floors[what * s.n + source] >= limit:
                first, after = giver, giver + 1
                numbers[0] += s.n - 1 - (giver != source)
            for target in range(first, after):
                count = shifted(s, b, count, begin, end, what, number, source, target)
    return count


def fill_floors(t: StepTables, y: WayTables, s: Base, b: Batch, w: Scratch, p: CostTerms) -> int:
    """Compute what shifts from each device cost at least, but for those to the one that gives most; which one this is.

    0 where nothing is known: where the layer may come to be whole, or a change not to fit.
    """
    n, holders, parts = s.n, 0, 0
    for a in range(n):
        holders += s.heads[a] > 0
        parts += s.units[a] > 0
        for what in range(BOTH + 1):
            w.floors[what * n + a] = 0.0
    if t.n_layers > 1:
        return 0
    fill_moves(t, y, w)
    if t.star or s.proj[0] >= 0 or holders <= FEW or parts <= FEW or not (y.ample and s.divide):
        return 0
    write_base(s, b, 0)
    least_below_s(t, b, w, 0, least_below_s(t, b, w, 0, np.inf))  # notes the longest way
    way_s = known_way_s(t, b, w, 0)
    layer_migration_s(t, y, b, w, 0)
    giver = giver_of(w, n)
    for source in range(n):
        moved_s, other = 0.0, _giver_then(t, b, w, giver, source)
        for a in range(n):
            at_once = w.caches[a] + (0.0 if y.on_flash else w.weights[a])
            if a != source:
                moved_s = max(moved_s, 8.0 * at_once * min(y.s_per_bit[giver * n + a], y.s_per_bit[other * n + a]))
        for what in range(BOTH + 1):
            w.floors[what * n + source] = _way_without_s(t, b, w, what, source, way_s) + moved_s * p.second
    return giver


def _way_without_s(t: StepTables, b: Batch, w: Scratch, what: int, source: int, way_s: float) -> float:
    """Time of the longest way, or of another one if it leads over what a device may give."""
    if (what == UNITS or source != w.longest[0]) and (what == GROUPS or source != w.longest[1]):
        return way_s
    heads, units = b.heads[source], b.units[source]
    b.heads[source] = heads if what == UNITS else 0
    b.units[source] = units if what == GROUPS else 0
    other_s = least_below_s(t, b, w, 0, np.inf)
    b.heads[source] = heads
    b.units[source] = units
    return other_s


def _giver_then(t: StepTables, b: Batch, w: Scratch, giver: int, source: int) -> int:
    """Device that may give most instead if one gives: this one, if it would by giving all."""
    groups, units = source * t.row, source * t.units_row
    given = w.group_lost[groups + b.heads[source]] - w.group_lost[groups]
    given += w.unit_lost[units + b.units[source]] - w.unit_lost[units]
    return source if w.lost[source] - given < w.lost[giver] + 1.0 else giver
