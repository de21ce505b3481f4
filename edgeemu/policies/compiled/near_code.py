"""Small changes of placements by machine code: made, and the best of them found, in one call."""

from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray
from edgeemu.policies.compiled.share_code import NeedsCode, StepCode, batch_of, functions
from edgeemu.policies.compiled.share_descent import NONE, Best, CostTerms
from edgeemu.policies.compiled.share_neighbours import Base
from edgeemu.policies.view.share_runs import Around, Folded
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.arrays import address_of
from edgeemu_kernels.packed_tuples import Packed, blank, packed


class _Room(NamedTuple):
    """A placement, and room for its changes."""

    base: Packed
    batch: Packed
    changes: ShareArrays  # to be written

    def first(self, count: int) -> ShareArrays:
        """As many placements as were written."""
        room = self.changes
        parts = room.embed, room.lm_head, room.heads, room.proj, room.units
        return ShareArrays(*(part[:count] for part in parts))


def most_changes(n: int, n_ranges: int, n_groups: int, n_units: int) -> int:
    """Small changes of a placement on n devices, at most."""
    shifts = n_units.bit_length() + 1 + 2 * (n_groups.bit_length() + 1)  # between two devices
    return 3 * n + n_ranges * (n * (n - 1) * shifts + 5 * n + 1)


class NearCode:
    """Small changes of placements: of their ends, then of ranges of layers."""

    def __init__(self, n_groups: int, n_units: int, *, divide: bool) -> None:
        self._functions, self.n_groups, self.n_units, self.divide = functions(), n_groups, n_units, divide

    def near(self, around: Around) -> ShareArrays:
        """Changes of each of some ranges of a placement's layers, after those of its ends."""
        room = self.room(around)
        return room.first(self._write(around, room))

    def vicinity(self, around: Around, others: ShareArrays) -> tuple[ShareArrays, int]:
        """These changes, and how many they are; then the placement on other devices, and others, one layer of a run."""
        n = around.base.heads.shape[2]
        room = self.room(around, n * (n - 1) // 2 * 3 + len(others))
        beside = self._write(around, room)
        count = self._functions.elsewhere(room.base.at, room.batch.at, beside)
        found = room.first(count + len(others))
        for part in ("embed", "lm_head", "heads", "proj", "units"):
            getattr(found, part)[count:] = getattr(others, part)
        return found, beside

    def room(self, around: Around, more: int = 0) -> _Room:
        """Room for small changes of a placement, and for `more` others."""
        base, n_ranges = around.base, len(around.ranges)
        n_runs, n = base.heads.shape[1:]
        k = more + most_changes(n, n_ranges, self.n_groups, self.n_units)
        shapes = (k,), (k,), (k, n_runs, n), (k, n_runs), (k, n_runs, n)
        changes = ShareArrays(*(np.empty(shape, np.int64) for shape in shapes))
        sizes = n, n_runs, self.n_groups, self.n_units, max(1, self.n_units // self.n_groups), self.divide
        parts = map(np.ascontiguousarray, (base.heads, base.proj, base.units))
        begin = packed(Base, *sizes, np.concatenate([base.embed, base.lm_head]), *parts)
        return _Room(begin, batch_of(Folded(changes, around.runs)), changes)

    def _write(self, around: Around, room: _Room) -> int:
        """Write small changes; how many there are."""
        count: int = self._functions.ends(room.base.at, room.batch.at, 0) if around.ends else 0
        for first, after in around.ranges:
            count = self._functions.changes(room.base.at, room.batch.at, count, first, after)
        return count


class BestOf(NamedTuple):
    """The first of the small changes of a placement that costs least, and less than a limit."""

    near: Folded  # those that may be it
    at: int  # NONE: no cost is below the limit
    cost: float
    changes: int  # how many there are
    fitting: int  # how many of them fit


class DescentCode:
    """Costs of changes of placements: the step of each, and its migration at a price."""

    def __init__(self, steps: StepCode, needs: NeedsCode, changes: NearCode, second: float, missing: float) -> None:
        """`second`: price of one of a migration. `missing`: what a placement costs more that does not fit."""
        self._functions, self._steps, self._needs, self._changes = functions(), steps, needs, changes
        self._prices = packed(CostTerms, second, missing)

    def costs(self, near: Folded, below: float) -> FloatArray:
        """Cost of each placement; any that is not below a limit can be any above: [k]."""
        found, batch, ways = np.empty(len(near)), batch_of(near), self._needs.ways(near.runs)
        tables = self._steps.tables.at, self._needs.memory.at, ways.at, batch.at, self._steps.scratch.at
        self._functions.near_costs(*tables, self._prices.at, below, address_of(found))
        return found

    def best_near(self, near: Folded, beside: int, below: float) -> list[tuple[int, float]]:
        """The two placements that cost least of the first so many, then the one of the others, if below a limit."""
        batch, ways, best = batch_of(near), self._needs.ways(near.runs), _best()
        tables = self._steps.tables.at, self._needs.memory.at, ways.at, batch.at, self._steps.scratch.at
        self._functions.best_near(*tables, self._prices.at, best.at, below, beside, len(near))
        return [pair for pair in _found(best) if pair[0] != NONE]

    def best_change(self, around: Around, below: float) -> BestOf:
        """The best of the small changes of a placement."""
        room, ways = self._changes.room(around), self._needs.ways(around.runs)
        best, numbers, ranges = _best(), np.empty(3, np.int64), np.array(around.ranges, np.int64)
        tables = self._steps.tables.at, self._needs.memory.at, ways.at, room.base.at, room.batch.at
        asked = below, address_of(ranges), len(ranges), int(around.ends), address_of(numbers)
        self._functions.best_change(*tables, self._steps.scratch.at, self._prices.at, best.at, *asked)
        count, fitting, written = numbers.tolist()
        return BestOf(Folded(room.first(written), around.runs), *_found(best)[0], count, fitting)


def _best() -> Packed:
    """Room for the best placements."""
    return blank(Best, 3, 3)


def _found(best: Packed) -> list[tuple[int, float]]:
    """The best placements, with their costs; NONE where there is none."""
    (room,) = best.values
    return list(zip(room[:3].view(np.int64).tolist(), room[3:6].tolist(), strict=True))
