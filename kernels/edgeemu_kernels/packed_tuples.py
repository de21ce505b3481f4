"""Named tuples of numbers and arrays in memory, as machine code of `scalar_code` reads them. Needs no LLVM."""

from __future__ import annotations

from functools import cache, lru_cache
from struct import Struct
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np

from edgeemu_kernels.arrays import Ints, address_of

_Tuple = TypeVar("_Tuple", bound=tuple[Any, ...])


class Packed(NamedTuple):
    """Fields in memory, which machine code takes as they are, and the arrays that they point to."""

    at: bytes
    values: tuple[Any, ...]


def packed(kind: type[tuple[Any, ...]], *values: Any) -> Packed:
    """Write the fields of a named tuple into memory. Arrays are contiguous, of the kinds that its class says.

    In place of an array can be where it begins: who gives that keeps the array.
    """
    form, arrays, length, _ = _layout(kind)
    if len(values) != length:
        raise ValueError(f"{kind.__name__} has {length} fields, not {len(values)}")
    fields = list(values)
    for at in arrays:
        if type(fields[at]) is not int:
            fields[at] = address_of(fields[at])
    return Packed(form.pack(*fields), values)


def fields_of(kind: type[_Tuple], memory: Packed) -> _Tuple:
    """The fields of a named tuple in memory; of its arrays, where they begin."""
    return kind(*_layout(kind).form.unpack(memory.at))


def blank(kind: type[tuple[Any, ...]], *values: Any) -> Packed:
    """Write the numbers of a named tuple into memory, with room for its arrays in one piece: of each, its length."""
    fields, is_array, length = _room(kind, values)
    room = np.empty(length)  # of numbers, each of eight bytes
    return Packed((fields + address_of(room) * is_array).tobytes(), (room,))


@lru_cache(maxsize=256)
def _room(kind: type[tuple[Any, ...]], values: tuple[Any, ...]) -> tuple[Ints, Ints, int]:
    """Fields with the arrays' places in one piece in bytes, which fields are arrays, and the length of all arrays."""
    form, arrays, _, is_array = _layout(kind)
    fields, end = list(values), 0
    for at in arrays:
        fields[at], end = 8 * end, end + values[at]
    return np.frombuffer(form.pack(*fields), np.int64), is_array, end


class _Layout(NamedTuple):
    """How fields of a named tuple lie in memory, eight bytes each, which of them are arrays, and how many all are."""

    form: Struct
    arrays: tuple[int, ...]
    length: int
    is_array: Ints  # [length] 1 for an array


@cache
def _layout(kind: type[tuple[Any, ...]]) -> _Layout:
    hints = get_type_hints(kind).values()
    letters = ["d" if hint is float else "q" for hint in hints]
    arrays = tuple(at for at, hint in enumerate(hints) if hint not in {int, float, bool})
    is_array = np.isin(np.arange(len(letters)), arrays).astype(np.int64)
    return _Layout(Struct("=" + "".join(letters)), arrays, len(letters), is_array)
