"""Kinds of values in functions under translation for LLVM: numbers, arrays, and named tuples of these in memory."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, get_type_hints

from llvmlite import ir

from edgeemu_kernels.arrays import Flags, Floats, Ints

Value = Any  # of LLVM; llvmlite has no types
INT, FLOAT, BOOL, BYTE, POINTER = ir.IntType(64), ir.DoubleType(), ir.IntType(1), ir.IntType(8), ir.PointerType()
NUMBERS = {int: INT, float: FLOAT, bool: BOOL, type(None): ir.VoidType()}
ELEMENTS = {Ints: INT, Floats: FLOAT, Flags: BYTE}


class ArrayValue(NamedTuple):
    """An array: where it begins, and the kind of its elements."""

    pointer: Value
    element: Any


class Fields(dict[str, Any]):
    """A named tuple in memory that does not change, by name of field: read at the entry of a function, as needed."""

    def __init__(self, entry: Any, value: Value, kind: Any) -> None:
        super().__init__()
        self.value, self._entry, self._places = value, entry, _places(kind)

    def __missing__(self, name: str) -> Any:
        place, of = self._places[name]
        slot = self._entry.gep(self.value, [INT(place)], source_etype=INT)
        field = self._entry.load(slot, typ=INT if of is bool else NUMBERS.get(of, POINTER))
        field.set_metadata("invariant.load", self._entry.module.add_metadata([]))  # LLVM need not read it again
        if of in ELEMENTS:
            self[name] = ArrayValue(field, ELEMENTS[of])
        else:
            self[name] = self._entry.trunc(field, BOOL) if of is bool else field
        return self[name]


@cache
def _places(kind: Any) -> dict[str, tuple[int, Any]]:
    """Place of each field of a class of named tuples, and its kind."""
    return {name: (place, of) for place, (name, of) in enumerate(get_type_hints(kind).items())}
