"""Header of a GGUF file: metadata and tensor index. Read once, where a run is planned; no weights, no model.

Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Whatever a file says, reading ends in bounded time and
memory: a header has at most `_MAX_HEADER_BYTES`, and its arrays `_MAX_ITEMS` items in all.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.json_files import refuse_pointer, short
from edgeemu_kernels.weights.quants import ggml_format, ggml_name
from edgeemu_kernels.weights.tensorfile import check_apart

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_DEFAULT_ALIGNMENT = 32
_LENGTH = struct.Struct("<Q")  # of a string
_FIRST_BYTES = 64 * 1024  # what is read first; each further read doubles it
_MAX_HEADER_BYTES = 32 * 2**20  # Llama 3's, with 128,000 tokens and 280,000 merges, has 8 MB
_MAX_ITEMS = 1_500_000
_MAX_PAIRS, _MAX_TENSORS = 2**12, 2**16
_MAX_DIM = 2**40


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Parsed header. `tensors`: name -> (offset in the file, ggml type, dims with rows first)."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, int, tuple[int, ...]]]

    def count(self, key: str, default: int | None = None) -> int:
        """Whole number of the metadata. ModelFileError if it is another thing, or missing without a default."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self._not(key, value, "a whole number below 2³¹")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """Finite number of the metadata. ModelFileError if it is another thing, or missing without a default."""
        value = self.metadata.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._not(key, value, "a finite number")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Text of the metadata. ModelFileError if it is another thing, or missing without a default."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._not(key, value, "a text")
        return value

    def _not(self, key: str, value: object, wanted: str) -> ModelFileError:
        if value is None:
            return ModelFileError(self.path, f"metadata {key} is missing")
        return ModelFileError(self.path, f"metadata {key} is {short(value)}, not {wanted}")


def read_header(path: Path) -> GgufHeader:
    """Parse the header and check that every tensor lies within the file. Raises ModelFileError otherwise."""
    try:
        if not path.is_file():  # a pipe would never end
            path.stat()
            raise ModelFileError(path, "is not a regular file")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header = _parse(_Cursor(path, file, size))
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    spans = {}
    for name, (offset, ggml_type, dims) in header.tensors.items():
        number_format = ggml_format(ggml_type)
        if number_format is None:
            problem = f"tensor {short(name)} has the type {ggml_name(ggml_type)}, which the kernels cannot read"
            raise ModelFileError(path, f"{problem}; convert it to F16 or Q8_0")
        try:
            end = offset + prod(dims[:-1]) * number_format.row_bytes(dims[-1])
        except ValueError as error:
            raise ModelFileError(path, f"tensor {short(name)}: {error}") from error
        if end > size:
            raise ModelFileError(
                path, f"is truncated: tensor {short(name)} ends at byte {end}, the file at byte {size}"
            )
        spans[name] = (offset, end)
    check_apart(path, spans)
    return header


class _Cursor:
    """Reader of the header, front to back from a growing buffer."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.at = 0
        self._data = b""
        self._file = file
        self._size = size
        self._items = 0

    def take(self, size: int) -> int:
        """Read `size` more bytes; returns their start and moves behind them."""
        start, self.at = self.at, self.at + size
        if self.at > self._size:
            raise ModelFileError(self.path, f"is truncated: it ends at byte {self._size}, within its header")
        if self.at > _MAX_HEADER_BYTES:
            raise ModelFileError(self.path, f"has a header of more than {_MAX_HEADER_BYTES} bytes")
        if self.at > len(self._data):
            wanted = max(self.at - len(self._data), len(self._data), _FIRST_BYTES)
            self._data += self._file.read(min(wanted, self._size))
            if self.at > len(self._data):
                raise ModelFileError(self.path, f"is truncated: it ends at byte {len(self._data)}, within its header")
        return start

    def unpack(self, code: str) -> Any:
        layout = struct.Struct("<" + code)
        start = self.take(layout.size)
        return layout.unpack_from(self._data, start)[0]

    def raw(self, size: int) -> bytes:
        start = self.take(size)
        return self._data[start : self.at]

    def rest(self, size: int) -> bytes:
        """Return what follows, at most `size` bytes, and stay in place."""
        return self._data[self.at : self.at + size]

    def string(self) -> str:
        return self._decoded(self.raw(self.unpack("Q")))

    def strings(self, count: int) -> list[str]:
        """Read so many strings: a vocabulary has a hundred thousand, nearly all of which are in the buffer."""
        found = []
        for _ in range(count):
            start = self.at + _LENGTH.size
            if start <= len(self._data) >= (stop := start + _LENGTH.unpack_from(self._data, self.at)[0]):
                self.at = stop
                found.append(self._decoded(self._data[start:stop]))
            else:
                found.append(self.string())
        self.take(0)  # checks where it is now
        return found

    def _decoded(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(self.path, f"a string in the header is not UTF-8: {short(raw)}") from error

    def count(self, limit: int, of: str) -> int:
        number: int = self.unpack("Q")
        if number > max(limit, self._size):
            raise ModelFileError(self.path, f"is truncated, or damaged: its header announces {number} {of}")
        if number > limit:
            raise ModelFileError(self.path, f"its header announces {number} {of}, more than the limit, {limit}")
        return number

    def value(self, kind: int) -> Any:
        if kind == _FLOAT32:
            return float(str(np.float32(self.unpack("f"))))  # 1e-05, as it was meant, not 9.99999974…e-06
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ModelFileError(self.path, f"unknown metadata type {kind} in the header")
        of = self.unpack("I")
        count = self.count(_MAX_ITEMS - self._items, "items of an array")
        self._items += count
        if of in _SCALARS:
            layout = struct.Struct(f"<{_SCALARS[of]}")
            raw = self.raw(layout.size * count)
            return [item[0] for item in layout.iter_unpack(raw)]
        if of != _STRING:
            raise ModelFileError(self.path, f"an array of type {of} in the header (arrays in arrays are not supported)")
        return self.strings(count)


def _parse(cursor: _Cursor) -> GgufHeader:
    _check_kind(cursor)
    n_tensors, n_metadata = cursor.count(_MAX_TENSORS, "tensors"), cursor.count(_MAX_PAIRS, "metadata")
    metadata: dict[str, Any] = {}
    for _ in range(n_metadata):
        key = cursor.string()
        if key in metadata:
            raise ModelFileError(cursor.path, f"metadata {short(key)} occurs twice")
        metadata[key] = cursor.value(cursor.unpack("I"))
    tensors: dict[str, tuple[int, int, tuple[int, ...]]] = {}
    for _ in range(n_tensors):
        name, n_dims = cursor.string(), cursor.unpack("I")
        if not 1 <= n_dims <= 4:
            raise ModelFileError(cursor.path, f"tensor {short(name)} has {n_dims} axes")
        dims = tuple(cursor.unpack("Q") for _ in range(n_dims))
        if not all(1 <= dim <= _MAX_DIM for dim in dims):
            raise ModelFileError(cursor.path, f"tensor {short(name)} has the dimensions {list(dims[::-1])}")
        if name in tensors:
            raise ModelFileError(cursor.path, f"tensor {short(name)} occurs twice")
        ggml_type, offset = cursor.unpack("I"), cursor.unpack("Q")
        tensors[name] = (offset, ggml_type, dims[::-1])  # ggml names the contiguous axis first
    alignment = GgufHeader(cursor.path, metadata, {}).count("general.alignment", _DEFAULT_ALIGNMENT)
    if alignment < 1 or alignment & (alignment - 1):
        raise ModelFileError(cursor.path, f"metadata general.alignment is {alignment}, not a power of two")
    start = -(-cursor.at // alignment) * alignment
    placed = {name: (start + offset, ggml_type, dims) for name, (offset, ggml_type, dims) in tensors.items()}
    return GgufHeader(cursor.path, metadata, placed)


def _check_kind(cursor: _Cursor) -> None:
    """Check the file's first bytes: the format, its version, the order of its bytes."""
    magic = cursor.raw(4)
    if magic != b"GGUF":
        refuse_pointer(cursor.path, magic + cursor.rest(60))
        raise ModelFileError(cursor.path, "is not a GGUF file")
    version = cursor.unpack("I")
    if version % 2**16 == 0 and version:
        raise ModelFileError(
            cursor.path, "is a big-endian GGUF file; convert it with gguf-convert-endian (of the gguf package)"
        )
    if version not in (2, 3):
        raise ModelFileError(cursor.path, f"GGUF version {version} is not supported (2, 3)")
