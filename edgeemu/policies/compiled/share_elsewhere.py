"""Best placements in which a device leaves all to another one, or two change places, as `share_neighbours.elsewhere`.

On many devices these are most of what a search looks at. Within a model of one layer those are not even written that
leave the longest way, or what the busiest device computes for several sequences, as it is.
"""

import numpy as np

from edgeemu.policies.compiled.share_descent import NONE, Best, CostTerms, find_best
from edgeemu.policies.compiled.share_floors import FEW
from edgeemu.policies.compiled.share_loads import is_divided, least_busy_s
from edgeemu.policies.compiled.share_neighbours import Base, is_used, write_base, write_renamed
from edgeemu.policies.compiled.share_ways import least_below_s, way_of_s
from edgeemu.policies.compiled.tables import Batch, MemoryTables, Scratch, StepTables, WayTables
from edgeemu.policies.view.step_time import ROUNDING

BUSIEST = 3  # devices: one of them at least is neither of two


def find_elsewhere(
    t: StepTables,
    m: MemoryTables,
    y: WayTables,
    s: Base,
    b: Batch,
    w: Scratch,
    p: CostTerms,
    r: Best,
    begin: int,
) -> int:
    """Find the best that costs less than the best so far, and write it into a batch; where placements end then.

    `begin`: from where on there is room.
    """
    count, way_s = begin, _find_floors(t, s, b, w, begin)
    over, by = w.longest[0], w.longest[1]
    for swapped in range(2):
        for source in range(s.n):
            if is_used(s, source):
                on_way = _is_on_way(s, over, by, source)
                for target in range(s.n):
                    others = swapped == 1 and (source > target or not is_used(s, target))
                    if source != target and not others:
                        left_s = 0.0 if on_way or _is_on_way(s, over, by, target) else way_s
                        floor_s = max(left_s, _others_busy_s(w, source, target))
                        if floor_s < r.costs[0] * (1.0 + ROUNDING):
                            write_renamed(s, b, count, source, target, swapped == 1)
                            find_best(t, m, y, b, w, p, r, count, count + 1, 0, False)
                            count += r.at[0] == count
    return count


def _find_floors(t: StepTables, s: Base, b: Batch, w: Scratch, at: int) -> float:
    """Find the longest way and the busiest devices; what a step takes at least where the way remains.

    0, and no devices, where they are not known: parts of the layer are whole, or may come to be. `at`: a place in the
    batch.
    """
    holders, parts = 0, 0
    for rank in range(BUSIEST):
        w.floors[rank] = 0.0
        w.busiest[1 + rank] = NONE
    write_base(s, b, at)
    for a in range(s.n):
        holders += s.heads[a] > 0
        parts += s.units[a] > 0
    if not is_divided(t, b, at) or holders <= FEW or parts <= FEW:
        return 0.0
    if t.sequences > 1:
        for a in range(s.n):
            _note_busy(w, a, t.sequences * least_busy_s(t, b, at, a, holders - 1, parts - 1))
    least_below_s(t, b, w, at, least_below_s(t, b, w, at, np.inf) * (1.0 - ROUNDING))  # notes the longest way
    return way_of_s(t, b, w, at, holders, parts)  # with a term less in each sum


def _note_busy(w: Scratch, device: int, busy_s: float) -> None:
    """Note a device if it is among the busiest."""
    rank = BUSIEST
    while rank > 0 and busy_s > w.floors[rank - 1]:
        rank -= 1
        if rank + 1 < BUSIEST:
            w.floors[rank + 1] = w.floors[rank]
            w.busiest[2 + rank] = w.busiest[1 + rank]
    if rank < BUSIEST:
        w.floors[rank] = busy_s
        w.busiest[1 + rank] = device


def _others_busy_s(w: Scratch, source: int, target: int) -> float:
    """Time for which all sequences keep the busiest of all but two devices busy at least."""
    rank = 0
    while rank + 1 < BUSIEST and (w.busiest[1 + rank] == source or w.busiest[1 + rank] == target):
        rank += 1
    return w.floors[rank]


def _is_on_way(s: Base, over: int, by: int, device: int) -> bool:
    """Whether a way leads over a device, from the embedding to the output matrix."""
    ends = device == s.ends[0] or device == s.ends[1]
    return ends or over == device or by == device
