"""Sources: each block alone equals its part of the whole, whatever else is made; damaged files are named."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf_files import SHAPE, Q, write
from support.kernel_shapes import GPT2, SMALL, shapes

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.rope import frequencies
from edgeemu_kernels.shape import ModelShape, RopeScaling
from edgeemu_kernels.weights.huggingface_config import read_config
from edgeemu_kernels.weights.open_model import Model, open_gguf, open_model, seeded_model
from edgeemu_kernels.weights.quants import ggml_format, named_format
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.weights.sources import Loaded, WeightSource, open_source


def assert_same(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_parts_equal_the_whole(source: WeightSource, whole: WeightSource) -> None:
    """Every group alone, and pairs in reverse, are the rows that a full load has."""
    shape = source.shape
    for layer in range(shape.n_layers):
        full = whole.heads(layer, range(shape.n_groups))
        for groups in [*([group] for group in range(shape.n_groups)), [shape.n_groups - 1, 0][: shape.n_groups]]:
            part = source.heads(layer, groups)
            np.testing.assert_array_equal(part.norm.weight, full.norm.weight)
            for group in groups:
                assert_same(part.group_weights(group).arrays(), full.group_weights(group).arrays())


@settings(deadline=None, max_examples=20)
@given(shape=shapes(), seed=st.integers(0, 2**40))
def test_seeded_blocks_do_not_depend_on_what_else_is_made(shape: ModelShape, seed: int) -> None:
    whole = Loaded(SeededSource(shape, seed))
    assert_parts_equal_the_whole(SeededSource(shape, seed), whole)
    last = shape.n_layers - 1
    np.testing.assert_array_equal(SeededSource(shape, seed).ffn(last).down, whole.ffn(last).down)
    np.testing.assert_array_equal(SeededSource(shape, seed).proj(last).weight, whole.proj(last).weight)
    np.testing.assert_array_equal(SeededSource(shape, seed).lm_head().weight, whole.lm_head().weight)


def test_seeds_layers_and_groups_differ() -> None:
    one, other = SeededSource(SMALL, 1), SeededSource(SMALL, 2)
    weights = [
        source.heads(layer, [g]).group_weights(g).wk for source in (one, other) for layer in (0, 1) for g in (0, 1)
    ]
    assert len({array.tobytes() for array in weights}) == 8


@pytest.mark.parametrize("shape", [SMALL, GPT2], ids=lambda shape: shape.name)
def test_seeded_activations_stay_sane_over_80_layers(shape: ModelShape) -> None:
    deep = shape.from_dict(shape.to_dict() | {"n_layers": 80})
    logits = Reference(SeededSource(deep, 0)).logits(list(range(20)))
    assert 0.3 < logits.std() < 10
    assert np.abs(logits).max() < 50
    assert len(set(logits.argmax(1))) > 3


@pytest.mark.parametrize("name", ["golden_llama", "golden_gpt2"])
def test_huggingface_parts_equal_the_whole(name: str, fixtures: Path) -> None:
    model = open_model(fixtures / name)
    assert_parts_equal_the_whole(model.open_source(), Loaded(model.open_source()))


def test_smollm2_parts_equal_the_whole(smollm2: Model, smollm2_weights: Loaded) -> None:
    source = open_source(json.loads(json.dumps(smollm2.spec)))  # as it arrives in a device
    for layer, groups in ((0, [0]), (17, [2, 1]), (29, [1])):
        full, part = smollm2_weights.heads(layer, range(3)), source.heads(layer, groups)
        for group in groups:
            assert_same(part.group_weights(group).arrays(), full.group_weights(group).arrays())
    np.testing.assert_array_equal(source.ffn(4).up, smollm2_weights.ffn(4).up)


def test_a_device_reads_only_its_own_rows(smollm2: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = 0
    preadv = os.preadv

    def counted(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read_bytes
        count = preadv(fd, buffers, offset)
        read_bytes += count
        return count

    monkeypatch.setattr(os, "preadv", counted)
    smollm2.open_source().heads(3, [1])
    rows, blocks = (3 + 1 + 1) * 64, 576 // 32
    assert read_bytes == rows * blocks * 20 + 576 * 4  # Q4_1 blocks of 20 bytes, and the norm


def test_smollm2_equals_the_gguf_package(smollm2_gguf: Path, smollm2_weights: Loaded) -> None:
    """Our header and our dequantisation against the format's own package, on the real file's last layer."""
    model = open_gguf(smollm2_gguf)
    names = ("blk.29.attn_output.weight", "blk.29.ffn_down.weight", "output_norm.weight", "token_embd.weight")
    got = (
        smollm2_weights.proj(29).weight,
        smollm2_weights.ffn(29).down,
        smollm2_weights.lm_head().norm.weight,
        smollm2_weights.embed().table[:100],
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
        ({"metadata": {"llama.attention.head_count_kv": [1, 2]}}, r"llama.attention.head_count_kv is \[1, 2\]"),
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


def copied(fixtures: Path, name: str, to: Path) -> Path:
    to.mkdir()
    for file in (fixtures / name).iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_damaged_huggingface_directories(fixtures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"config.json: cannot be read"):
        open_model(tmp_path)
    here = copied(fixtures, "golden_llama", tmp_path / "a")
    shard = here / "model-00002-of-00004.safetensors"
    whole = shard.read_bytes()
    for size, problem in ((4, "truncated"), (40, "truncated"), (len(whole) - 1, "is truncated: tensor")):
        shard.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=problem):
            open_model(here)
    shard.write_bytes((20).to_bytes(8, "little") + b"x" * 40)
    with pytest.raises(ModelFileError, match="has no safetensors header"):
        open_model(here)
    shard.unlink()
    with pytest.raises(ModelFileError, match=r"model-00002-of-00004.safetensors: cannot be read"):
        open_model(here)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("golden_llama", {"architectures": ["BertModel"]}, r"\['BertModel'\] is not supported"),
        ("golden_llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("golden_llama", {"attention_bias": True}, "attention_bias = True"),
        ("golden_llama", {"num_hidden_layers": 3}, "'layers.2.input_layernorm.weight' is missing"),
        ("golden_llama", {"intermediate_size": 81}, "the model's shape asks for"),
        ("golden_llama", {"rope_parameters": {"rope_type": "yarn"}}, "'yarn'"),
        ("golden_llama", {"hidden_size": None}, "config.json: "),
        ("golden_gpt2", {"activation_function": "relu"}, "activation_function = 'relu'"),
        ("golden_gpt2", {"n_layer": 3}, "'h.2.ln_1.weight' is missing"),
    ],
)
def test_configs_that_we_cannot_run(fixtures: Path, tmp_path: Path, name: str, changes: dict, problem: str) -> None:
    here = copied(fixtures, name, tmp_path / name)
    config = json.loads((here / "config.json").read_text()) | changes
    (here / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=problem):
        open_model(here)


def test_older_configs_keep_rope_theta_apart(fixtures: Path, tmp_path: Path) -> None:
    here = copied(fixtures, "golden_llama", tmp_path / "old")
    config = json.loads((here / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    config |= {"rope_theta": parameters.pop("rope_theta"), "rope_scaling": parameters}
    (here / "config.json").write_text(json.dumps(config))
    old, new = read_config(here)[0], read_config(fixtures / "golden_llama")[0]
    assert (old.rope_theta, old.rope_scaling) == (new.rope_theta, new.rope_scaling)
    assert old.rope_scaling is not None


def test_specs_are_small_plain_data(smollm2: Model, fixtures: Path) -> None:
    for model in (smollm2, open_model(fixtures / "golden_gpt2"), seeded_model(SMALL, 3)):
        text = json.dumps(model.spec)
        assert len(text) < 30_000
        assert open_source(json.loads(text)).shape == model.shape
    with pytest.raises(ValueError, match="'onnx'"):
        open_source({"kind": "onnx", "shape": SMALL.to_dict()})


def test_a_device_stays_small(smollm2: Model, tmp_path: Path) -> None:
    """What a device imports and holds, beyond the weights that it asked for."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(smollm2.spec))
    code = f"""
import json, pathlib, re, sys
from edgeemu_kernels.weights.sources import open_source
source = open_source(json.loads(pathlib.Path({str(spec)!r}).read_text()))
blocks = [source.ffn(layer) for layer in range(8)] + [source.heads(layer, [0, 2]) for layer in range(8)]
high_water = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
peak = int(high_water[1]) * 1024 - sum(block.weight_bytes for block in blocks)
heavy = ("tokenizers", "jinja2", "gguf", "yaml", "safetensors", "requests", "asyncio")
print(json.dumps([peak, [name for name in heavy if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, loaded = json.loads(done.stdout)
    assert loaded == []
    assert peak < 45e6
