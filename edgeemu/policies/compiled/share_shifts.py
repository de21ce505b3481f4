"""Best small changes of a placement; within a model of one layer, those that cannot be best are left out.

A shift shortens the longest way only if its source is on it, and what a device waits for only if that is its source:
so most cost at least a floor that shifts from the same device have in common, and are not even written. What one device
computes alone takes at least as long as it does.
"""

import numpy as np

from edgeemu.policies.compiled.share_descent import NONE, Best, CostTerms, begin_best, find_best
from edgeemu.policies.compiled.share_floors import KINDS, fill_floors, floor_s
from edgeemu.policies.compiled.share_moves import fill_moves
from edgeemu.policies.compiled.share_needs import lacking_bytes, missing_bytes
from edgeemu.policies.compiled.share_neighbours import (
    BOTH,
    FFN,
    GROUPS,
    LAYER,
    PROJ,
    UNITS,
    Base,
    at_one,
    ends,
    shifted,
    useful,
    write_base,
)
from edgeemu.policies.compiled.share_step import begin_batch
from edgeemu.policies.compiled.share_ways import ends_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Ints


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
    if t.n_layers == 1:
        fill_moves(t, y, w)
    find_changes(t, m, y, s, b, w, p, r, below, ranges, n_ranges, with_ends, 0, 0, t.n_layers == 1, True, numbers)
    numbers[1] = numbers[0] - numbers[2]  # all that are left out fit
    for which in range(numbers[2]):
        numbers[1] += missing_bytes(m, y, b, which) == 0


def find_changes(
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
    begin: int,
    last: int,
    far: bool,
    fitting: bool,
    numbers: Ints,
) -> None:
    """Find the best changes, as `find_best` says, and write them into a batch from `begin` on.

    `far`: the tables of moves are filled. `fitting`: none is left out that may not fit. `numbers`, [3]: in all,
    nothing, and written.
    """
    begin_batch(b, w)
    giver, numbers[0] = NONE if fitting and y.begin[0] != 1 else fill_floors(t, m, y, s, b, w, p, begin, below), 0
    if giver != NONE and y.begin[0] != 1:
        below = _freeing_below(t, m, y, s, b, w, p, r, below, ranges, n_ranges, begin, last, far)
    begin_best(r, below)
    count, done = ends(s, b, begin) if with_ends == 1 else begin, begin
    for at in range(n_ranges):
        first, after = ranges[2 * at], ranges[2 * at + 1]
        for what in range(KINDS + 1):
            before, number, most = 0, 1, 1 if what == KINDS else (s.n_units if what == UNITS else s.n_groups)
            while before < most:
                limit = r.costs[last] * (1.0 + ROUNDING) if giver != NONE else np.inf
                if what == KINDS:
                    count = _gathered_below(t, s, b, count, first, after, limit, numbers)
                else:
                    count = _shifts_below(y, s, b, w, count, first, after, what, before, number, giver, limit, numbers)
                find_best(t, m, y, b, w, p, r, done, count, last, far)
                done, before, number = count, number, min(2 * number, most)
    numbers[0] += count - begin
    numbers[2] = count - begin


def _freeing_below(
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
    at: int,
    last: int,
    far: bool,
) -> float:
    """Lower a limit to what the best shifts from devices cost that lack memory: few others fit, but most are looked at.

    `at`: a place in the batch.
    """
    begin_best(r, below)
    write_base(s, b, at)
    for source in range(s.n):
        if lacking_bytes(m, y, b, at, source) > 0:
            for where in range(n_ranges):
                first, after = ranges[2 * where], ranges[2 * where + 1]
                for what in range(KINDS):
                    before, number, most = 0, 1, s.n_units if what == UNITS else s.n_groups
                    while before < most and useful(s, source, first, after, what, before):
                        for target in range(s.n):
                            left = _may_be_left(s, source, what, number)
                            end = shifted(s, b, at, first, after, what, number, source, target) if left else at
                            find_best(t, m, y, b, w, p, r, at, end, last, far)
                        before, number = number, min(2 * number, most)
            write_base(s, b, at)
    return min(below, r.costs[last] * (1.0 + ROUNDING))


def _shifts_below(
    y: WayTables,
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
        if useful(s, source, begin, end, what, before) and _may_be_left(s, source, what, number):
            least_s = floor_s(y, s, w, what, number, giver, source, False)
            to_giver_s = least_s if source == giver else floor_s(y, s, w, what, number, giver, source, True)
            for target in range(s.n):
                if target != source and (to_giver_s if target == giver else least_s) >= limit:
                    numbers[0] += 1
                else:
                    count = shifted(s, b, count, begin, end, what, number, source, target)
    return count


def _may_be_left(s: Base, source: int, what: int, number: int) -> bool:
    """Whether a shift may leave a whole feed-forward block as it does: in parts only where that may be divided."""
    if s.divide or s.n_runs > 1 or what == GROUPS or s.units[source] < s.n_units:
        return True
    return (number * s.each if what == BOTH else number) >= s.n_units


def _gathered_below(
    t: StepTables, s: Base, b: Batch, count: int, begin: int, end: int, limit: float, numbers: Ints
) -> int:
    """Write placements in which parts of layers are on one device, but for those that cost a limit or more."""
    heads_s, units_s = 0.0, 0.0  # on the devices that have them
    for a in range(s.n):
        heads_s = max(heads_s, t.heads_s[a * t.row + s.heads[a]])
        whole = s.units[a] == s.n_units
        units_s = max(units_s, t.ffn_s[a] if whole else t.units_s[a * t.units_row + s.units[a]])
    for what in range(PROJ, FFN + 1):
        for device in range(s.n + (what == PROJ)):
            if device < s.n and _alone_s(t, s, what, device, heads_s, units_s) >= limit:
                numbers[0] += 1
            else:
                count = at_one(s, b, count, what, device, begin, end)
    return count


def _alone_s(t: StepTables, s: Base, what: int, device: int, heads_s: float, units_s: float) -> float:
    """Step with parts of a layer on one device, at least: what devices compute, the rest where it was."""
    if what != PROJ and what <= LAYER:
        heads_s = t.heads_s[device * t.row + s.n_groups]
    if what != FFN:
        heads_s = heads_s + t.proj_s[device]
    return ends_s(t, s.ends[0], s.ends[1]) + heads_s + (t.ffn_s[device] if what >= LAYER else units_s)
