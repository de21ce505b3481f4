"""Array type of all kernels and the matrix product that they share. Knows no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Linear layer `x @ weight.T + bias`: [t, in], [out, in], [out] -> [t, out].

    A weight row is one output, so that decoding (t = 1) is a matrix-vector product that reads the weights
    once, front to back.
    """
    y: Array
    y = np.dot(weight, x[0])[None] if len(x) == 1 else x @ weight.T  # [t, in] @ [in, out] -> [t, out]
    if bias is not None:
        y += bias
    return y
