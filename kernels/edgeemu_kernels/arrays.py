"""Types of the arrays that all kernels share. Knows no model and no format."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Raw = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Turns = NDArray[np.complex64]
Crossing = (
    NDArray[np.float32] | NDArray[np.int32]
)  # partial sums: float32, or whole numbers of 4 bytes, see `order_free`


def address(array: Array | Raw) -> int:
    """Address of an array's first value, for machine code. Raises ValueError where that would read it wrongly."""
    if array.dtype.char not in _READABLE or not array.flags.c_contiguous:
        raise ValueError(f"machine code takes contiguous float32 numbers or bytes, not {array.dtype}")
    return data_of(array)


def address_of(array: NDArray[Any]) -> int:
    """Address of an array's first value, for machine code that knows its kind. Raises ValueError for a part of one."""
    if not array.flags.c_contiguous:
        raise ValueError("machine code takes contiguous arrays")
    return data_of(array)


def _data_in_object(array: NDArray[Any]) -> int:
    """`array.ctypes.data` in a quarter of its time, which a token takes a thousand times.

    NumPy's array object is a Python object's head, then this pointer (PyArrayObject_fields in ndarraytypes.h).
    """
    return _POINTER_AT(id(array) + _HEAD_BYTES).value or 0


def _data_by_numpy(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


_HEAD_BYTES = object.__basicsize__
_POINTER_AT = ctypes.c_void_p.from_address
_READABLE = "fB"  # NumPy's letters of float32 and uint8
_SAMPLE = np.zeros(1, np.float32)
# Of an array that is contiguous, and of numbers that are known: it was made where this is asked.
data_of = _data_in_object if _data_in_object(_SAMPLE) == _data_by_numpy(_SAMPLE) else _data_by_numpy
