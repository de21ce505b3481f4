"""Named tuples of numbers and arrays in memory, as machine code of `scalar_code` reads them. Needs no LLVM."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgeemu_kernels.arrays import Ints, address_of


class Packed(NamedTuple):
    """Fields in memory, where they are, and the arrays that they point to."""

    at: int
    slots: Ints
    values: tuple[Any, ...]


def packed(kind: type[tuple[Any, ...]], *values: Any) -> Packed:
    """Write the fields of a named tuple into memory. Arrays are contiguous, of the kinds that its class says."""
    if len(values) != len(kind.__annotations__):
        raise ValueError(f"{kind.__name__} has {len(kind.__annotations__)} fields, not {len(values)}")
    slots = np.empty(len(values), np.int64)
    floats = slots.view(np.float64)
    for place, value in enumerate(values):
        if isinstance(value, np.ndarray):
            slots[place] = address_of(value)
        elif isinstance(value, float):
            floats[place] = value
        else:
            slots[place] = value
    return Packed(address_of(slots), slots, values)
