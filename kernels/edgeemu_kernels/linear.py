"""Array type of all kernels and the matrix product that they share. Knows no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEW_ROWS = 8  # rows that are multiplied while each weight is in a register
COMPILED_BYTES = 2**20  # of a matrix or a cache, above which a compiled kernel is worth loading numba
COMPILED_LANES = 16  # compiled kernels take heads and rows of a multiple of so many values
COMPILED_BLOCK = 512  # positions whose scores the compiled attention has at the same time, a multiple of the above

Array = NDArray[np.float32]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Linear layer `x @ weight.T + bias`: [t, in], [out, in], [out] -> [t, out].

    A weight row is one output, so that decoding (t = 1) is a matrix-vector product that reads the weights
    once, front to back. BLAS reads them some three times for a few rows, and one row at 80 % of the memory's
    bandwidth; for large matrices a compiled kernel takes these.
    """
    y: Array
    if len(x) <= FEW_ROWS and weight.nbytes > COMPILED_BYTES and weight.flags.c_contiguous:
        y = _few_rows(x, weight)
    else:
        y = np.dot(weight, x[0])[None] if len(x) == 1 else x @ weight.T  # [t, in] @ [in, out] -> [t, out]
    if bias is not None:
        y += bias
    return y


def _few_rows(x: Array, weight: Array) -> Array:
    """[t, in], [out, in] -> [t, out]"""
    from edgeemu_kernels import compiled

    y: Array = np.empty((len(x), len(weight)), np.float32)
    compiled.few_rows(np.ascontiguousarray(x), weight, y)
    return y
