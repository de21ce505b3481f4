"""Number formats of tensors on disk, decoded to float32. Knows bytes and blocks; no files, no tensor names.

The formats that a precision can have are decoded by `codecs`; any other that the `gguf` package can dequantize is
left to it, and only then is it imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeemu_kernels.arrays import Array, Raw
from edgeemu_kernels.codecs.decode import DECODERS
from edgeemu_kernels.precision import FORMATS


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


_OWN = {
    made.name.upper(): Format(made.name.upper(), made.block_size, made.block_bytes, DECODERS[made.name])
    for made in FORMATS.values()
}
_GGML = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 30: "BF16"}  # enum ggml_type


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
