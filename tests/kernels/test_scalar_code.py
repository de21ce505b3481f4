"""A function that is translated to machine code does what it does as Python."""

from typing import NamedTuple

import numpy as np
import pytest

from edgeemu_kernels.arrays import Flags, Floats, Ints, address_of
from edgeemu_kernels.packed_tuples import packed
from edgeemu_kernels.scalar_functions import MachineCode

START = 100.0


class Table(NamedTuple):
    n: int
    doubled: bool
    least: float
    values: Floats
    counts: Ints
    flags: Flags


def largest(values: Floats, n: int) -> float:
    """The largest value; negative ones after the first count nothing."""
    found = -START
    for at in range(n):
        if values[at] < 0 and at > 0:
            continue
        found = max(found, values[at])
    return found


def fold(t: Table, out: Ints, stop: int) -> float:
    """Something of everything that can be translated."""
    first, total = -1, 0.0
    for at in range(1, t.n):
        if t.values[at] > 0.5 and first < 0:
            first = at
        t.flags[at] = t.counts[at] > 1 or not (t.flags[at] and t.doubled)
    before, now, turns = 0, 1, 0
    while now < 100:
        before, now = now, before + now
        turns += 1
        if turns == stop:
            break
    tail = t.values[first:]
    out[0] = first + int(t.least)
    out[1] = now
    out[2] = turns if t.doubled else -turns
    out[2] -= (t.counts[2] + t.flags[1]) >> 1
    total += largest(tail, t.n - first) / 3
    return max(total, t.least) * 2 + abs(-1.5) + min(t.counts[0], 2.5)


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("stop", [3, 200])
@pytest.mark.parametrize("least", [-7.0, 0.1, 9.0])
def test_machine_code_does_what_the_function_does(doubled: bool, stop: int, least: float) -> None:
    values, counts = np.array([0.1, -0.7, 0.9, 0.3, -2.0, 0.8]), np.arange(6)
    found = []
    for machine in (False, True):
        table, out = Table(6, doubled, least, values, counts, np.arange(6) % 2 > 0), np.zeros(3, np.int64)
        if machine:
            made, memory = MachineCode(fold), packed(Table, *table)
            returned = made[fold](memory.at, address_of(out), stop)
        else:
            returned = fold(table, out, stop)
        found.append((returned, out.tolist(), table.flags.tolist()))
    assert found[0] == found[1]


def test_what_another_function_calls_can_be_called_too() -> None:
    made, values = MachineCode(fold, largest), np.array([-1.0, 4.0, 2.0])
    assert made[largest](address_of(values), 3) == largest(values, 3) == 4.0


def listed(n: int) -> int:
    return sum([n, n])


def test_what_cannot_be_translated_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="sum"):
        MachineCode(listed)


def test_fields_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="Table has 6 fields, not 1"):
        packed(Table, 1)
    with pytest.raises(ValueError, match="contiguous"):
        packed(Table, 1, False, 0.5, np.arange(8.0)[::2], np.arange(4), np.zeros(4, np.bool_))
