"""A model in any precision: its blocks, products, caches and texts are those of the decoded numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf_files import MIXED, SHAPE, Q, write
from support.kernel_shapes import WIDE, WIDE_GPT2

from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import FEW_ROWS, Array, linear
from edgeemu_kernels.packed import PIECE_BYTES, PackedMatrix, pack, raw_of, unpack
from edgeemu_kernels.precision import FORMATS, LayerFormats, Precision
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.open_model import open_model, seeded_model
from edgeemu_kernels.weights.seeded import SeededSource

FIXTURES = Path(__file__).parent.parent / "fixtures"
PACKED = [name for name in FORMATS if name != "f32"]
QUICK = settings(derandomize=True, deadline=None, max_examples=30)
STEPS = 0.1  # what a few numbers that are rounded to the other side do to logits of some 7
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@QUICK
@given(
    name=st.sampled_from(PACKED),
    rows=st.sampled_from([1, 2, FEW_ROWS, FEW_ROWS + 1, 40]),
    out=st.sampled_from([1, 3, PIECE_BYTES // 2048 + 5]),
)
def test_a_product_is_that_of_the_decoded_matrix(name: str, rows: int, out: int) -> None:
    weight, x, bias = pack(normal(out, 512), FORMATS[name]), normal(rows, 512, seed=1), normal(out, seed=2)
    expected = x @ weight.decoded().T + bias
    np.testing.assert_allclose(linear(x, weight, bias), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 5])
def test_numpys_product_serves_where_nothing_is_compiled(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "compiled", lambda _: None)
    weight, x = pack(normal(30, 512), FORMATS["q4_0"]), normal(rows, 512, seed=1)
    np.testing.assert_allclose(linear(x, weight), x @ weight.decoded().T, rtol=1e-4, atol=1e-4)


def test_rows_and_columns_are_views() -> None:
    weight = pack(normal(6, 512), FORMATS["q4_k"])
    assert (weight.shape, weight.nbytes) == ((6, 512), 6 * 2 * 144)
    part = weight.rows(slice(2, 4)).columns(slice(256, 512))
    assert part.shape == (2, 256)
    assert np.shares_memory(part.raw, weight.raw)
    np.testing.assert_array_equal(part.decoded(), weight.decoded()[2:4, 256:])
    np.testing.assert_array_equal(weight.take(np.array([5, 0])), weight.decoded()[[5, 0]])
    with pytest.raises(ValueError, match="whole number of q4_k blocks"):
        weight.columns(slice(32, 256))


@pytest.mark.parametrize("shape", [WIDE, WIDE_GPT2], ids=lambda shape: shape.name)
@pytest.mark.parametrize(
    ("weights", "cache", "messages"),
    [*((name, "f32", "f32") for name in PACKED), ("q4_0", "q8_0", "q8_0"), ("f32", "q4_0", "bf16")],
)
def test_the_decoder_computes_what_the_reference_computes(
    shape: ModelShape, weights: str, cache: str, messages: str
) -> None:
    source = SeededSource(shape.at_precision(weights, cache, messages), 1)
    decoder, reference = Decoder(source), Reference(source)
    expected = reference.logits([*IDS, 11, 12])
    for row, logits in zip(expected[-3:], (decoder.prefill(IDS), decoder.step(11), decoder.step(12)), strict=True):
        np.testing.assert_allclose(logits, row, atol=1e-4 if cache == messages == "f32" else STEPS)


@pytest.mark.parametrize("name", PACKED)
def test_seeded_weights_are_those_of_float32_encoded(name: str) -> None:
    form = FORMATS[name]
    plain, packed = SeededSource(WIDE, 2), SeededSource(WIDE.at_precision(name), 2)
    pairs = [
        (plain.embed().table, packed.embed().table),
        (plain.heads(1, [1, 0]).weights[0], packed.heads(1, [1, 0]).weights[0]),
        (plain.proj(0).weight, packed.proj(0).weight),
        (plain.ffn(1).up, packed.ffn(1).up),
        (plain.ffn(1).down, packed.ffn(1).down),
        (plain.lm_head().weight, packed.lm_head().weight),
    ]
    for one, other in pairs:
        assert isinstance(other, PackedMatrix)
        np.testing.assert_array_equal(other.raw, pack(unpack(one), form).raw)


def test_a_hugging_face_model_is_encoded_as_a_whole_matrix_is() -> None:
    plain = open_model(FIXTURES / "golden_gpt2").open_source()
    packed = open_model(FIXTURES / "golden_gpt2", "q8_0").open_source()
    for one, other in ((plain.ffn(1).up, packed.ffn(1).up), (plain.ffn(1).down, packed.ffn(1).down)):
        np.testing.assert_array_equal(raw_of(other), pack(unpack(one), FORMATS["q8_0"]).raw)


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.Q8_0, Q.Q4_0])
def test_a_gguf_files_own_bytes_are_the_weights(tmp_path: Path, kind: Q) -> None:
    path = write(tmp_path / "tiny.gguf", WIDE, quantised=kind)
    model, plain = open_model(path, "file", "f16"), open_model(path)
    form = kind.name.lower()
    assert {getattr(model.shape.precision, name) for name in ("embed", "heads", "proj", "up", "down")} == {form}
    assert model.shape.precision.cache == "f16"
    one, other = model.open_source(), plain.open_source()
    np.testing.assert_array_equal(unpack(one.ffn(1).up), other.ffn(1).up)
    np.testing.assert_array_equal(unpack(one.proj(0, [1]).weight), other.proj(0, [1]).weight)
    logits = [Decoder(each.at_precision(w).open_source()).prefill(IDS) for each, w in ((model, "file"), (plain, "f32"))]
    np.testing.assert_allclose(*logits, atol=1e-3)
    if kind is not Q.F32:
        at, size = plain.spec["tensors"]["blk.1.ffn_down.weight"][0], raw_of(one.ffn(1).down).nbytes
        assert path.read_bytes()[at : at + size] == raw_of(one.ffn(1).down).tobytes()


def test_a_file_may_have_another_format_for_each_tensor(tmp_path: Path) -> None:
    """Its bytes are the weights: whole, by group and by unit; logits are those of its float32 numbers."""
    path = write(tmp_path / "mixed.gguf", WIDE, quantised=Q.Q4_K, kinds=MIXED)
    model, plain = open_model(path, "file"), open_model(path)
    assert model.shape.precision == Precision(
        *("q4_k", "q4_k", "q4_k", "q4_k", "q6_k", "q6_k"),
        layers=(
            LayerFormats("q4_k", "q4_k", "q6_k", "q4_k", "q4_k", "q6_k"),
            LayerFormats("q4_k", "f16", "q4_k", "f32", "q4_k", "q4_k"),
        ),
    )
    assert ModelShape.from_dict(json.loads(json.dumps(model.shape.to_dict()))) == model.shape
    one, other = model.open_source(), plain.open_source()
    for layer, name in ((0, "attn_v"), (1, "attn_k"), (1, "attn_q")):
        held = getattr(one.heads(layer, [0, 1]).group_weights(0), f"w{name[-1]}")
        at = plain.spec["tensors"][f"blk.{layer}.{name}.weight"][0]
        assert path.read_bytes()[at : at + held.nbytes] == raw_of(held).tobytes()
    np.testing.assert_array_equal(one.proj(1).weight, other.proj(1).weight)
    np.testing.assert_array_equal(unpack(one.ffn(0, [1]).down), other.ffn(0).down[:, 256:])
    logits = [Reference(one).logits(IDS), Reference(other).logits(IDS)]
    np.testing.assert_allclose(*logits, atol=1e-3)
    np.testing.assert_allclose(Decoder(one).prefill(IDS), logits[0][-1], atol=1e-3)
    assert model.at_precision("q4_0").shape.precision == open_model(path, "q4_0").shape.precision


def test_gate_and_up_of_a_layer_have_one_format(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.gguf", WIDE, quantised=Q.Q8_0, kinds={"blk.1.ffn_up.weight": Q.Q4_0})
    said = r"'blk.1.ffn_gate.weight' \(Q8_0\) and 'blk.1.ffn_up.weight' \(Q4_0\).*use for example `weights: q8_0`"
    with pytest.raises(ModelFileError, match=said):
        open_model(path, "file")


def test_a_file_in_a_format_without_kernels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", SHAPE, quantised=Q.Q5_0)
    with pytest.raises(ModelFileError, match=r"Q5_0, in which kernels do not compute.*`weights: q8_0`"):
        open_model(path, "file")
    assert isinstance(open_model(path, "q8_0").open_source().proj(0).weight, PackedMatrix)


def test_only_a_gguf_file_has_formats_of_its_own() -> None:
    with pytest.raises(ModelFileError, match="is not a GGUF file"):
        open_model(FIXTURES / "golden_llama", "file")
    with pytest.raises(ModelFileError, match="is not a GGUF file"):
        seeded_model(WIDE, 1).at_precision("file")


@QUICK
@given(name=st.sampled_from(PACKED[:5]), steps=st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_a_cache_gives_what_it_stores(name: str, steps: list[int]) -> None:
    form, parts = FORMATS[name], [normal(2, 3, count, 64, seed=i) for i, count in enumerate(steps)]
    cache, other = KVCache(3, 64, 4, form), KVCache(1, 64, 0, form)
    for k, v in parts:
        cache.append(k, v)
    whole = np.concatenate(parts, axis=2)  # [2, 3, length, 64]
    assert cache.nbytes_used == 2 * 3 * cache.length * form.row_bytes(64)
    expected = pack(whole[0].reshape(-1, 64), form).decoded().reshape(whole[0].shape)
    np.testing.assert_array_equal(cache.keys(), expected)
    k, v = cache.take(1)
    other.append_stored(k[None], v[None])
    np.testing.assert_array_equal(other.values()[0], cache.values()[1])
