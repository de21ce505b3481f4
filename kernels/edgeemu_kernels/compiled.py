"""Kernels compiled for this processor, where NumPy and BLAS read the same memory several times. Knows arrays; no model.

LLVM compiles them, in some tenths of a second, when this module is first imported: by `linear`, `attention` and
`dense`, for matrices above COMPILED_BYTES. NumPy's versions, beside each call there, are the reference of these.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from edgeemu_kernels.arrays import Array, Turns, address, address_of, data_of
from edgeemu_kernels.compiled_sizes import attention_scratch
from edgeemu_kernels.object_code import compile_module


def _text() -> str:
    """Module with all kernels."""
    from edgeemu_kernels.kernel_code import every_kernel  # needed only to compile

    return str(every_kernel())


_ENGINE = compile_module(__name__, _text)  # owns the machine code


def _function(name: str, pointers: int, counts: int, numbers: int = 0) -> Any:
    arguments = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * counts + [ctypes.c_float] * numbers
    kind = ctypes.CFUNCTYPE(None, *arguments)
    return kind(_ENGINE.get_function_address(name))


_FEW_ROWS = _function("few_rows", 3, 3)
_PLACE = _function("place", 4, 7, 1)
_ATTEND = _function("attend", 5, 5)
_CAUSAL_SOFTMAX = _function("causal_softmax", 2, 4)
_SWIGLU = _function("swiglu", 1, 2)
_READ = _function("read", 2, 1)


def few_rows(x: Array, weight: Array) -> Array:
    """Product x @ weight.T: [t, in], [out, in] -> [t, out]. Reads the weights once from memory; they are contiguous."""
    x = np.ascontiguousarray(x)
    y: Array = np.empty((len(x), len(weight)), np.float32)
    _FEW_ROWS(address(x), address(weight), data_of(y), *x.shape, len(weight))
    return y


def attend_next(
    qkv: Array, turns: Turns | None, scale: float, keys: Array, values: Array, at: int, out: Array, *, interleaved: bool
) -> None:
    """Attention of one position from its queries, keys and values [n*S + 2*n, hd], overwritten, to out [n, S, hd].

    Queries and keys are rotated by turns [hd/2], queries scaled, and keys and values [n, room, hd] get their rows `at`:
    they count with those before. hd: a multiple of 16.
    """
    n, s, hd = out.shape
    room, pairs = keys.shape[1], 0 if turns is None else len(turns)
    scratch: Array = np.empty(attention_scratch(s, hd), np.float32)
    new, kept = address(qkv), (address(keys), address(values))
    turned = 0 if turns is None else address_of(turns)
    _PLACE(new, turned, *kept, n, s, hd, room, at, pairs, 2 if interleaved else 1, scale)
    _ATTEND(new, *kept, address(out), data_of(scratch), n, s, hd, room, at + 1)


def attend(queries: Array, keys: Array, values: Array, length: int, out: Array) -> None:
    """softmax(queries @ keysᵀ) @ values: [n, S, hd], [n, room, hd], [n, room, hd] -> out [n, S, hd].

    The first `length` positions count. Keys and values, which are contiguous, are read once. hd: a multiple of 16.
    """
    n, s, hd = queries.shape
    scratch: Array = np.empty(attention_scratch(s, hd), np.float32)
    arrays = (queries, keys, values, out, scratch)
    _ATTEND(*[address(array) for array in arrays], n, s, hd, keys.shape[1], length)


def causal_softmax(scores: Array, seen: int, rows: int) -> Array:
    """Exponentials of scores [m, width] in place, and their sums [m]; width: a multiple of 16, at least `seen`.

    `rows` queries stand at the last of `seen` positions, m / rows times: none has a weight where a later one stands.
    """
    sums: Array = np.empty(len(scores), np.float32)
    _CAUSAL_SOFTMAX(address(scores), address(sums), *scores.shape, seen, rows)
    return sums


def swiglu(x: Array) -> None:
    """SiLU of the first half of each row times the second, in place of the first: [t, 2*F]; F: a multiple of 16."""
    _SWIGLU(address(x), len(x), x.shape[1] // 2)


def read(x: Array) -> float:
    """Sum of a contiguous array but for its last 255 values at most, as fast as memory gives it: a yardstick."""
    total: Array = np.empty(1, np.float32)
    _READ(address(x), address(total), x.size // 256 * 256)
    return float(total[0])
