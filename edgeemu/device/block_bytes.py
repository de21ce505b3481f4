"""Blocks as bytes, as a migration sends them from device to device. No sockets, no time.

A shipment's bytes are a block's weights, array after array, then the keys and the values of some rows of its cache.
They are sent in chunks, and their CRC-32 is checked when all have arrived.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.packed import Stored, stored_row
from edgeemu_kernels.precision import Matrix, NumberFormat, number_format
from edgeemu_kernels.shape import ModelShape

_QKV: tuple[Matrix, ...] = ("query", "key", "value")


class BlockBytesError(EdgeemuError):
    """A shipment that did not arrive as it was sent."""


class Layout(NamedTuple):
    """Layout of an array in a shipment: float32, or the raw bytes of rows in another format."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def weight_layouts(shape: ModelShape, block: Block, *, ends_meet: bool = False) -> list[Layout]:
    """Layouts of a block's weight arrays, in the order in which they are sent; norms first.

    `ends_meet`: as in `Move`.
    """
    shared = ends_meet and shape.tied_embeddings
    d, hd = shape.d_model, shape.head_dim
    norm = norm_layouts(shape)
    up = 2 if shape.activation == "swiglu" else 1

    def matrix(name: Matrix, rows: int, width: int) -> Layout:
        return _rows(rows, width, shape.precision.weights(name, block.layer))

    def biases(*sizes: int) -> list[Layout]:
        return [Layout((size,)) for size in sizes if size] if shape.bias else []

    match block.kind:
        case Kind.EMBED:
            positions = [Layout((shape.max_context, d))] if shape.positions == "learned" else []
            return positions if shared else [matrix("embed", shape.vocab_size, d), *positions]
        case Kind.HEAD:
            rows = (shape.group_dim, hd, hd)
            qkv = zip(_QKV, rows, strict=True)
            return [*norm, *(matrix(name, n, d) for name, n in qkv), *biases(*rows)]
        case Kind.PROJ if block.is_shard:
            return [matrix("proj", d, shape.group_dim), *biases(0 if block.group else d)]
        case Kind.PROJ:
            return [matrix("proj", d, shape.n_heads * hd), *biases(d)]
        case Kind.FFN:
            width = shape.ffn_unit_dim if block.is_shard else shape.d_ff
            last = 0 if block.is_shard and block.group else d
            return [*norm, matrix("up", up * width, d), matrix("down", d, width), *biases(up * width, last)]
        case Kind.LM_HEAD:
            return norm if shared else [*norm, matrix("lm_head", shape.vocab_size, d)]


def norm_layouts(shape: ModelShape) -> list[Layout]:
    """Layouts of the arrays of a norm."""
    return [Layout((shape.d_model,))] * (1 if shape.norm == "rms" else 2)


def cache_layouts(shape: ModelShape, rows: int) -> list[Layout]:
    """Layouts of some rows of the keys and of the values of a group, as its cache stores them."""
    return [_rows(rows, shape.head_dim, number_format(shape.precision.cache))] * 2


def _rows(rows: int, width: int, form: NumberFormat) -> Layout:
    items, dtype = stored_row(width, form)
    return Layout((rows, items), np.dtype(dtype))


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


def unpack(data: bytes | bytearray, layouts: Sequence[Layout]) -> list[Stored]:
    """Views of the arrays whose bytes these are, one after the other; they share `data`'s memory.

    Raises:
        BlockBytesError: the layouts do not use up the bytes.
    """
    whole, needed = memoryview(data), sum(layout.nbytes for layout in layouts)
    if len(whole) != needed:
        raise BlockBytesError(f"a shipment of {len(whole)} bytes for arrays of {needed}")
    arrays: list[Stored] = []
    for layout in layouts:
        piece, whole = whole[: layout.nbytes], whole[layout.nbytes :]
        arrays.append(np.frombuffer(piece, dtype=layout.dtype).reshape(layout.shape))
    return arrays


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
