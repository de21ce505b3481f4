"""Matrices, rows of caches and messages in the bytes of a number format. Knows rows and columns; no model, no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.arrays import Array, Raw
from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.codecs.decode import decode
from edgeemu_kernels.codecs.encode import encode
from edgeemu_kernels.precision import FORMATS, NumberFormat

PIECE_BYTES = 512 * 1024  # of float32 that are decoded at a time (at least a row): fits into a second-level cache
# What a product of a packed matrix needs beside the matrix, its input and its result, if a row is at most a piece:
# a piece, and what decoding it allocates (at most as many bytes again).
WORKSPACE_BYTES = 2 * PIECE_BYTES
_F32 = FORMATS["f32"]


@dataclass(frozen=True, slots=True, eq=False)
class PackedMatrix:
    """Matrix in a number format other than float32: `raw` [rows, row_bytes] has each row's blocks.

    Products are computed from `expanded` [rows, width] where that is kept too; it counts as no byte of the matrix.
    """

    format: NumberFormat
    raw: Raw
    expanded: Array | None = None

    @classmethod
    def empty(cls, rows: int, width: int, form: NumberFormat) -> PackedMatrix:
        """Matrix of uninitialised bytes, for a source to write into."""
        return cls(form, np.empty((rows, form.row_bytes(width)), np.uint8))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width in numbers."""
        return len(self.raw), self.raw.shape[1] // self.format.block_bytes * self.format.block_size

    @property
    def nbytes(self) -> int:
        return self.raw.nbytes

    def rows(self, rows: slice) -> PackedMatrix:
        """View of some rows."""
        return PackedMatrix(self.format, self.raw[rows])

    def columns(self, columns: slice) -> PackedMatrix:
        """View of columns `start:stop`. Raises ValueError if they are not whole blocks."""
        start, stop, _ = columns.indices(self.shape[1])
        at, end = self.format.row_bytes(start), self.format.row_bytes(stop)
        return PackedMatrix(self.format, self.raw[:, at:end])

    def decoded(self, rows: slice = slice(None)) -> Array:
        """Float32 copy of some rows, [rows, width]."""
        raw = self.raw[rows]
        out: Array = np.empty((len(raw), self.shape[1]), np.float32)
        if out.size:
            decode(raw, out, self.format)
        return out

    def with_expanded(self) -> PackedMatrix:
        """Return the matrix with all its numbers decoded beside it."""
        if self.expanded is not None:
            return self
        out: Array = np.empty(self.shape, np.float32)
        for rows, piece in self.pieces():
            out[rows] = piece
        return replace(self, expanded=out)

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Float32 copy of rows by their numbers, [t] -> [t, width]."""
        width = self.shape[1]
        out: Array = np.empty((len(rows), width), np.float32)
        step = rows_of_a_piece(width)
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            decode(self.raw[rows[some]], out[some], self.format)
        return out

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Rows and their float32 numbers, a piece of `PIECE_BYTES` at a time; the next one overwrites the last."""
        rows, width = self.shape
        step = rows_of_a_piece(width)
        buffer: Array = np.empty((min(step, rows), width), np.float32)
        for start in range(0, rows, step):
            some = slice(start, min(start + step, rows))
            piece = buffer[: some.stop - start]
            machine_code.decode(self.raw[some], piece, self.format)
            yield some, piece


Matrix = Array | PackedMatrix
Stored = NDArray[Any]  # float32 numbers, or uint8 bytes of rows: what holds a matrix or rows, as a migration sends it


def rows_of_a_piece(width: int) -> int:
    """Number of rows of that width that are decoded or encoded at a time."""
    return max(1, PIECE_BYTES // (4 * width))


def empty_matrix(rows: int, width: int, form: NumberFormat) -> Matrix:
    """Uninitialised matrix of that format: an array for f32."""
    return np.empty((rows, width), np.float32) if form == _F32 else PackedMatrix.empty(rows, width, form)


def pack(values: Array, form: NumberFormat) -> PackedMatrix:
    """Encode a matrix [rows, width], a piece of rows at a time."""
    rows, width = values.shape
    packed = PackedMatrix.empty(rows, width, form)
    step = rows_of_a_piece(width)
    for start in range(0, rows, step):
        put(packed, slice(start, start + step), 0, values[start : start + step])
    return packed


def put(matrix: Matrix, rows: slice | NDArray[np.int64], at: int, values: Array) -> None:
    """Write float32 numbers [rows, n] into some rows of a matrix, in columns `at …`: whole blocks."""
    stop = at + values.shape[1]
    if isinstance(matrix, PackedMatrix):
        matrix.raw[rows, matrix.format.row_bytes(at) : matrix.format.row_bytes(stop)] = encode(values, matrix.format)
    else:
        matrix[rows, at:stop] = values


def expanded(matrix: Matrix) -> Matrix:
    """Matrix whose numbers are kept decoded too; an array is already."""
    return matrix.with_expanded() if isinstance(matrix, PackedMatrix) else matrix


def unpack(matrix: Matrix) -> Array:
    """All of a matrix as float32: the array itself, or a decoded copy."""
    return matrix.decoded() if isinstance(matrix, PackedMatrix) else matrix


def stored_row(width: int, form: NumberFormat) -> tuple[int, type[np.float32 | np.uint8]]:
    """Items and their type that hold a row of that many numbers: float32 numbers, or raw bytes."""
    return (width, np.float32) if form == _F32 else (form.row_bytes(width), np.uint8)


def raw_of(matrix: Matrix) -> Stored:
    """Array that holds the matrix: float32 numbers, or raw bytes of rows."""
    return matrix.raw if isinstance(matrix, PackedMatrix) else matrix


def matrix_of(raw: Stored, form: NumberFormat) -> Matrix:
    """Matrix that an array of float32, or of raw bytes of its rows, holds: inverse of `raw_of`, without a copy."""
    return raw.view(np.float32) if form == _F32 else PackedMatrix(form, raw.view(np.uint8))


def rows_of(matrix: Matrix, rows: slice) -> Matrix:
    """View of some rows."""
    return matrix.rows(rows) if isinstance(matrix, PackedMatrix) else matrix[rows]


def columns_of(matrix: Matrix, columns: slice) -> Matrix:
    """View of some columns: whole blocks."""
    return matrix.columns(columns) if isinstance(matrix, PackedMatrix) else matrix[:, columns]


def encode_rows(x: Array, form: NumberFormat) -> Raw:
    """Encode rows of a message or a cache: [rows, width] -> [rows, row_bytes]."""
    return encode(x, form)


def decode_rows(raw: Raw, form: NumberFormat) -> Array:
    """Decode rows of a message or a cache: [rows, row_bytes] -> [rows, width], a new array."""
    return PackedMatrix(form, raw).decoded()


def rounded(x: Array, form: NumberFormat) -> Array:
    """Rows [rows, width] as they are after being encoded and decoded; f32 gives `x` itself."""
    return x if form == _F32 else decode_rows(encode_rows(x, form), form)
