"""Products and sums that do not depend on how a layer is divided, nor on the rows beside a row. Knows no model.

Where caches or messages are rounded, the last bit of a sum can become a whole step of their format. So these sums are
made of parts: the columns of a KV group, or of a unit of the feed-forward, which no placement divides. The sum of a
part has one order, and is rounded to a grid. Sums of such numbers are exact, whoever adds them: fixed-point summation
(Demmel & Nguyen 2015, "Parallel Reproducible Summation", has it with grids that follow the data).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeemu_kernels.arrays import Array, Crossing, Floats, address, data_of
from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.compiled_sizes import FEW_ROWS
from edgeemu_kernels.object_code import compile_module
from edgeemu_kernels.packed import Matrix, PackedMatrix, Stored, matrix_of, rows_of, rows_of_a_piece, unpack
from edgeemu_kernels.precision import NumberFormat

GRID_BITS = 19  # a step is 2**-19, 2e-6; the finest format that rounds, f16, has steps of 1e-3 below 2
STEPS = 2.0**GRID_BITS  # in 1
MOST_STEPS = 2**31 - 1  # of a sum that crosses as a whole number of steps: below 4,096; a larger one is float32
_MIXED_TOGETHER = 8  # queries for which values are added at a time, so that their sums stay in the first cache
_NUMBERS_TOGETHER = 2**16  # of x that are multiplied at a time, so that they stay in the processor's cache


def _text() -> str:
    """Module with all kernels."""
    from edgeemu_kernels.order_free_code import order_free_kernels  # needed only to compile

    return str(order_free_kernels(GRID_BITS))


_ENGINE = compile_module(__name__, _text, loops=False)  # owns the machine code


def _function(name: str, counts: int) -> Any:
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * counts)
    return kind(_ENGINE.get_function_address(name))


_PRODUCT, _TOTALS = _function("product", 4), _function("totals", 5)


def product(x: Array, weight: Matrix, bias: Array | None = None) -> Array:
    """Linear layer `x @ weight.T + bias`: [t, in], [out, in], [out] -> [t, out].

    Each number depends on its rows of x and of the matrix only.
    """
    weight, y = _expanded(weight), None
    if isinstance(weight, PackedMatrix) and len(x) <= FEW_ROWS:
        y = machine_code.product(weight.raw, x, weight.format)
    if y is None:
        y = np.empty((len(x), weight.shape[0]), np.float32)
        _run(_PRODUCT, x, weight, y)
    if bias is not None:
        y += bias
    return y


def totals(x: Array, weight: Matrix, bias: Array | None, part: int) -> Floats:
    """Linear layer in steps of the grid: [t, in], [out, in], [out] -> [t, out] whole numbers.

    The sums of every `part` columns are rounded, each by itself, and so is the bias.
    """
    y: Floats = np.zeros((len(x), weight.shape[0]))
    if bias is not None:
        y += _steps(bias)
    weight = _expanded(weight)
    done = False
    if isinstance(weight, PackedMatrix) and len(x) <= FEW_ROWS:
        done = machine_code.add_totals(weight.raw, x, weight.format, y, part, STEPS)
    if not done:
        _run(_TOTALS, x, weight, y, part)
    return y


def _expanded(weight: Matrix) -> Matrix:
    """The matrix in float32, where that is kept beside a packed one."""
    return weight.expanded if isinstance(weight, PackedMatrix) and weight.expanded is not None else weight


def _run(run: Any, x: Array, weight: Matrix, y: Array | Floats, *part: int) -> None:
    x = np.ascontiguousarray(x)
    pieces = weight.pieces() if isinstance(weight, PackedMatrix) else [(slice(0, len(weight)), weight)]
    together = max(1, _NUMBERS_TOGETHER // x.shape[1])
    for rows, piece in pieces:
        for start in range(0, len(x), together):
            some, to = x[start : start + together], y[start:, rows.start :]
            run(address(some), address(piece), data_of(to), *some.shape, len(piece), y.shape[1], *part)


def attend(queries: Array, keys: Stored, values: Stored, form: NumberFormat, later: Array | None = None) -> Array:
    """softmax(queries @ keysᵀ + mask) @ values of one group, from rows as a cache stores them: [m, hd] -> [m, hd].

    `later` [rows, rows] is added where the last `rows` keys meet the queries, of which there are m / rows sets. A
    query's numbers do not depend on other queries, nor on rows that it does not see: they are zeros behind others.
    """
    scores = product(queries, matrix_of(keys, form))  # [m, seen]
    if later is not None:
        scores.reshape(-1, len(later), len(keys))[..., len(keys) - len(later) :] += later
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed = _mixed(scores, values, form, queries.shape[1])  # [m, hd]
    mixed /= product(scores, np.ones((1, len(keys)), np.float32))
    return mixed


def _mixed(weights: Array, values: Stored, form: NumberFormat, width: int) -> Array:
    """weights @ values: [m, seen], [seen, …] as stored -> [m, width]. Rows are added in their order."""
    raw, mixed = values.view(np.uint8), np.zeros((len(weights), width), np.float32)
    for start in range(0, len(weights), _MIXED_TOGETHER):
        some = slice(start, start + _MIXED_TOGETHER)
        if not machine_code.mix(raw, weights[some], mixed[some], form):
            return _mixed_in_pieces(weights, matrix_of(values, form), mixed)
    return mixed


def _mixed_in_pieces(weights: Array, values: Matrix, mixed: Array) -> Array:
    """Add weights @ values to `mixed`, a piece of rows after the other: heads whose width suits no machine code."""
    step = rows_of_a_piece(mixed.shape[1])
    for start in range(0, weights.shape[1], step):
        rows = slice(start, start + step)
        piece = np.ascontiguousarray(unpack(rows_of(values, rows)).T)  # [width, rows]
        mixed += product(weights[:, rows], piece)
    return mixed


def with_residual(whole: Floats, x: Array) -> Array:
    """Numbers of totals, which are overwritten, with the residual: [t, D] each -> [t, D].

    The residual is rounded to the grid, as one more part.
    """
    whole += _steps(x)
    return values(whole)


def crossing(whole: Floats) -> Crossing:
    """Totals as they cross to another device, [t, D]: 32-bit whole numbers of steps, or float32 where one is too large.

    Both have four bytes. Sums of the latter depend on their order again, in the last bit.
    """
    within = whole.max() <= MOST_STEPS and whole.min() >= -MOST_STEPS  # neither for what is no number
    return whole.astype(np.int32) if within else values(whole)


def added(crossed: Iterable[Crossing]) -> Floats:
    """Sum of totals that have crossed, and of the residual, [t, D] each -> [t, D], in steps of the grid."""
    first, *others = crossed
    whole = _steps(first).astype(np.float64)
    for each in others:
        whole += _steps(each)
    return whole


def values(whole: Floats) -> Array:
    """Numbers of totals, which are overwritten: [t, D]."""
    whole /= STEPS
    return whole.astype(np.float32)


def _steps(crossed: Crossing) -> Crossing:
    """Totals that have crossed, or float32 numbers, in whole steps of the grid: [t, D]."""
    if crossed.dtype == np.int32:
        return crossed
    steps: Array = crossed * np.float32(STEPS)
    return np.rint(steps, out=steps)
