"""GGUF headers that lie: each is refused by name, whatever numbers it has."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_files import write

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.gguf_header import read_header
from edgeemu_kernels.weights.open_model import open_gguf

U32, F32, STRING, ARRAY, U8 = 4, 6, 8, 9, 0


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, dims: list[int], ggml_type: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return text(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", ggml_type, offset)


def file(*, n_tensors: int | None = None, n_pairs: int | None = None, tensors: Any = (), pairs: Any = ()) -> bytes:
    """A GGUF file with 256 bytes of data; the numbers of its parts may be other than those that it has."""
    counts = (len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs)
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join([*pairs, *tensors]) + bytes(256)


def array(of: int, count: int, data: bytes = b"") -> bytes:
    return pair(b"a", ARRAY, struct.pack("<IQ", of, count) + data)


NESTED = struct.pack("<IQ", ARRAY, 1) * 20_000


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (file(n_tensors=2**60), "announces 1152921504606846976 tensors"),
        (file(n_pairs=10**9), "announces 1000000000 metadata"),
        (file(pairs=[pair(b"a", 99, b"")]), "unknown metadata type 99"),
        (file(pairs=[pair(b"a", STRING, struct.pack("<Q", 2**62))]), "is truncated"),
        (file(pairs=[pair(b"a", STRING, text(b"\xff\x1b[2J"))]), r"is not UTF-8: b'\\xff\\x1b\[2J'"),
        (file(pairs=[array(U8, 2**60)]), "announces 1152921504606846976 items of an array"),
        (file(pairs=[array(STRING, 300, bytes(100))]), "is truncated"),
        (file(pairs=[array(ARRAY, 1, NESTED)]), "arrays in arrays"),
        (file(pairs=[pair(b"a", U32, bytes(4))] * 2), "metadata 'a' occurs twice"),
        (file(pairs=[pair(b"general.alignment", U32, bytes(4))]), "general.alignment is 0, not a power of two"),
        (file(pairs=[pair(b"general.alignment", U32, struct.pack("<I", 48))]), "general.alignment is 48"),
        (
            file(pairs=[pair(b"general.alignment", STRING, text(b"32"))]),
            "general.alignment is '32', not a whole number",
        ),
        (file(tensors=[tensor(b"t", [])]), "tensor 't' has 0 axes"),
        (file(tensors=[tensor(b"t", [1] * 5)]), "tensor 't' has 5 axes"),
        (file(tensors=[tensor(b"t", [0])]), r"tensor 't' has the dimensions \[0\]"),
        (file(tensors=[tensor(b"t", [2**63, 2])]), r"tensor 't' has the dimensions \[2, 9223372036854775808\]"),
        (file(tensors=[tensor(b"t", [2**40] * 4)]), "is truncated: tensor 't' ends at byte"),
        (file(tensors=[tensor(b"t", [4], offset=2**63)]), "is truncated: tensor 't' ends at byte"),
        (file(tensors=[tensor(b"t", [4], ggml_type=28)]), "has the type F64, which the kernels cannot read; convert"),
        (file(tensors=[tensor(b"t", [4], ggml_type=12345)]), "has the type 12345, unknown to ggml"),
        (file(tensors=[tensor(b"t", [33], ggml_type=8)]), "33 numbers are not a whole number of Q8_0 blocks"),
        (file(tensors=[tensor(b"t", [4]), tensor(b"t", [4], offset=32)]), "tensor 't' occurs twice"),
        (file(tensors=[tensor(b"t", [9]), tensor(b"u", [4], offset=32)]), "tensors 't' and 'u' overlap"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(99), "is a big-endian GGUF file; convert it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
    ],
)
def test_headers_that_lie(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=f"model.gguf: .*{problem}"):
        read_header(path)


def test_a_header_of_many_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with path.open("wb") as sparse:
        sparse.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"a"))
        sparse.write(struct.pack("<IQ", STRING, 2**30))
        sparse.truncate(2**31)
    with pytest.raises(ModelFileError, match="has a header of more than"):
        read_header(path)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"block_count": 2.5}, "llama.block_count is 2.5, not a whole number"),
        ({"block_count": "2"}, "llama.block_count is '2', not a whole number"),
        ({"block_count": True}, "llama.block_count is True, not a whole number"),
        ({"block_count": 10**9}, "n_layers must be at least 1 and at most 4096"),
        ({"attention.head_count": 0}, "head_dim|n_heads"),
        ({"rope.freq_base": float("nan")}, "llama.rope.freq_base is nan, not a finite number"),
        ({"rope.freq_base": -5.0}, "rope_theta must be positive"),
        ({"rope.freq_base": "x"}, "llama.rope.freq_base is 'x', not a finite number"),
        ({"attention.layer_norm_rms_epsilon": 0.0}, "norm_eps must be positive"),
        ({"attention.value_length": 8}, "values of another width than keys"),
        ({"attention.key_length": 10**9, "attention.value_length": 10**9}, "head_dim must be"),
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "RoPE scaling 'longrope'"),
        ({"rope.scaling.type": "dynamic"}, "RoPE scaling 'dynamic' is not known"),
        ({"rope.scaling.factor": -2.0}, "rope_linear_factor must be positive"),
        ({"rope.scaling.attn_factor": 1.5}, "llama.rope.scaling.attn_factor = 1.5 is not supported"),
        ({"embedding_scale": 12.0}, "llama.embedding_scale = 12.0"),
        ({"residual_scale": 0.22}, "llama.residual_scale"),
        ({"logit_scale": 16.0}, "llama.logit_scale = 16.0"),
        ({"attn_logit_softcapping": 50.0}, "llama.attn_logit_softcapping = 50.0"),
        ({"attention.causal": False}, "llama.attention.causal = False"),
        ({"block_count": 1}, "has tensor 'blk.1"),
    ],
)
def test_metadata_that_is_refused(tmp_path: Path, metadata: dict[str, Any], problem: str) -> None:
    path = write(tmp_path / "model.gguf", metadata={f"llama.{key}": value for key, value in metadata.items()})
    with pytest.raises(ModelFileError, match=problem):
        open_gguf(path)


def test_parts_windows_and_other_scales(tmp_path: Path) -> None:
    part = write(tmp_path / "part.gguf", metadata={"split.count": 3, "split.no": 1})
    with pytest.raises(ModelFileError, match="is part 2 of 3 of a split file; join them"):
        open_gguf(part)
    unchanged = {"llama.embedding_scale": 1.0, "llama.logit_scale": 0.0, "llama.attention.sliding_window": 0}
    model = open_gguf(write(tmp_path / "unchanged.gguf", metadata=unchanged))
    assert (model.shape.max_context, model.context_limit) == (128, "")
    window = open_gguf(write(tmp_path / "window.gguf", metadata={"llama.attention.sliding_window": 50}))
    assert (window.shape.max_context, window.context_limit) == (50, "its sliding window of 50 tokens")


def test_divisors_of_rope_that_are_not_numbers(tmp_path: Path) -> None:
    for value, problem in ((np.nan, "not finite numbers"), (0.0, "not positive numbers")):
        divisors = np.linspace(value, 8, 8, dtype=np.float32)
        with pytest.raises(ModelFileError, match=f"'rope_freqs.weight' has .*{problem}"):
            open_gguf(write(tmp_path / "model.gguf", extra={"rope_freqs.weight": divisors}))
