"""Matrix product that all kernels share, of float32 or packed weights. Knows no model."""

from __future__ import annotations

import numpy as np

from edgeemu_kernels.arrays import Array
from edgeemu_kernels.codecs.machine_code import product
from edgeemu_kernels.packed import Matrix, PackedMatrix

__all__ = ["Array", "Matrix", "linear"]

FEW_ROWS = 8  # that are multiplied with packed weights as they are; for more, decoding once and BLAS are quicker


def linear(x: Array, weight: Matrix, bias: Array | None = None) -> Array:
    """Linear layer `x @ weight.T + bias`: [t, in], [out, in], [out] -> [t, out].

    A weight row is one output, so that decoding (t = 1) is a matrix-vector product that reads the weights
    once, front to back. A packed matrix is decoded piece by piece, within `packed.WORKSPACE_BYTES`.
    """
    y: Array
    if isinstance(weight, PackedMatrix):
        y = _packed(x, weight)  # [t, in] @ [in, out] -> [t, out]
    else:
        y = np.dot(weight, x[0])[None] if len(x) == 1 else x @ weight.T  # [t, in] @ [in, out] -> [t, out]
    if bias is not None:
        y += bias
    return y


def _packed(x: Array, weight: PackedMatrix) -> Array:
    if len(x) <= FEW_ROWS and (few := product(weight.raw, x, weight.format)) is not None:
        return few
    y: Array = np.empty((len(x), weight.shape[0]), np.float32)
    for rows, piece in weight.pieces():
        np.matmul(x, piece.T, out=y[:, rows])
    return y
