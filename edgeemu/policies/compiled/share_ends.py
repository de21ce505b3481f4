"""Ends of descents from placements near the one in force: `search.share_search`, in the same order.

Of models of few layers, whose small changes are all in one batch.
"""

from typing import NamedTuple

from edgeemu.policies.compiled.device_speeds import AllDevices, DeviceForecasts, expect
from edgeemu.policies.compiled.share_assigned import Assigned, BlockTables, moving_s
from edgeemu.policies.compiled.share_descent import NONE, Best, CostTerms, begin_best, find_best, keep_third
from edgeemu.policies.compiled.share_elsewhere import find_elsewhere
from edgeemu.policies.compiled.share_fill import LinkTables, StepWorks, fill
from edgeemu.policies.compiled.share_loads import round_s
from edgeemu.policies.compiled.share_moves import fill_moves
from edgeemu.policies.compiled.share_needs import missing_bytes
from edgeemu.policies.compiled.share_neighbours import Base, write_base
from edgeemu.policies.compiled.share_seeds import begin_search
from edgeemu.policies.compiled.share_shifts import find_changes
from edgeemu.policies.compiled.share_step import begin_batch
from edgeemu.policies.compiled.tables import Batch, MemoryTables, MoveSizes, Scratch, StepTables, WayTables
from edgeemu_kernels.arrays import Floats, Ints

BEGUN = 3  # placements from which a search goes on, at most: each has an end of its own, or is one


MOST = 1 + 2 * BEGUN  # placements: the one in force, and ends


class Terms(NamedTuple):
    """Terms of a search."""

    work: float  # for which changes are judged
    no_room: float  # share of the work of judging a placement that is memory
    worth: float  # share of its cost that a change must gain
    least_gain: float  # relative, of one step of a descent
    n_ranges: int
    ranges: Ints  # [n_ranges, 2] of layers that are changed alike


class EndTimes(NamedTuple):
    """Places to write in: of the placement in force and of the ends, and of those where descents begin."""

    costs: Floats  # [MOST]
    steps_s: Floats  # [MOST] of the ends alone
    moves_s: Floats  # [MOST] the migrations to them
    begun: Ints  # [BEGUN]
    begun_costs: Floats  # [BEGUN]
    numbers: Ints  # [3]


def find_ends(
    t: StepTables,
    v: AllDevices,
    c: DeviceForecasts,
    tokens: float,
    ahead_at: Floats,
    ahead: AllDevices,
    devices: Ints,
    links: LinkTables,
    rows: Ints,
    q: StepWorks,
    past: int,
    m: MemoryTables,
    y: WayTables,
    w: Scratch,
    near: Batch,
    s: Base,
    others: int,
    b: Batch,
    r: Best,
    e: Batch,
    f: EndTimes,
    z: MoveSizes,
    a: BlockTables,
    h: Assigned,
    g: Terms,
    p: CostTerms,
) -> int:
    """Write the placement in force into `e`, and after it where descents from the best near it end, each once.

    How many placements these are. `ahead`: devices as they are expected in the mean over some tokens. `near`: with so
    many `others` than changes of that in force, and room for these. `b`: room for changes of later placements, `s`: for
    what all are of. `z`, `a`, `h`: of exact migrations.
    """
    expect(v, c, tokens, ahead_at)
    fill(t, ahead, devices, links, rows, q, past)
    begin_search(y, s, b)
    before = _write_first(t, m, y, w, p, s, e)
    f.costs[0] = before
    _find_begins(t, m, y, w, s, near, r, f, g, p, before * (1.0 - g.worth), others)
    count, work = 1, g.work
    for turn in range(BEGUN):
        if f.begun[turn] != NONE:
            cost = f.begun_costs[turn]
            _go_on_from(s, near, f.begun[turn])
            count = _note_end(e, f, s, count, cost)
            while work > 0.0:
                limit = cost * (1.0 - g.least_gain)
                far = t.n_layers == 1
                find_changes(t, m, y, s, b, w, p, r, limit, g.ranges, g.n_ranges, 1, 0, 0, far, False, f.numbers)
                work -= (1.0 + g.no_room) * f.numbers[0] * t.n_layers * (t.n * t.n + 16.0)
                if r.at[0] == NONE:
                    break
                cost = r.costs[0]
                _go_on_from(s, b, r.at[0])
            count = _note_end(e, f, s, count, cost)
    for which in range(1, count):
        f.steps_s[which] = round_s(t, e, w, which)
        f.moves_s[which] = moving_s(z, a, e, which, h)
    return count


def _find_begins(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    w: Scratch,
    s: Base,
    near: Batch,
    r: Best,
    f: EndTimes,
    g: Terms,
    p: CostTerms,
    limit: float,
    others: int,
) -> None:
    """Find the best placements near the one in force that cost less than a limit: descents begin there."""
    begin_batch(near, w)
    begin_best(r, limit)
    begin = find_elsewhere(t, m, y, s, near, w, p, r, others)
    find_best(t, m, y, near, w, p, r, 0, others, 0, False)
    keep_third(r)
    find_changes(t, m, y, s, near, w, p, r, limit, g.ranges, g.n_ranges, 1, begin, 1, False, False, f.numbers)
    if _note_begun(f, r) > 0 and t.n_layers == 1:
        fill_moves(t, y, w)


def _write_first(t: StepTables, m: MemoryTables, y: WayTables, w: Scratch, p: CostTerms, s: Base, e: Batch) -> float:
    """Write the placement in force; what it costs."""
    begin_search(y, s, e)
    write_base(s, e, 0)
    begin_batch(e, w)
    over = missing_bytes(m, y, e, 0)
    return p.missing + over if over > 0 else round_s(t, e, w, 0)


def _note_begun(f: EndTimes, r: Best) -> int:
    """Note where descents begin; how many do."""
    count = 0
    for turn in range(BEGUN):
        f.begun[turn] = r.at[turn]
        f.begun_costs[turn] = r.costs[turn]
        count += r.at[turn] != NONE
    return count


def _go_on_from(s: Base, b: Batch, which: int) -> None:
    """Go on from one placement of a batch."""
    s.ends[0] = b.embed[which]
    s.ends[1] = b.lm_head[which]
    for run in range(s.n_runs):
        s.proj[run] = b.proj[which * s.n_runs + run]
    for at in range(s.n_runs * s.n):
        s.heads[at] = b.heads[which * s.n_runs * s.n + at]
        s.units[at] = b.units[which * s.n_runs * s.n + at]


def _note_end(e: Batch, f: EndTimes, s: Base, count: int, cost: float) -> int:
    """Write an end if it is not among those that were found; the number of placements then."""
    for which in range(1, count):
        if _is_found(e, s, which):
            return count
    write_base(s, e, count)
    f.costs[count] = cost
    return count + 1


def _is_found(e: Batch, s: Base, which: int) -> bool:
    """Whether a placement is one of those that were found."""
    if e.embed[which] != s.ends[0] or e.lm_head[which] != s.ends[1]:
        return False
    for run in range(s.n_runs):
        if e.proj[which * s.n_runs + run] != s.proj[run]:
            return False
    for at in range(s.n_runs * s.n):
        there = which * s.n_runs * s.n + at
        if e.heads[there] != s.heads[at] or e.units[there] != s.units[at]:
            return False
    return True
