"""Small changes of one placement: `search.share_moves`, in the same order."""

from typing import NamedTuple

from edgeemu.policies.compiled.tables import Batch
from edgeemu_kernels.arrays import Ints

WITH_HEADS = -1  # in place of the device of a projection
UNITS, GROUPS, BOTH = 0, 1, 2  # what shifts
EMBED, LM_HEAD, ENDS, PROJ, HEADS_PROJ, LAYER, PROJ_FFN, FFN = range(8)  # what moves to one device


class Base(NamedTuple):
    """A placement, with one layer for each run of layers alike, and what may become of it."""

    n: int
    n_runs: int
    n_groups: int
    n_units: int
    each: int  # units that go with a group
    divide: bool
    ends: Ints  # [2] embedding, output matrix
    heads: Ints  # [n_runs, n]
    proj: Ints  # [n_runs]
    units: Ints  # [n_runs, n]


def ends(s: Base, b: Batch, count: int) -> int:
    """Write placements with the embedding, the output matrix, or both on each device; the number of placements."""
    for what in range(EMBED, ENDS + 1):
        for device in range(s.n):
            count = at_one(s, b, count, what, device, 0, 0)
    return count


def changes(s: Base, b: Batch, count: int, begin: int, end: int) -> int:
    """Write placements in which runs of layers from `begin` to `end` are changed alike; the number of placements."""
    for what in range(BOTH + 1):
        before, number, most = 0, 1, s.n_units if what == UNITS else s.n_groups
        while before < most:
            for source in range(s.n):
                if useful(s, source, begin, end, what, before):
                    for target in range(s.n):
                        count = shifted(s, b, count, begin, end, what, number, source, target)
            before, number = number, min(2 * number, most)
    return gathered(s, b, count, begin, end)


def gathered(s: Base, b: Batch, count: int, begin: int, end: int) -> int:
    """Write placements in which parts of layers are on one device; the number of placements."""
    for what in range(PROJ, FFN + 1):
        for device in range(s.n + (what == PROJ)):
            count = at_one(s, b, count, what, device, begin, end)
    return count


def at_one(s: Base, b: Batch, count: int, what: int, device: int, begin: int, end: int) -> int:
    """Write a placement with some parts on one device; the number of placements."""
    write_base(s, b, count)
    if what <= ENDS and what != LM_HEAD:
        b.embed[count] = device
    if what <= ENDS and what != EMBED:
        b.lm_head[count] = device
    for run in range(begin, end):
        _gather(s, b, count * s.n_runs + run, what, device)
    return _kept(s, b, count)


def elsewhere(s: Base, b: Batch, count: int) -> int:
    """Write placements in which a device leaves all to another, then those in which two change places; the number.

    Of devices that have something: others have nothing to leave, and whoever changes places with them leaves all.
    """
    for swapped in range(2):
        for source in range(s.n):
            for target in range(s.n):
                both = swapped == 0 or (source < target and is_used(s, target))
                if source != target and both and is_used(s, source):
                    write_renamed(s, b, count, source, target, swapped == 1)
                    count += 1
    return count


def is_used(s: Base, device: int) -> bool:
    """Whether a device has something."""
    used = s.ends[0] == device or s.ends[1] == device
    for run in range(s.n_runs):
        parts = s.heads[run * s.n + device] + s.units[run * s.n + device]
        used = used or s.proj[run] == device or parts > 0
    return used


def write_renamed(s: Base, b: Batch, count: int, source: int, target: int, swapped: bool) -> None:
    """Write what a device has to another one, or what these two have to each other."""
    b.embed[count] = _renamed(s.ends[0], source, target, swapped)
    b.lm_head[count] = _renamed(s.ends[1], source, target, swapped)
    for run in range(s.n_runs):
        here = count * s.n_runs + run
        b.proj[here] = _renamed(s.proj[run], source, target, swapped)
        for a in range(s.n):
            b.heads[here * s.n + a] = 0
            b.units[here * s.n + a] = 0
        for a in range(s.n):
            there = here * s.n + _renamed(a, source, target, swapped)
            b.heads[there] += s.heads[run * s.n + a]
            b.units[there] += s.units[run * s.n + a]
    write_normally(s, b, count)


def _renamed(device: int, source: int, target: int, swapped: bool) -> int:
    """Where what a device has is then."""
    if device == source:
        return target
    return source if swapped and device == target else device


def _gather(s: Base, b: Batch, at: int, what: int, device: int) -> None:
    """Put parts of a layer on one device; a projection also where the heads are, in place of one after all devices."""
    if what != FFN:
        b.proj[at] = device if device < s.n else WITH_HEADS
    for a in range(s.n):
        if what != PROJ and what <= LAYER:
            b.heads[at * s.n + a] = s.n_groups if a == device else 0
        if what >= LAYER:
            b.units[at * s.n + a] = s.n_units if a == device else 0


def shifted(
    s: Base, b: Batch, count: int, begin: int, end: int, what: int, number: int, source: int, target: int
) -> int:
    """Write a placement in which shares shift from one device to another one; the number of placements."""
    if target == source:
        return count
    groups = 0 if what == UNITS else number
    units = number if what == UNITS else (number * s.each if what == BOTH else 0)
    write_base(s, b, count)
    for run in range(begin, end):
        _shift(b.heads[(count * s.n_runs + run) * s.n :], source, target, groups)
        _shift(b.units[(count * s.n_runs + run) * s.n :], source, target, units)
    return _kept(s, b, count)


def useful(s: Base, source: int, begin: int, end: int, what: int, before: int) -> bool:
    """Whether a device has more to give than was given with the number before."""
    for run in range(begin, end):
        if what != UNITS and s.heads[run * s.n + source] > before:
            return True
        if what == UNITS and s.units[run * s.n + source] > before:
            return True
        if what == BOTH and s.units[run * s.n + source] > before * s.each:
            return True
    return False


def _shift(counts: Ints, source: int, target: int, number: int) -> None:
    moved = min(counts[source], number)
    counts[source] -= moved
    counts[target] += moved


def write_base(s: Base, b: Batch, count: int) -> None:
    """Write the placement of which changes are made into a batch."""
    b.embed[count] = s.ends[0]
    b.lm_head[count] = s.ends[1]
    for run in range(s.n_runs):
        b.proj[count * s.n_runs + run] = s.proj[run]
    for at in range(s.n_runs * s.n):
        b.heads[count * s.n_runs * s.n + at] = s.heads[at]
        b.units[count * s.n_runs * s.n + at] = s.units[at]


def copy_placement(e: Batch, which: int, b: Batch, count: int) -> None:
    """Copy a placement from one batch into another, of runs alike."""
    b.embed[count] = e.embed[which]
    b.lm_head[count] = e.lm_head[which]
    for run in range(e.n_runs):
        b.proj[count * e.n_runs + run] = e.proj[which * e.n_runs + run]
    for at in range(e.n_runs * e.n):
        b.heads[count * e.n_runs * e.n + at] = e.heads[which * e.n_runs * e.n + at]
        b.units[count * e.n_runs * e.n + at] = e.units[which * e.n_runs * e.n + at]


def _kept(s: Base, b: Batch, count: int) -> int:
    """Write a placement normally; the number of placements with it, or without where it may not be divided."""
    write_normally(s, b, count)
    return count + 1 if s.divide or not _is_divided(s, b, count) else count


def write_normally(s: Base, b: Batch, count: int) -> None:
    """Write a projection that is divided with heads of one device as whole there."""
    for run in range(s.n_runs):
        at = count * s.n_runs + run
        if b.proj[at] < 0:
            holders, last = 0, 0
            for a in range(s.n):
                held = b.heads[at * s.n + a] > 0
                holders += held
                last = a if held else last
            b.proj[at] = last if holders == 1 else WITH_HEADS


def _is_divided(s: Base, b: Batch, count: int) -> bool:
    """Whether a layer is divided."""
    for run in range(s.n_runs):
        at, parts = count * s.n_runs + run, 0
        for a in range(s.n):
            parts += b.units[at * s.n + a] > 0
        if b.proj[at] < 0 or parts != 1:
            return True
    return False
