"""GGUF files: what they give back, what is refused, and number formats against the gguf package."""

import errno
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.gguf_files import SHAPE, Q, write

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.rope import frequencies
from edgeemu_kernels.shape import RopeScaling
from edgeemu_kernels.weights.open_model import open_gguf, open_model
from edgeemu_kernels.weights.quants import ggml_format, named_format
from edgeemu_kernels.weights.seeded import SeededSource


def test_smollm2_equals_the_gguf_package(smollm2_gguf: Path) -> None:
    """Our header and our dequantisation against the format's own package, on the real file's last layer."""
    model = open_gguf(smollm2_gguf)
    source = model.open_source()
    embed = source.embed()
    names = ("blk.29.attn_output.weight", "blk.29.ffn_down.weight", "output_norm.weight", "token_embd.weight")
    got = (
        source.proj(29).weight,
        source.ffn(29).down,
        source.lm_head(embed).norm.weight,
        embed.table[:100],
    )
    for name, array in zip(names, got, strict=True):
        offset, kind, dims = model.spec["tensors"][name]
        rows = array.shape[0] if array.ndim == 2 else 1
        block, block_bytes = gguf.GGML_QUANT_SIZES[Q(kind)]
        with smollm2_gguf.open("rb") as file:
            file.seek(offset)
            raw = np.frombuffer(file.read(rows * dims[-1] // block * block_bytes), np.uint8)
        np.testing.assert_array_equal(gguf.dequantize(raw.reshape(rows, -1), Q(kind)).reshape(array.shape), array)


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q6_K])
def test_every_format_is_what_the_gguf_package_makes_of_it(kind: Q) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, (3, 2, block_bytes), dtype=np.uint8)
    if block > 1:  # the block's float16 scales, at its start or end, must be numbers
        n_scales = 2 if kind in (Q.Q4_1, Q.Q5_1, Q.Q4_K) else 1
        scales = rng.standard_normal((3, 2, n_scales)).astype(np.float16).view(np.uint8)
        raw[..., -2:] = scales[..., -2:]
        raw[..., : 2 * n_scales] = scales
    else:
        raw[..., -1] &= 0x3F  # finite
    ours = ggml_format(kind.value)
    assert ours is not None
    assert (ours.block_size, ours.block_bytes) == (block, block_bytes)
    out = np.empty((3, 2 * block), np.float32)
    ours.dequantise(raw.reshape(3, -1), out)
    np.testing.assert_array_equal(out, gguf.dequantize(raw.reshape(3, -1), kind))


def test_unknown_formats() -> None:
    assert ggml_format(24) is None  # int8
    assert ggml_format(999) is None
    assert named_format("I64") is None
    q8 = ggml_format(8)
    assert q8 is not None
    with pytest.raises(ValueError, match="33 numbers are not a whole number of Q8_0 blocks of 32"):
        q8.row_bytes(33)


def test_a_gguf_file_gives_back_what_was_written(tmp_path: Path) -> None:
    model = open_model(write(tmp_path / "tiny.gguf"))
    assert model.shape == SHAPE
    assert model.name == "tiny"
    ids = [1, 5, 2, 39]
    expected = Reference(SeededSource(SHAPE, 0)).logits(ids)
    np.testing.assert_array_equal(Reference(model.open_source()).logits(ids), expected)


def test_quantised_and_tied(tmp_path: Path) -> None:
    shape = SHAPE.from_dict(SHAPE.to_dict() | {"tied_embeddings": True, "name": "tied"})
    model = open_model(write(tmp_path / "tied.gguf", shape, quantised=Q.Q8_0))
    assert model.shape == shape
    source = model.open_source()
    np.testing.assert_allclose(source.embed().table, SeededSource(shape, 0).embed().table, atol=4e-3)
    embed = source.embed()
    assert source.lm_head(embed).weight is embed.table
    np.testing.assert_array_equal(source.lm_head().weight, embed.table)


def test_llama3_scaling_is_found_again(tmp_path: Path) -> None:
    scaling = RopeScaling(32.0, 1.0, 4.0, 8192)
    divisors = frequencies(16, 500_000.0, None) / frequencies(16, 500_000.0, scaling)
    meta = {"llama.rope.freq_base": 500_000.0}
    freqs = {"rope_freqs.weight": divisors.astype(np.float32)}
    model = open_model(write(tmp_path / "l3.gguf", metadata=meta, extra=freqs))
    assert model.shape.rope_scaling == scaling
    freqs = {"rope_freqs.weight": np.linspace(1, 2, 8, dtype=np.float32)}
    with pytest.raises(ModelFileError, match="not Llama 3's RoPE scaling"):
        open_model(write(tmp_path / "other.gguf", metadata=meta, extra=freqs))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba' is not supported"),
        ({"without": "blk.1.ffn_up.weight"}, "tensor 'blk.1.ffn_up.weight' is missing"),
        ({"without": "token_embd.weight"}, "tensor 'token_embd.weight' is missing"),
        ({"metadata": {"llama.block_count": 3}}, "tensor 'blk.2.attn_norm.weight' is missing"),
        (
            {"metadata": {"llama.feed_forward_length": 97}},
            r"tensor 'blk.0.ffn_gate.weight' is \[96, 64\], the model's shape asks for \[97, 64\]",
        ),
        ({"metadata": {"llama.expert_count": 8}}, "mixtures of experts"),
        ({"metadata": {"llama.rope.dimension_count": 8}}, "a part of each head"),
        ({"metadata": {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}}, "'yarn'"),
        ({"metadata": {"llama.attention.head_count_kv": [1, 2]}}, "llama.attention.head_count_kv is a list of 2"),
        ({"metadata": {"llama.attention.head_count_kv": 3}}, "must be a multiple"),
        ({"metadata": {"llama.context_length": 0}}, "max_context must be at least 1"),
        ({"extra": {"blk.0.attn_q.bias": np.zeros(64, np.float32)}}, "with biases"),
    ],
)
def test_files_that_we_cannot_run_say_why(tmp_path: Path, options: dict, problem: str) -> None:
    path = write(tmp_path / "model.gguf", **options)
    with pytest.raises(ModelFileError, match=problem) as raised:
        open_model(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_a_gguf_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(0, 2500, 37), len(whole) // 2, len(whole) - 200]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match="truncated"):
            open_model(cut)


def test_the_real_file_truncated(smollm2_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    with smollm2_gguf.open("rb") as file:
        path.write_bytes(file.read(5_000_000))
    with pytest.raises(ModelFileError, match=r"half.gguf: is truncated: tensor 'token_embd.weight' ends at byte \d+"):
        open_model(path)


def test_a_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf")
    source = open_model(path).open_source()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ModelFileError, match=r"ends within tensor 'output_norm.weight'"):
        source.lm_head()
    path.unlink()
    with pytest.raises(ModelFileError, match=f"cannot be read: {os.strerror(errno.ENOENT)}"):
        source.proj(0)


def test_other_things_than_gguf(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with pytest.raises(ModelFileError, match=f"x.gguf: cannot be read: {os.strerror(errno.ENOENT)}"):
        open_model(path)
    path.write_bytes(b"hello, I am a text file")
    with pytest.raises(ModelFileError, match="is not a GGUF file"):
        open_model(path)
    path.write_bytes(b"GGUF" + (7).to_bytes(4, "little") + bytes(16))
    with pytest.raises(ModelFileError, match="version 7"):
        open_model(path)
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (2**62).to_bytes(8, "little") * 2 + b"\xff" * 64)
    with pytest.raises(ModelFileError, match="truncated"):
        open_model(path)
