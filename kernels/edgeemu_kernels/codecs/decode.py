"""Bytes of each number format, decoded to float32. Knows blocks; no files, no tensor names.

A row of a quantised matrix is a sequence of blocks, each with its own scale (ggml's `ggml-common.h` and
`ggml-quants.c` define them); every function takes raw [rows, blocks, block_bytes]
and writes [rows, blocks, block_size].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeemu_kernels.arrays import Array, Raw
from edgeemu_kernels.precision import NumberFormat

Unpack = Callable[[Raw, Array], None]


def decode(raw: Raw, out: Array, form: NumberFormat) -> None:
    """Decode raw [rows, row_bytes] into out [rows, width], C-contiguous."""
    blocks = raw.reshape(len(raw), -1, form.block_bytes)
    DECODERS[form.name](blocks, out.reshape(len(raw), -1, form.block_size))


def scales(raw: Raw, form: NumberFormat) -> Array:
    """Scales of all blocks of raw [rows, row_bytes] as float32 [n]; all numbers are finite if these are.

    A format without scales gives its numbers.
    """
    blocks = raw.reshape(-1, form.block_bytes)
    if form.block_size == 1:
        out: Array = np.empty((len(blocks), 1, 1), np.float32)
        DECODERS[form.name](blocks[:, None], out)
        return out.ravel()
    return _half(blocks[:, SCALES[form.name]]).ravel()


def _half(raw: Raw) -> Array:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def _f32(raw: Raw, out: Array) -> None:
    out[...] = raw.view(np.float32)


def _f16(raw: Raw, out: Array) -> None:
    out[...] = raw.view(np.float16)


def _bf16(raw: Raw, out: Array) -> None:
    bits = out.view(np.uint32)
    bits[...] = raw.view(np.uint16)
    bits <<= 16


def _q8_0(raw: Raw, out: Array) -> None:
    np.multiply(raw[..., 2:].view(np.int8), _half(raw[..., :2]), out=out)


def _nibbles(packed: Raw) -> tuple[Raw, Raw]:
    """Split a block of 32 into its first and second 16 numbers: [..., 16] -> two arrays."""
    return packed & np.uint8(15), packed >> np.uint8(4)


def _q4_0(raw: Raw, out: Array) -> None:
    scale = _half(raw[..., :2])
    for half, nibble in zip((out[..., :16], out[..., 16:]), _nibbles(raw[..., 2:]), strict=True):
        np.multiply(nibble.view(np.int8) - np.int8(8), scale, out=half)


def _q4_1(raw: Raw, out: Array) -> None:
    scale = _half(raw[..., :2])
    for half, nibble in zip((out[..., :16], out[..., 16:]), _nibbles(raw[..., 4:]), strict=True):
        np.multiply(nibble, scale, out=half)
    out += _half(raw[..., 2:4])


def k_scales(packed: Raw) -> tuple[Raw, Raw]:
    """Unpack the 6-bit scales and minima of q4_k's eight sub-blocks (`get_scale_min_k4`): [..., 12] -> 2 x [..., 8]."""
    low, high, rest = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scale = np.concatenate([low & 63, (rest & 15) | (low >> 2) & 48], axis=-1)
    least = np.concatenate([high & 63, (rest >> 4) | (high >> 2) & 48], axis=-1)
    return scale, least


def _q4_k(raw: Raw, out: Array) -> None:
    numbers = out.reshape(*out.shape[:2], 4, 2, 32)
    scale, least = k_scales(raw[..., 4:16])  # [rows, blocks, 8] each
    by = (_half(raw[..., :2]) * scale).reshape(*numbers.shape[:4], 1)
    offset = (_half(raw[..., 2:4]) * least).reshape(*numbers.shape[:4], 1)
    packed = raw[..., 16:].reshape(*numbers.shape[:3], 32)
    for half, nibble in enumerate(_nibbles(packed)):
        np.multiply(nibble, by[..., half, :], out=numbers[..., half, :])
    numbers -= offset


def _q6_k(raw: Raw, out: Array) -> None:
    numbers = out.reshape(*out.shape[:2], 2, 4, 2, 16)  # halves of 128, quarters, sub-blocks of 16
    low = raw[..., :128].reshape(*numbers.shape[:3], 2, 32)
    high = raw[..., 128:192].reshape(*numbers.shape[:3], 32)
    by = _half(raw[..., 208:]) * raw[..., 192:208].view(np.int8)  # [rows, blocks, 16]
    by = by.reshape(*numbers.shape[:5], 1)
    for quarter in range(4):
        nibble = low[..., quarter % 2, :] >> np.uint8(4 * (quarter // 2)) & np.uint8(15)
        bits = nibble | (high >> np.uint8(2 * quarter) & np.uint8(3)) << np.uint8(4)
        signed = (bits.view(np.int8) - np.int8(32)).reshape(*numbers.shape[:3], 2, 16)
        np.multiply(signed, by[..., quarter, :, :], out=numbers[..., quarter, :, :])


DECODERS: dict[str, Unpack] = {
    "f32": _f32,
    "f16": _f16,
    "bf16": _bf16,
    "q8_0": _q8_0,
    "q4_0": _q4_0,
    "q4_1": _q4_1,
    "q4_k": _q4_k,
    "q6_k": _q6_k,
}
SCALES = {  # bytes of a block's float16 scales and offsets
    "q8_0": slice(0, 2),
    "q4_0": slice(0, 2),
    "q4_1": slice(0, 4),
    "q4_k": slice(0, 4),
    "q6_k": slice(208, 210),
}
