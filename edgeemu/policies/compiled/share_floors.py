"""Floors of shifts in a model of one layer: what all shifts of a kind from one device cost at least.

A shift shortens the longest way only if its source is on it, and what a device waits for only if that is its source.
What other devices compute for several sequences, and what links between others carry, becomes no less either. A device
that lacks memory still does unless it is the source.
"""

import numpy as np

from edgeemu.policies.compiled.share_descent import NONE, CostTerms
from edgeemu.policies.compiled.share_loads import is_divided, least_busy_s, longest_link_s
from edgeemu.policies.compiled.share_needs import giver_of, lacks_anyway, migration_s
from edgeemu.policies.compiled.share_neighbours import BOTH, GROUPS, UNITS, Base, write_base
from edgeemu.policies.compiled.share_ways import least_below_s, way_of_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.step_time import ROUNDING
from edgeemu_kernels.arrays import Floats

FEW = 2  # devices with heads, or with units: one of them may be left
KINDS = BOTH + 1  # of shifts
KEEPS, GIVES_ALL, FROM_GIVER, FROM_SOURCE, LOST = 0, KINDS, 2 * KINDS, 2 * KINDS + 1, 2 * KINDS + 2  # rows of floors
UNKNOWN_S = -1.0  # in place of a floor
BYTE = 1.0  # by which two devices give differently, whatever was rounded


def floor_s(
    y: WayTables, s: Base, w: Scratch, what: int, number: int, giver: int, source: int, to_giver: bool
) -> float:
    """Cost of a shift from a device at least: its floor, and what the device that gives most then sends.

    `to_giver`: to the one that gives most now. `giver`: that one; NONE: no floors are known.
    """
    if giver == NONE:
        return 0.0
    groups = 0 if what == UNITS else min(number, s.heads[source])
    units = 0 if what == GROUPS else min(number * s.each if what == BOTH else number, s.units[source])
    keeps = (what == UNITS or groups < s.heads[source]) and (what == GROUPS or units < s.units[source])
    floor_s = w.floors[((KEEPS if keeps else GIVES_ALL) + what) * s.n + source]
    given = groups * (y.head + (y.column if s.proj[0] < 0 else 0.0)) + units * y.unit
    left, most = w.floors[LOST * s.n + source] - given, w.floors[LOST * s.n + giver]
    if source == giver or left + BYTE < most:
        return floor_s + w.floors[FROM_SOURCE * s.n + source]
    most = most + given if to_giver else most
    if to_giver and not _gives_most(w, s.n, giver, most + BYTE):
        return floor_s
    sent_s = w.floors[FROM_GIVER * s.n + source]
    if left <= most + BYTE:  # whichever of the two then gives most
        sent_s = min(sent_s, w.floors[FROM_SOURCE * s.n + source])
    return floor_s + sent_s


def _gives_most(w: Scratch, n: int, giver: int, lost: float) -> bool:
    """Whether a device that loses so little more than it gets still gives more than every other one."""
    most = giver
    for a in range(n):
        most = a if w.floors[LOST * n + a] <= lost and a != giver else most
    return most == giver


def fill_floors(
    t: StepTables, m: MemoryTables, y: WayTables, s: Base, b: Batch, w: Scratch, p: CostTerms, at: int, below: float
) -> int:
    """Compute what shifts from each device cost at least, if below a limit; the device that gives most.

    `at`: a place in a batch. NONE where nothing is known: a change may leave out what may not be divided. What does not
    fit costs more anyway.
    """
    n, holders, parts = s.n, 0, 0
    for a in range(n):
        holders += s.heads[a] > 0
        parts += s.units[a] > 0
    divided = s.proj[0] < 0 and parts > 1
    if t.n_layers > 1 or t.star or not (s.divide or (s.proj[0] >= 0 and parts == 1)):
        return NONE
    write_base(s, b, at)
    migration_s(y, b, w, at)
    giver = giver_of(w, n)
    for source in range(n):
        w.floors[LOST * n + source] = w.lost[source]
        w.floors[FROM_GIVER * n + source] = p.second * _arriving_s(y, w, giver, source)
        w.floors[FROM_SOURCE * n + source] = p.second * _arriving_s(y, w, source, source)
    if divided and holders > FEW and parts > FEW:
        _add_ways(t, b, w, at, holders, parts, below)
    else:
        _add_bounds(t, s, b, w, at, holders, parts)
    if t.sequences > 1:
        _add_loads(t, s, b, w, at, holders, parts)
    if y.begin[0] != 1 and holders > FEW:
        _add_lacking(m, y, b, w, p, at)
    return giver


def _add_ways(t: StepTables, b: Batch, w: Scratch, at: int, holders: int, parts: int, below: float) -> None:
    """Add the longest way through a divided layer that shifts leave."""
    n, way_s = t.n, least_below_s(t, b, w, at, np.inf)
    limit_s = way_s * (1.0 - ROUNDING)
    least_below_s(t, b, w, at, limit_s)  # notes the longest way
    less_s = way_of_s(t, b, w, at, holders, parts)  # with a term less in each sum
    lm_head = b.lm_head[at] if w.longest[2] == 1 else NONE
    for source in range(n):
        gives_heads, gives_units = source == w.longest[0], source == w.longest[1] or source == lm_head
        if t.busy[0] == 1 or gives_heads or gives_units:
            _add_of_source(t, b, w, at, source, limit_s, below)
        else:
            for what in range(KINDS):
                w.floors[(KEEPS + what) * n + source] = way_s
                w.floors[(GIVES_ALL + what) * n + source] = less_s


def _add_of_source(t: StepTables, b: Batch, w: Scratch, at: int, source: int, limit_s: float, below: float) -> None:
    """Add floors of shifts from one device: of those of heads and units together first, which shorten a step most.

    `limit_s`: of what is computed. `below`: a limit of costs, above which one floor is as good as another.
    """
    least_s = _bound_with_s(t, b, w, at, BOTH, source, 0, limit_s)
    kept_s = least_s if least_s >= below else _bound_with_s(t, b, w, at, BOTH, source, 1, limit_s)
    for what in range(KINDS):
        keeps, gives = (KEEPS + what) * t.n + source, (GIVES_ALL + what) * t.n + source
        w.floors[keeps], w.floors[gives] = kept_s, least_s
        if what != BOTH and kept_s < below:
            w.floors[keeps] = _bound_with_s(t, b, w, at, what, source, 1, limit_s)
        if what != BOTH and least_s < below:
            w.floors[gives] = _bound_with_s(t, b, w, at, what, source, 0, limit_s)


def _add_bounds(t: StepTables, s: Base, b: Batch, w: Scratch, at: int, holders: int, parts: int) -> None:
    """Add bounds of a layer that is not all divided, but where parts may come to be whole."""
    n = t.n
    for source in range(n):
        for what in range(KINDS):
            groups, units = what != UNITS and s.heads[source] > 0, what != GROUPS and s.units[source] > 0
            other_s = UNKNOWN_S
            if not (groups and s.proj[0] < 0 and holders <= FEW):
                if units and parts == 1:
                    other_s = 0.0  # it may be divided, or whole on another device, which is not less busy than now
                elif (groups or units) and not (units and parts <= FEW):
                    other_s = _bound_with_s(t, b, w, at, what, source, 0, np.inf)
            w.floors[(KEEPS + what) * n + source] = other_s
            w.floors[(GIVES_ALL + what) * n + source] = other_s


def _add_loads(t: StepTables, s: Base, b: Batch, w: Scratch, at: int, holders: int, parts: int) -> None:
    """Raise floors that are known to rounds of several sequences: what keeps other devices and links busy."""
    n, divided = t.n, is_divided(t, b, at)
    _find_busiest(t, b, at, holders if divided else 0, parts if divided else 0, w.joined_s)
    _find_busiest(t, b, at, holders - 1 if divided else 0, parts - 1 if divided else 0, w.done_s)
    linked_s = longest_link_s(t, b, w, at, NONE) if divided else 0.0
    one, other = w.link[0], w.link[1]
    for source in range(n):
        if s.heads[source] > 0 or s.units[source] > 0:
            beside_s = linked_s
            if divided and (source == one or source == other):  # noqa: SIM109 - machine code has no `in`
                beside_s = longest_link_s(t, b, w, at, source)
            for what in range(KINDS):
                keeps, gives = (KEEPS + what) * n + source, (GIVES_ALL + what) * n + source
                if w.floors[keeps] >= 0.0:
                    kept_s, given_s = max(w.joined_s[source], linked_s), max(w.done_s[source], beside_s)
                    w.floors[keeps] = max(w.floors[keeps], t.sequences * kept_s)
                    w.floors[gives] = max(w.floors[gives], t.sequences * given_s)


def _add_lacking(m: MemoryTables, y: WayTables, b: Batch, w: Scratch, p: CostTerms, at: int) -> None:
    """Raise floors of shifts after which a device lacks memory as before: of all from other devices."""
    n, lacking, number = b.n, NONE, 0
    for a in range(n):
        if lacks_anyway(m, y, b, at, a):
            number += 1
            lacking = a
    for source in range(n):
        if number > 1 or (number == 1 and source != lacking):
            for row in range(GIVES_ALL + KINDS):
                w.floors[row * n + source] = max(w.floors[row * n + source], p.missing)


def _find_busiest(t: StepTables, b: Batch, at: int, holders: int, parts: int, others_s: Floats) -> None:
    """Find how long the busiest of all others is busy at least, for each device: [n]."""
    most, most_s, next_s = NONE, 0.0, 0.0
    for a in range(t.n):
        busy_s = least_busy_s(t, b, at, a, holders, parts)
        if busy_s > most_s:
            most, most_s, next_s = a, busy_s, most_s
        else:
            next_s = max(next_s, busy_s)
    for a in range(t.n):
        others_s[a] = next_s if a == most else most_s


def _bound_with_s(
    t: StepTables, b: Batch, w: Scratch, at: int, what: int, source: int, left: int, limit_s: float
) -> float:
    """Lower bound of a step where a device has no more than so much left of what it may give.

    If it is not below a limit, any above.
    """
    heads, units = b.heads[at * b.n + source], b.units[at * b.n + source]
    b.heads[at * b.n + source] = heads if what == UNITS else min(heads, left)
    b.units[at * b.n + source] = units if what == GROUPS else min(units, left)
    other_s = least_below_s(t, b, w, at, limit_s)
    b.heads[at * b.n + source] = heads
    b.units[at * b.n + source] = units
    return other_s


def _arriving_s(y: WayTables, w: Scratch, giver: int, source: int) -> float:
    """Time in which devices receive what comes to them from one that gives most, or read it; but for one."""
    longest_s, sent = 0.0, 0.0
    for a in range(y.n):
        if a != source:
            at_once = w.caches[a] + (0.0 if y.on_flash else w.weights[a])
            sent += at_once
            longest_s = max(longest_s, 8.0 * at_once * y.s_per_bit[giver * y.n + a])
            if y.on_flash:
                longest_s = max(longest_s, w.weights[a] / y.flash_bytes_per_s)
    return max(longest_s, 8.0 * sent * y.handled_s_per_bit[giver])
