"""Named tuples of numbers and arrays in memory, as machine code of `scalar_code` reads them. Needs no LLVM."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from struct import Struct
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from edgeemu_kernels.arrays import Raw, address_of


class Packed(NamedTuple):
    """Fields in memory, where they are, and the arrays that they point to."""

    at: int
    slots: Raw
    values: tuple[Any, ...]


def packed(kind: type[tuple[Any, ...]], *values: Any) -> Packed:
    """Write the fields of a named tuple into memory. Arrays are contiguous, of the kinds that its class says."""
    form, is_array = _layout(kind)
    if len(values) != len(is_array):
        raise ValueError(f"{kind.__name__} has {len(is_array)} fields, not {len(values)}")
    fields = [address_of(value) if array else value for value, array in zip(values, is_array, strict=True)]
    slots = np.frombuffer(form.pack(*fields), np.uint8)
    return Packed(address_of(slots), slots, values)


def blank(kind: type[tuple[Any, ...]], *values: Any) -> Packed:
    """Write the numbers of a named tuple into memory, with room for its arrays in one piece: of each, its length."""
    form, is_array = _layout(kind)
    ends = list(accumulate(value if array else 0 for value, array in zip(values, is_array, strict=True)))
    room = np.empty(ends[-1])  # of numbers, each of eight bytes
    begin = address_of(room)
    each = zip(values, is_array, ends, strict=True)
    fields = [begin + 8 * (end - value) if array else value for value, array, end in each]
    slots = np.frombuffer(form.pack(*fields), np.uint8)
    return Packed(address_of(slots), slots, (room,))


@cache
def _layout(kind: type[tuple[Any, ...]]) -> tuple[Struct, tuple[bool, ...]]:
    """How the fields of a class of named tuples lie in memory, eight bytes each, and which of them are arrays."""
    hints = get_type_hints(kind).values()
    letters = ["d" if hint is float else "q" for hint in hints]
    return Struct("=" + "".join(letters)), tuple(hint not in {int, float, bool} for hint in hints)
