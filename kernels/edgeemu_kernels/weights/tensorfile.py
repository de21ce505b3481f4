"""Rows of named tensors from files, as float32. Knows where each tensor lies; no model, no header.

Files are read with `pread`-like calls, never mapped: mapped pages would count as the device's own memory. A
few hundred kilobytes are read and dequantised at a time, straight into their destination, so that the peak is
the destination itself.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeemu_kernels.arrays import Array, Raw
from edgeemu_kernels.codecs.decode import scales
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.packed import Matrix, PackedMatrix, empty_matrix, put
from edgeemu_kernels.precision import NumberFormat
from edgeemu_kernels.weights.quants import Format

CHUNK_BYTES = 128 * 1024  # what is read at a time: fits, with what becomes of it, into a core's second-level cache


Dims = tuple[int, ...]


def runs(parts: Sequence[int], width: int) -> list[range]:
    """Byte ranges of parts of that width, neighboring ones joined."""
    found: list[range] = []
    for part in parts:
        start = part * width
        begin = found.pop().start if found and found[-1].stop == start else start
        found.append(range(begin, start + width))
    return found


def part_of_bias(bias: Array | None, parts: Sequence[int], rows: range | None) -> Array | None:
    """Bias that a shard has: all of it with part 0, or, with some rows of the matrix, those of the rows."""
    if bias is None or rows is None:
        return bias if 0 in parts else None
    return bias[rows.start : rows.stop].copy()


@dataclass(frozen=True, slots=True)
class Tensor:
    """Place of a tensor in a file. `dims` as NumPy has them: rows first, the contiguous axis last."""

    path: Path
    offset: int
    format: Format
    dims: Dims

    @property
    def row_bytes(self) -> int:
        return self.format.row_bytes(self.dims[-1])


def check_complete(origin: Path, held: Mapping[str, Dims], wanted: Mapping[str, Dims]) -> None:
    """Check that every wanted tensor is present with its dims. ModelFileError names the first that is not."""
    for name, dims in wanted.items():
        if name not in held:
            raise ModelFileError(origin, f"tensor {name!r} is missing")
        if held[name] != dims:
            problem = f"tensor {name!r} is {list(held[name])}, the model's shape asks for {list(dims)}"
            raise ModelFileError(origin, problem)


def check_apart(path: Path, spans: Mapping[str, tuple[int, int]]) -> None:
    """Check that no two tensors of a file share bytes. `spans`: name -> (first byte, end). ModelFileError names two."""
    placed = sorted((start, end, name) for name, (start, end) in spans.items())
    for (_, end, name), (start, _, other) in itertools.pairwise(placed):
        if start < end:
            raise ModelFileError(path, f"tensors {name[:60]!r} and {other[:60]!r} overlap at byte {start}")


class TensorFiles:
    """Reader of tensors by name. Raises ModelFileError where the files do not hold what is requested."""

    def __init__(self, origin: Path, tensors: Mapping[str, Tensor]) -> None:
        self._origin = origin  # named in errors
        self._tensors = tensors

    def vector(self, name: str, size: int) -> Array:
        """Read a tensor of one axis, [size]."""
        out: Array = np.empty((1, size), np.float32)
        self._read(name, self._checked(name, (size,)), out, 0)
        return out.reshape(size)

    def matrix(self, name: str, rows: int, width: int, form: NumberFormat) -> Matrix:
        """Read a tensor of two axes, [rows, width], into that format."""
        out = empty_matrix(rows, width, form)
        self.rows(name, out, rows)
        return out

    def rows(self, name: str, out: Matrix, total: int, start: int = 0) -> None:
        """Read rows `start …` of a tensor [total, width] into out [rows, width]."""
        rows, width = out.shape
        if isinstance(out, PackedMatrix):
            self.part(name, out, (total, width), [range(start, start + rows)], [range(width)])
        else:
            self._read(name, self._checked(name, (total, width)), out, start)

    def columns(self, name: str, out: Matrix, total: int, start: int = 0) -> None:
        """Read columns `start …` of a tensor [in, total] (Conv1D stores it so), as rows of out [columns, in]."""
        width, size = out.shape
        self.transposed(name, out, (size, total), [range(size)], [range(start, start + width)])

    def part(self, name: str, out: Matrix, dims: Dims, rows: Sequence[range], columns: Sequence[range]) -> None:
        """Read some rows and columns of a tensor [dims] side by side into out [rows, columns].

        Bytes that are in the format of `out` are taken as they are. Columns for a packed matrix are whole blocks.
        """
        tensor = self._checked(name, dims)
        same = out if isinstance(out, PackedMatrix) and out.format.name == tensor.format.name.lower() else None
        to = 0
        for run in rows:
            for _, chunk in self._chunks(name, tensor, run.start, len(run)):
                places = slice(to, to + len(chunk))
                if same is not None:
                    _check_finite(name, tensor, scales(chunk, same.format))
                    _take(same, places, chunk, columns)
                else:
                    whole: Array = np.empty((len(chunk), dims[1]), np.float32)
                    _decode(name, tensor, chunk, whole)
                    at = 0
                    for these in columns:
                        put(out, places, at, whole[:, these.start : these.stop])
                        at += len(these)
                to += len(chunk)

    def transposed(self, name: str, out: Matrix, dims: Dims, rows: Sequence[range], columns: Sequence[range]) -> None:
        """Read some rows and columns of a tensor [dims] into out [columns, rows]; runs of rows are whole blocks."""
        tensor = self._checked(name, dims)
        to, block = 0, out.format.block_size if isinstance(out, PackedMatrix) else 1
        for run in rows:
            for done, chunk in self._chunks(name, tensor, run.start, len(run), block):
                whole: Array = np.empty((len(chunk), dims[1]), np.float32)
                _decode(name, tensor, chunk, whole)
                at = 0
                for these in columns:
                    put(out, slice(at, at + len(these)), to + done, whole[:, these.start : these.stop].T)
                    at += len(these)
            to += len(run)

    def _checked(self, name: str, dims: Dims) -> Tensor:
        held = {name: self._tensors[name].dims} if name in self._tensors else {}
        check_complete(self._origin, held, {name: dims})
        return self._tensors[name]

    def _read(self, name: str, tensor: Tensor, out: Array, start: int) -> None:
        for to, chunk in self._chunks(name, tensor, start, len(out)):
            _decode(name, tensor, chunk, out[to : to + len(chunk)])

    def _chunks(
        self, name: str, tensor: Tensor, start: int, count: int, multiple: int = 1
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Raw pieces of a tensor: (row index from 0, bytes [rows, row_bytes]), until `count` rows are read.

        Each but the last has a multiple of that many rows.
        """
        row_bytes = tensor.row_bytes
        step = min(count, max(1, CHUNK_BYTES // row_bytes // multiple) * multiple)
        buffer = np.empty((step, row_bytes), np.uint8)
        with _opened(tensor.path) as fd:
            for done in range(0, count, step):
                chunk = buffer[: min(step, count - done)]
                at = tensor.offset + (start + done) * row_bytes
                if os.preadv(fd, [chunk.data], at) != chunk.nbytes:
                    raise ModelFileError(tensor.path, f"ends within tensor {name!r} (truncated?)")
                yield done, chunk


def _decode(name: str, tensor: Tensor, chunk: Raw, out: Array) -> None:
    """Dequantize a chunk into `out`. Raises ModelFileError if a number in it is not finite: no text comes of it."""
    with np.errstate(all="ignore"):  # a scale that is not finite is reported below, by name
        tensor.format.dequantise(chunk, out)
    _check_finite(name, tensor, out)


def _check_finite(name: str, tensor: Tensor, numbers: Array) -> None:
    if not (math.isfinite(numbers.max()) and math.isfinite(numbers.min())):  # NaN is both
        raise ModelFileError(tensor.path, f"tensor {name!r} has values that are not finite numbers")


def _take(out: PackedMatrix, rows: slice, chunk: Raw, columns: Sequence[range]) -> None:
    """Copy the bytes of columns, side by side, of rows that are in the format of `out`."""
    at, size = 0, out.format.row_bytes
    for these in columns:
        stop = at + size(len(these))
        out.raw[rows, at:stop] = chunk[:, size(these.start) : size(these.stop)]
        at = stop


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)
