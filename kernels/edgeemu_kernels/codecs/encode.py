"""Encoders of float32 to the bytes of each number format, bit for bit ggml's reference (`quantize_row_*_ref`).

Every function takes numbers [n, block_size] and gives [n, block_bytes]; a block depends on no other, so that a part of
whole blocks of a matrix is encoded as in the whole. Numbers that are too large for float16 become its largest, but
what is not finite stays so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeemu_kernels.arrays import Array, Raw
from edgeemu_kernels.codecs.decode import SCALES
from edgeemu_kernels.codecs.encode_k import half, nearest, q4_k, q6_k
from edgeemu_kernels.precision import NumberFormat

Pack = Callable[[Array], Raw]
_TINY = np.float32(2.0**-126)  # scales below it have no reciprocal in float32, and are 0 in float16
_ONE = np.float32(1)


def encode(values: Array, form: NumberFormat) -> Raw:
    """Encode values [rows, width] -> [rows, row_bytes]. Raises ValueError if a row is not a whole number of blocks."""
    rows, width = values.shape
    row_bytes = form.row_bytes(width)
    blocks = np.ascontiguousarray(values).reshape(-1, form.block_size)
    with np.errstate(all="ignore"):
        raw = _ENCODERS[form.name](blocks)
        if not np.isfinite(blocks.sum()):
            _spoil(raw, blocks, form)
    return raw.reshape(rows, row_bytes)


def _spoil(raw: Raw, blocks: Array, form: NumberFormat) -> None:
    """Make blocks decode to NaN that have infinite numbers or NaN in them, lest these become ordinary numbers."""
    infinite = ~np.isfinite(blocks).all(axis=1)
    if form.block_size > 1:
        raw[infinite, SCALES[form.name]] = 0xFF  # NaN in float16
    elif form.name == "f16":
        raw[infinite] = blocks[infinite].astype(np.float16).view(np.uint8)


def _f32(values: Array) -> Raw:
    return values.view(np.uint8).copy()


def _bf16(values: Array) -> Raw:
    bits = values.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))) >> np.uint32(16)
    quiet = bits >> np.uint32(16) | np.uint32(64)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16).view(np.uint8)


def _inverse(scale: Array) -> Array:
    usable = np.abs(scale) >= _TINY
    return np.divide(_ONE, scale, out=np.zeros_like(scale), where=usable)


def _q8_0(values: Array) -> Raw:
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)  # [n, 1]
    numbers = values * _inverse(scale)
    return np.concatenate([half(scale), nearest(numbers, away=True).astype(np.int8).view(np.uint8)], axis=1)


def _joined(numbers: Array) -> Raw:
    """Truncate and join numbers in pairs, the first 16 low: [n, 32] -> [n, 16]."""
    whole: Raw = np.minimum(numbers.astype(np.uint8), np.uint8(15))
    return whole[:, :16] | whole[:, 16:] << np.uint8(4)


def _q4_0(values: Array) -> Raw:
    largest: Array = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)  # [n, 1]
    scale: Array = largest / np.float32(-8)
    return np.concatenate([half(scale), _joined(values * _inverse(scale) + np.float32(8.5))], axis=1)


def _q4_1(values: Array) -> Raw:
    least = values.min(axis=1, keepdims=True)  # [n, 1]
    scale = (values.max(axis=1, keepdims=True) - least) / np.float32(15)
    numbers = (values - least) * _inverse(scale) + np.float32(0.5)
    return np.concatenate([half(scale), half(least), _joined(numbers)], axis=1)


_ENCODERS: dict[str, Pack] = {
    "f32": _f32,
    "f16": half,
    "bf16": _bf16,
    "q8_0": _q8_0,
    "q4_0": _q4_0,
    "q4_1": _q4_1,
    "q4_k": q4_k,
    "q6_k": q6_k,
}
