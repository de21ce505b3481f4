"""Matrix product that all kernels share, of float32 or packed weights. Knows no model."""

from __future__ import annotations

import numpy as np

from edgeemu_kernels.arrays import Array, Crossing
from edgeemu_kernels.codecs.machine_code import product
from edgeemu_kernels.compiled_sizes import COMPILED_BYTES, FEW_ROWS
from edgeemu_kernels.on_demand import compiled_kernels, order_free_sums
from edgeemu_kernels.packed import Matrix, PackedMatrix

__all__ = ["FEW_ROWS", "Array", "Crossing", "Matrix", "linear", "linear_in_parts", "partial_sum"]


def linear(x: Array, weight: Matrix, bias: Array | None = None) -> Array:
    """Linear layer `x @ weight.T + bias`: [t, in], [out, in], [out] -> [t, out].

    A weight row is one output, so that decoding (t = 1) is a matrix-vector product that reads the weights
    once, front to back. BLAS reads them at 80 % of the memory's bandwidth, and for a few rows three times. A packed
    matrix is decoded piece by piece, within `packed.WORKSPACE_BYTES`.
    """
    y: Array
    if isinstance(weight, PackedMatrix) and weight.expanded is not None:
        weight = weight.expanded
    if isinstance(weight, PackedMatrix):
        y = _packed(x, weight)  # [t, in] @ [in, out] -> [t, out]
    elif len(x) <= FEW_ROWS and weight.nbytes > COMPILED_BYTES and weight.flags.c_contiguous:
        y = compiled_kernels().few_rows(x, weight)
    else:
        y = np.dot(weight, x[0])[None] if len(x) == 1 else x @ weight.T  # [t, in] @ [in, out] -> [t, out]
    if bias is not None:
        y += bias
    return y


def linear_in_parts(
    x: Array, weight: Matrix, bias: Array | None, part: int | None, residual: Array | None = None
) -> Array:
    """Linear layer, [t, in] -> [t, out], with rows [t, out] added, if there are any.

    `part`: so many columns have a sum of their own, and that of all does not depend on their order (`order_free`).
    """
    if part is None:
        y = linear(x, weight, bias)
        if residual is not None:
            y += residual
        return y
    sums = order_free_sums()
    whole = sums.totals(x, weight, bias, part)
    summed: Array = sums.values(whole) if residual is None else sums.with_residual(whole, residual)
    return summed


def partial_sum(x: Array, weight: Matrix, bias: Array | None, part: int | None) -> Crossing:
    """Linear layer of some of all columns, as it crosses to a device that adds it: [t, in] -> [t, out]."""
    if part is None:
        return linear(x, weight, bias)
    sums = order_free_sums()
    crossing: Crossing = sums.crossing(sums.totals(x, weight, bias, part))
    return crossing


def _packed(x: Array, weight: PackedMatrix) -> Array:
    if len(x) <= FEW_ROWS and (few := product(weight.raw, x, weight.format)) is not None:
        return few
    y: Array = np.empty((len(x), weight.shape[0]), np.float32)
    for rows, piece in weight.pieces():
        np.matmul(x, piece.T, out=y[:, rows])
    return y
