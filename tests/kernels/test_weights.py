"""Sources: each block alone equals its part of the whole, whatever else is made; damaged files are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_shapes import GPT2, SMALL, shapes
from support.loaded import Loaded

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.huggingface_config import read_config
from edgeemu_kernels.weights.open_model import Model, open_model, seeded_model
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.weights.sources import WeightSource, open_source


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


def test_smollm2_parts_equal_the_whole(smollm2: Model) -> None:
    whole = smollm2.open_source()
    source = open_source(json.loads(json.dumps(smollm2.spec)))  # as it arrives in a device
    for layer, groups in ((0, [0]), (17, [2, 1]), (29, [1])):
        full, part = whole.heads(layer, range(3)), source.heads(layer, groups)
        for group in groups:
            assert_same(part.group_weights(group).arrays(), full.group_weights(group).arrays())
    np.testing.assert_array_equal(source.ffn(4).up, whole.ffn(4).up)


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
    shard.write_bytes((20).to_bytes(8, "little") + b"{" * 40)
    with pytest.raises(ModelFileError, match="is not JSON"):
        open_model(here)
    shard.unlink()
    with pytest.raises(ModelFileError, match=r"model-00002-of-00004.safetensors: cannot be read"):
        open_model(here)


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("golden_llama", {"architectures": ["BertModel"]}, "architectures: 'BertModel' is not supported"),
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
    old, new = read_config(here).shape, read_config(fixtures / "golden_llama").shape
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
    """A device imports and holds little beyond the weights that it asked for."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(smollm2.spec))
    code = f"""
import json, pathlib, re, sys
from edgeemu_kernels.weights.sources import open_source
source = open_source(json.loads(pathlib.Path({str(spec)!r}).read_text()))
blocks = [source.ffn(layer) for layer in range(8)] + [source.heads(layer, [0, 2]) for layer in range(8)]
high_water = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
peak = int(high_water[1]) * 1024 - sum(block.weight_bytes for block in blocks)
heavy = ("llvmlite", "tokenizers", "jinja2", "gguf", "yaml", "safetensors", "requests", "asyncio")
print(json.dumps([peak, [name for name in heavy if name in sys.modules]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, loaded = json.loads(done.stdout)
    assert loaded == []
    assert peak < 45e6


def test_packed_weights_are_never_decoded_as_a_whole(smollm2: Model, tmp_path: Path) -> None:
    """Beyond its packed weights, a device needs little to compute with them, for one row or for many."""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(smollm2.at_precision("file", "q8_0").spec))
    code = rf"""
import json, pathlib, re
import numpy as np
from edgeemu_kernels import compiled
from edgeemu_kernels.codecs.machine_code import prepare
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.weights.sources import open_source
source = open_source(json.loads(pathlib.Path({str(spec)!r}).read_text()))
x = np.ones((64, 576), np.float32)
np.dot(x, x.T), prepare([FORMATS["q4_1"], FORMATS["q8_0"]])
before = int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
blocks = [source.ffn(layer) for layer in range(20)] + [source.proj(layer) for layer in range(20)] + [source.lm_head()]
for block in blocks[:20]:
    block.forward(x), block.forward(x[:1])
blocks[-1].forward(x[:1])
after = int(re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
print((after - before) * 1024, sum(block.weight_bytes for block in blocks))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    needed, held = map(int, done.stdout.split())
    assert 65e6 < held < 70e6
    assert needed < held + 20e6
