"""Header of a GGUF file: metadata, tensor index, shape. Read once, where a run is planned; no weights.

Format: ggml's `docs/gguf.md`, versions 2 and 3, little-endian. Devices never come here: they get the tensor
index.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.rope import frequencies
from edgeemu_kernels.shape import ModelShape, RopeScaling
from edgeemu_kernels.weights.quants import ggml_format
from edgeemu_kernels.weights.tensorfile import Tensor, TensorFiles

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_DEFAULT_ALIGNMENT = 32
_FIRST_BYTES = 64 * 1024  # what is read first; each further read doubles it


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Parsed header. `tensors`: name -> (offset in the file, ggml type, dims with rows first)."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, tuple[int, int, tuple[int, ...]]]


def read_header(path: Path) -> GgufHeader:
    """Parse the header and check that every tensor lies within the file. Raises ModelFileError otherwise."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header, data_start = _parse(_Cursor(path, file, size))
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    tensors = {}
    for name, (offset, ggml_type, dims) in header.tensors.items():
        tensors[name] = (data_start + offset, ggml_type, dims)
        number_format = ggml_format(ggml_type)
        if number_format is None:
            raise ModelFileError(path, f"tensor {name!r} has the unknown ggml type {ggml_type}")
        try:
            end = data_start + offset + prod(dims[:-1]) * number_format.row_bytes(dims[-1])
        except ValueError as error:
            raise ModelFileError(path, f"tensor {name!r}: {error}") from error
        if end > size:
            raise ModelFileError(path, f"is truncated: tensor {name!r} ends at byte {end}, the file at byte {size}")
    return GgufHeader(path, header.metadata, tensors)


def gguf_shape(header: GgufHeader) -> ModelShape:
    """Shape of a Llama-architecture file. Raises ModelFileError for what the kernels cannot run."""
    meta, path = header.metadata, header.path
    architecture = meta.get("general.architecture")
    if architecture != "llama":
        raise ModelFileError(path, f"architecture {architecture!r} is not supported (GGUF files: 'llama')")
    if meta.get("llama.expert_count"):
        raise ModelFileError(path, "mixtures of experts are not supported")
    biased = next((name for name in header.tensors if name.startswith("blk.") and name.endswith(".bias")), None)
    if biased:
        raise ModelFileError(path, f"a Llama model with biases ({biased!r}) is not supported")

    def number(key: str, default: Any = None) -> Any:
        value = meta.get(f"llama.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelFileError(path, f"metadata llama.{key} is {value!r}, not one number")
        return value

    heads = number("attention.head_count")
    width = number("embedding_length")
    head_dim = number("attention.key_length", width // max(heads, 1))
    if number("rope.dimension_count", head_dim) != head_dim:
        raise ModelFileError(path, "rotary embedding of a part of each head is not supported")
    if meta.get("llama.rope.scaling.type", "none") != "none" and number("rope.scaling.factor", 1.0) != 1.0:
        raise ModelFileError(path, f"RoPE scaling {meta['llama.rope.scaling.type']!r} is not supported")
    if "token_embd.weight" not in header.tensors:
        raise ModelFileError(path, "tensor 'token_embd.weight' is missing")
    theta = float(number("rope.freq_base", 10_000.0))
    try:
        return ModelShape(
            name=str(meta.get("general.name", path.stem)),
            n_layers=number("block_count"),
            d_model=width,
            n_heads=heads,
            n_kv_heads=number("attention.head_count_kv", heads),
            head_dim=head_dim,
            d_ff=number("feed_forward_length"),
            vocab_size=header.tensors["token_embd.weight"][2][0],
            max_context=number("context_length"),
            norm_eps=float(number("attention.layer_norm_rms_epsilon")),
            positions="rope-interleaved",
            rope_theta=theta,
            rope_scaling=_rope_scaling(header, head_dim, theta),
            tied_embeddings="output.weight" not in header.tensors,
        )
    except ValueError as error:
        raise ModelFileError(path, str(error)) from error


def _rope_scaling(header: GgufHeader, head_dim: int, theta: float) -> RopeScaling | None:
    """Scaling of RoPE frequencies as in Llama 3.

    GGUF keeps its effect, a divisor for each frequency, so its parameters are found again.
    """
    if "rope_freqs.weight" not in header.tensors:
        return None
    offset, ggml_type, dims = header.tensors["rope_freqs.weight"]
    number_format = ggml_format(ggml_type)
    assert number_format is not None  # read_header checked it
    tensor = Tensor(header.path, offset, number_format, dims)
    files = TensorFiles(header.path, {"rope_freqs.weight": tensor})
    divisors = files.vector("rope_freqs.weight", head_dim // 2)
    if np.all(divisors == 1):
        return None
    plain = frequencies(head_dim, theta, None)
    scaling = RopeScaling(float(divisors.max()), 1.0, 4.0, 8192)  # Llama 3.1 to 3.3 differ in the factor alone
    if not np.allclose(plain / frequencies(head_dim, theta, scaling), divisors, rtol=1e-3):
        raise ModelFileError(header.path, "tensor 'rope_freqs.weight' is not Llama 3's RoPE scaling")
    return scaling


class _Cursor:
    """Reader of the header, front to back from a growing buffer."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path = path
        self.at = 0
        self._data = b""
        self._file = file
        self._size = size

    def take(self, size: int) -> int:
        """Read `size` more bytes; returns their start and moves behind them."""
        start, self.at = self.at, self.at + size
        if self.at > self._size:
            raise ModelFileError(self.path, f"is truncated: it ends at byte {self._size}, within its header")
        if self.at > len(self._data):
            wanted = max(self.at - len(self._data), len(self._data), _FIRST_BYTES)
            self._data += self._file.read(min(wanted, self._size))
        return start

    def unpack(self, code: str) -> Any:
        layout = struct.Struct("<" + code)
        start = self.take(layout.size)
        return layout.unpack_from(self._data, start)[0]

    def bytes(self, size: int) -> bytes:
        start = self.take(size)
        return self._data[start : self.at]

    def string(self) -> str:
        raw = self.bytes(self.unpack("Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ModelFileError(self.path, f"a string in the header is not UTF-8: {raw[:40]!r}") from error

    def value(self, kind: int) -> Any:
        if kind == _FLOAT32:
            return float(str(np.float32(self.unpack("f"))))  # 1e-05, as it was meant, not 9.99999974…e-06
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise ModelFileError(self.path, f"unknown metadata type {kind} in the header")
        of, count = self.unpack("I"), self.unpack("Q")
        if of in _SCALARS:
            layout = struct.Struct(f"<{_SCALARS[of]}")
            raw = self.bytes(layout.size * count)
            return [item[0] for item in layout.iter_unpack(raw)]
        return [self.value(of) for _ in range(count)]


def _parse(cursor: _Cursor) -> tuple[GgufHeader, int]:
    """Header with offsets from the start of the data, and that start."""
    if cursor.bytes(4) != b"GGUF":
        raise ModelFileError(cursor.path, "is not a GGUF file")
    version = cursor.unpack("I")
    if version not in (2, 3):
        raise ModelFileError(cursor.path, f"GGUF version {version} is not supported (2, 3)")
    n_tensors, n_metadata = cursor.unpack("Q"), cursor.unpack("Q")
    metadata = {}
    for _ in range(n_metadata):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.unpack("I"))
    tensors = {}
    for _ in range(n_tensors):
        name = cursor.string()
        dims = tuple(cursor.unpack("Q") for _ in range(cursor.unpack("I")))
        ggml_type, offset = cursor.unpack("I"), cursor.unpack("Q")
        if not 1 <= len(dims) <= 4:
            raise ModelFileError(cursor.path, f"tensor {name!r} has {len(dims)} axes")
        tensors[name] = (offset, ggml_type, dims[::-1])  # ggml names the contiguous axis first
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    data_start = -(-cursor.at // alignment) * alignment
    return GgufHeader(cursor.path, metadata, tensors), data_start
