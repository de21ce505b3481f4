"""Number formats of tensors on disk, decoded to float32. Knows bytes and blocks; no files, no tensor names.

A row of a quantised tensor is a sequence of blocks, each with its own scale (ggml's `ggml-common.h` and
`ggml-quants.c` define them). The formats of small models are implemented here; any other that the `gguf`
package can dequantize is left to it, and only then is it imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.linear import Array

Raw = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Format:
    """Number format: `block_size` numbers are stored in `block_bytes` bytes."""

    name: str
    block_size: int
    block_bytes: int
    unpack: Callable[[Raw, Array], None]  # [rows, blocks, block_bytes] -> into [rows, blocks, block_size]

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` numbers. Raises ValueError if that is not a multiple of the block size."""
        blocks, rest = divmod(width, self.block_size)
        if rest:
            raise ValueError(f"{width} numbers are not a whole number of {self.name} blocks of {self.block_size}")
        return blocks * self.block_bytes

    def dequantise(self, raw: Raw, out: Array) -> None:
        """Decode raw [rows, row_bytes] into out [rows, width], C-contiguous."""
        rows = len(raw)
        self.unpack(raw.reshape(rows, -1, self.block_bytes), out.reshape(rows, -1, self.block_size))


def _half(raw: Raw) -> Array:
    return raw.view(np.float16).astype(np.float32)


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


_OWN = {
    "F32": Format("F32", 1, 4, _f32),
    "F16": Format("F16", 1, 2, _f16),
    "BF16": Format("BF16", 1, 2, _bf16),
    "Q4_0": Format("Q4_0", 32, 18, _q4_0),
    "Q4_1": Format("Q4_1", 32, 20, _q4_1),
    "Q8_0": Format("Q8_0", 32, 34, _q8_0),
}
_GGML = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 8: "Q8_0", 30: "BF16"}  # enum ggml_type


def named_format(name: str) -> Format | None:
    """Format with this name in safetensors (`F32`, `F16`, `BF16`); None if the kernels do not have it."""
    return _OWN.get(name)


def ggml_format(ggml_type: int) -> Format | None:
    """Format with this number in ggml; None if neither the kernels nor the `gguf` package have it."""
    if ggml_type in _GGML:
        return _OWN[_GGML[ggml_type]]
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType  # rare formats only: devices stay small
    from gguf.quants import _type_traits, dequantize

    try:
        kind = GGMLQuantizationType(ggml_type)
    except ValueError:
        return None
    if kind not in _type_traits:
        return None

    def unpack(raw: Raw, out: Array) -> None:
        out[...] = dequantize(raw.reshape(len(raw), -1), kind).reshape(out.shape)

    return Format(kind.name, *GGML_QUANT_SIZES[kind], unpack)


def ggml_name(ggml_type: int) -> str:
    """Name of a number format of ggml for a message, whether the kernels have it or not."""
    from gguf.constants import GGMLQuantizationType

    known = {kind.value: kind.name for kind in GGMLQuantizationType}
    return known.get(ggml_type, f"{ggml_type}, unknown to ggml")
