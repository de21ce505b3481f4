"""Blocks as bytes, as a migration sends them from device to device. No sockets, no time.

A shipment's bytes are a block's weights, array after array, then the keys and the values of some rows of its cache.
They are sent in chunks, and their CRC-32 is checked when all have arrived.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from zlib import crc32

import numpy as np

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.linear import Array
from edgeemu_kernels.packed import Stored
from edgeemu_kernels.shape import ModelShape


class BlockBytesError(EdgeemuError):
    """A shipment that did not arrive as it was sent."""


def weight_shapes(shape: ModelShape, block: Block) -> list[tuple[int, ...]]:
    """Shapes of a block's weight arrays, in the order in which they are sent; norms first."""
    d, hd = shape.d_model, shape.head_dim
    norm: list[tuple[int, ...]] = [(d,)] if shape.norm == "rms" else [(d,), (d,)]
    match block.kind:
        case Kind.EMBED:
            return [(shape.vocab_size, d), *([(shape.max_context, d)] if shape.positions == "learned" else [])]
        case Kind.HEAD:
            rows = (shape.group_dim, hd, hd)
            return [*norm, *((n, d) for n in rows), *(((n,) for n in rows) if shape.bias else ())]
        case Kind.PROJ if block.is_shard:
            return [(d, shape.group_dim), *([(d,)] if shape.bias and not block.group else [])]
        case Kind.FFN if block.is_shard:
            width = shape.ffn_unit_dim * (2 if shape.activation == "swiglu" else 1)
            biases = [(width,), *([(d,)] if not block.group else [])] if shape.bias else []
            return [*norm, (width, d), (d, shape.ffn_unit_dim), *biases]
        case Kind.PROJ:
            return [(d, shape.n_heads * hd), *([(d,)] if shape.bias else [])]
        case Kind.FFN:
            width = shape.d_ff * (2 if shape.activation == "swiglu" else 1)
            return [*norm, (width, d), (d, shape.d_ff), *([(width,), (d,)] if shape.bias else [])]
        case Kind.LM_HEAD:
            return [*norm, (shape.vocab_size, d)]


def pieces(arrays: Sequence[Stored], chunk_bytes: int) -> Iterator[bytes | memoryview]:
    """Cuts the arrays' bytes, one after the other, into chunks of that size; copies no more than a chunk at a time.

    A shipment without bytes is one empty chunk, so that it can arrive.
    """
    parts: list[memoryview] = []
    room = chunk_bytes
    for array in arrays:
        rest = _bytes_of(array)
        while rest:
            part, rest = rest[:room], rest[room:]
            parts.append(part)
            room -= len(part)
            if not room:
                yield parts[0] if len(parts) == 1 else b"".join(parts)
                parts, room = [], chunk_bytes
    if parts or not sum(array.nbytes for array in arrays):
        yield b"".join(parts)


def checksum(arrays: Sequence[Stored]) -> int:
    """CRC-32 of the arrays' bytes, one after the other."""
    crc = 0
    for array in arrays:
        crc = crc32(_bytes_of(array), crc)
    return crc


def _bytes_of(array: Stored) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")


def unpack(data: bytes | bytearray, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Views of the arrays whose bytes these are, one after the other; they share `data`'s memory.

    Raises:
        BlockBytesError: the shapes do not use up the bytes.
    """
    values = np.frombuffer(data, dtype=np.float32)
    ends = np.cumsum([prod(shape) for shape in shapes], dtype=np.int64)
    if len(values) != (ends[-1] if shapes else 0):
        raise BlockBytesError(f"a shipment of {len(values)} values for shapes that hold {ends[-1] if shapes else 0}")
    parts = np.split(values, ends[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(slots=True)
class BlockBytes:
    """A shipment's bytes as they arrive."""

    total: int
    crc: int
    data: bytearray = field(init=False)
    _filled: int = 0

    def __post_init__(self) -> None:
        self.data = bytearray(self.total)

    def add(self, offset: int, chunk: bytes | memoryview) -> bool:
        """Takes the next chunk; True when the shipment is complete.

        Raises:
            BlockBytesError: a chunk is missing, or the bytes are not those that were sent.
        """
        if offset != self._filled:
            raise BlockBytesError(f"a chunk at {offset} after {self._filled} bytes")
        self._filled += len(chunk)
        if self._filled > self.total:
            raise BlockBytesError(f"a shipment of {self.total} bytes arrived as {self._filled} others")
        self.data[offset : self._filled] = chunk
        if self._filled < self.total:
            return False
        if crc32(self.data) != self.crc:
            raise BlockBytesError(f"a shipment of {self.total} bytes arrived as {self._filled} others")
        return True
