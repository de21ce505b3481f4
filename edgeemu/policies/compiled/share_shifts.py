"""Best small changes of a placement; within a model of one layer, those that cannot be best are left out.

A shift shortens the longest way only if its source is on it, and what a device waits for only if that is its source:
so most cost at least a floor that shifts from the same device have in common, and are not even written. What one device
computes alone takes at least as long as it does.
"""

import numpy as np

from edgeemu.policies.compiled.share_descent import NONE, Best, CostTerms, begin_best, find_best
from edgeemu.policies.compiled.share_moves import fill_moves
from edgeemu.policies.compiled.share_needs import giver_of, migration_s, missing_bytes
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
from edgeemu.policies.compiled.share_ways import ends_s, least_below_s, way_of_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Ints

FEW = 2  # devices with heads, or with units: one of them may be left
KINDS = BOTH + 1  # of shifts
KEEPS, GIVES_ALL, FROM_GIVER, FROM_SOURCE, LOST = 0, KINDS, 2 * KINDS, 2 * KINDS + 1, 2 * KINDS + 2  # rows of floors
BYTE = 1.0  # by which two devices give differently, whatever was rounded


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
    find_changes(t, m, y, s, b, w, p, r, below, ranges, n_ranges, with_ends, 0, 0, t.n_layers == 1, numbers)
    count_fitting(m, y, b, numbers)


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
    numbers: Ints,
) -> None:
    """Find the best changes, as `find_best` says, and write them into a batch from `begin` on.

    `far`: the tables of moves are filled. `numbers`, [3]: in all, nothing, and written.
    """
    begin_batch(b, w)
    begin_best(r, below)
    giver, numbers[0] = fill_floors(t, y, s, b, w, p, begin), 0
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


def count_fitting(m: MemoryTables, y: WayTables, b: Batch, numbers: Ints) -> None:
    """Count the changes that fit, as all do that are left out; those that are written begin the batch."""
    numbers[1] = numbers[0] - numbers[2]
    for which in range(numbers[2]):
        numbers[1] += missing_bytes(m, y, b, which) == 0


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
        if useful(s, source, begin, end, what, before):
            floor_s = _floor_s(y, s, w, what, number, giver, source, False)
            to_giver_s = floor_s if source == giver else _floor_s(y, s, w, what, number, giver, source, True)
            for target in range(s.n):
                if target != source and (to_giver_s if target == giver else floor_s) >= limit:
                    numbers[0] += 1
                else:
                    count = shifted(s, b, count, begin, end, what, number, source, target)
    return count


def _floor_s(
    y: WayTables, s: Base, w: Scratch, what: int, number: int, giver: int, source: int, to_giver: bool
) -> float:
    """Cost of a shift from a device at least: the longest way, and what the device that gives most then sends.

    `to_giver`: to the one that gives most now.
    """
    if giver == NONE:
        return 0.0
    groups = 0 if what == UNITS else min(number, s.heads[source])
    units = 0 if what == GROUPS else min(number * s.each if what == BOTH else number, s.units[source])
    keeps = (what == UNITS or groups < s.heads[source]) and (what == GROUPS or units < s.units[source])
    floor_s = w.floors[((KEEPS if keeps else GIVES_ALL) + what) * s.n + source]
    given = groups * (y.head + y.column) + units * y.unit
    left, most = w.floors[LOST * s.n + source] - given, w.floors[LOST * s.n + giver]
    if source == giver or left + BYTE < most:
        return floor_s + w.floors[FROM_SOURCE * s.n + source]
    most = most + given if to_giver else most
    if most + BYTE < left and (not to_giver or _gives_most(w, s.n, giver, most + BYTE)):
        return floor_s + w.floors[FROM_GIVER * s.n + source]
    return floor_s


def _gives_most(w: Scratch, n: int, giver: int, lost: float) -> bool:
    """Whether a device that loses so little more than it gets still gives more than every other one."""
    most = giver
    for a in range(n):
        most = a if w.floors[LOST * n + a] <= lost and a != giver else most
    return most == giver


def _gathered_below(
    t: StepTables, s: Base, b: Batch, count: int, begin: int, end: int, limit: float, numbers: Ints
) -> int:
    """Write placements in which parts of layers are on one device, but for those that cost a limit or more."""
    heads_s, units_s = 0.0, 0.0  # on the devices that have them
    for a in range(s.n):
        heads_s = max(heads_s, t.heads_s[a * t.row + s.heads[a]])
        units_s = max(units_s, t.units_s[a * t.units_row + s.units[a]])
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


def fill_floors(t: StepTables, y: WayTables, s: Base, b: Batch, w: Scratch, p: CostTerms, at: int) -> int:
    """Compute what shifts from each device cost at least; the device that gives most. `at`: a place in a batch.

    NONE where nothing is known: where the layer may come to be whole, or a change not to fit.
    """
    n, holders, parts = s.n, 0, 0
    for a in range(n):
        holders += s.heads[a] > 0
        parts += s.units[a] > 0
    few = holders <= FEW or parts <= FEW
    if t.n_layers > 1 or t.star or s.proj[0] >= 0 or few or y.begin[0] != 1 or not s.divide:
        return NONE
    write_base(s, b, at)
    way_s = least_below_s(t, b, w, at, np.inf)
    least_below_s(t, b, w, at, way_s)  # notes the longest way
    less_s = way_of_s(t, b, w, at, holders, parts)  # with a term less in each sum
    migration_s(y, b, w, at)
    giver = giver_of(w, n)
    for source in range(n):
        w.floors[LOST * n + source] = w.lost[source]
        w.floors[FROM_GIVER * n + source] = p.second * _arriving_s(y, w, giver, source)
        w.floors[FROM_SOURCE * n + source] = p.second * _arriving_s(y, w, source, source)
        for what in range(KINDS):
            on_way = (what != UNITS and source == w.longest[0]) or (what != GROUPS and source == w.longest[1])
            other_s = _way_without_s(t, b, w, at, what, source) if on_way else way_s
            w.floors[(KEEPS + what) * n + source] = other_s
            w.floors[(GIVES_ALL + what) * n + source] = other_s if on_way else less_s
    return giver


def _way_without_s(t: StepTables, b: Batch, w: Scratch, at: int, what: int, source: int) -> float:
    """Time of the longest way that does not lead over what a device may give."""
    heads, units = b.heads[at * b.n + source], b.units[at * b.n + source]
    b.heads[at * b.n + source] = heads if what == UNITS else 0
    b.units[at * b.n + source] = units if what == GROUPS else 0
    other_s = least_below_s(t, b, w, at, np.inf)
    b.heads[at * b.n + source] = heads
    b.units[at * b.n + source] = units
    return other_s


def _arriving_s(y: WayTables, w: Scratch, giver: int, source: int) -> float:
    """Time in which devices receive what comes to them from one that gives most; but for one."""
    longest_s = 0.0
    for a in range(y.n):
        at_once = w.caches[a] + (0.0 if y.on_flash else w.weights[a])
        if a != source:
            longest_s = max(longest_s, 8.0 * at_once * y.s_per_bit[giver * y.n + a])
    return longest_s
