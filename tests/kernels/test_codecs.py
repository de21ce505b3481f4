"""Each number format is encoded and decoded as ggml does it, and machine code gives what NumPy's way gives."""

from unittest.mock import patch

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeemu_kernels.codecs import decode, machine_code
from edgeemu_kernels.linear import Array
from edgeemu_kernels.packed import PackedMatrix, decode_rows, encode_rows, pack, rounded
from edgeemu_kernels.precision import FORMATS

PACKED = [name for name in FORMATS if name != "f32"]
GGUFS_OWN = ["f16", "bf16", "q8_0", "q4_0", "q4_1"]  # that the gguf package encodes
QUICK = settings(derandomize=True, deadline=None, max_examples=25)
# What llama.cpp allows its quantisers on such a signal (`MAX_QUANTIZATION_TOTAL_ERROR` of test-quantize-fns.cpp).
LLAMA_CPPS_LIMIT = 0.002


def numbers(seed: int, rows: int = 6, width: int = 512, *, scale: float = 0.05) -> Array:
    """Random rows, some of them awkward: zeros, equal numbers, exact halves, one large number."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, width)) * scale).astype(np.float32)
    x[0, :64], x[0, 64:96], x[0, 96] = 0, scale, 50 * scale
    x[1] = rng.integers(-9, 10, width) / 2
    return x


def by_gguf(raw: np.ndarray, name: str) -> Array:
    kind = gguf.GGMLQuantizationType[name.upper()]
    return gguf.dequantize(raw.view(np.float16) if name == "f16" else raw, kind)


@pytest.mark.parametrize("name", PACKED)
@QUICK
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-5, 0.05, 300.0]))
def test_decoding_equals_ggufs(name: str, seed: int, scale: float) -> None:
    raw = encode_rows(numbers(seed, scale=scale), FORMATS[name])
    np.testing.assert_array_equal(decode_rows(raw, FORMATS[name]), by_gguf(raw, name))


@pytest.mark.parametrize("name", GGUFS_OWN)
@QUICK
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-5, 0.05, 300.0]))
def test_encoding_equals_ggufs(name: str, seed: int, scale: float) -> None:
    x = numbers(seed, scale=scale)
    expected = gguf.quantize(x, gguf.GGMLQuantizationType[name.upper()]).view(np.uint8)
    np.testing.assert_array_equal(encode_rows(x, FORMATS[name]), expected.reshape(len(x), -1))


@pytest.mark.parametrize("name", ["q4_k", "q6_k"])
def test_errors_of_k_formats_are_as_small_as_llama_cpp_asks(name: str) -> None:
    """The signal and the measure are those of llama.cpp's own test."""
    x = (np.float32(0.1) + np.float32(2) * np.cos(np.arange(4096, dtype=np.float32))).reshape(16, 256)
    error = np.sqrt(np.square(rounded(x, FORMATS[name]) - x).sum()) / x.size
    assert error < LLAMA_CPPS_LIMIT
    coarser = {"q4_k": "q4_0", "q6_k": "q4_k"}[name]
    gaussian = numbers(1, 64)[2:]
    errors = [np.square(rounded(gaussian, FORMATS[form]) - gaussian).mean() ** 0.5 for form in (name, coarser)]
    assert errors[0] < errors[1] * 0.9
    assert errors[0] / gaussian.std() < {"q4_k": 0.075, "q6_k": 0.019}[name]


@pytest.mark.parametrize("name", PACKED)
def test_numbers_stay_within_a_step_of_their_block(name: str) -> None:
    x, form = numbers(3, 40), FORMATS[name]
    bits = {"f16": 10, "bf16": 8, "q8_0": 7, "q4_0": 3, "q4_1": 3, "q4_k": 3, "q6_k": 4.5}[name]
    blocks = x.reshape(len(x), -1, form.block_size)
    largest = np.repeat(np.abs(blocks).max(axis=2), form.block_size, axis=1)
    assert (np.abs(rounded(x, form) - x) <= largest * 2.0**-bits + 1e-7).all()


@pytest.mark.parametrize("name", ["f16", "bf16", "q8_0", "q4_0"])
@QUICK
@given(seed=st.integers(0, 999))
def test_what_is_rounded_stays_as_it_is(name: str, seed: int) -> None:
    once = rounded(numbers(seed), FORMATS[name])
    np.testing.assert_array_equal(rounded(once, FORMATS[name]), once)


@pytest.mark.parametrize("name", PACKED)
def test_numbers_too_large_or_too_small_stay_finite(name: str) -> None:
    x = numbers(0)
    x[2, 5], x[3] = 3e38, x[3] * np.float32(1e-40)
    assert np.isfinite(rounded(x, FORMATS[name])).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PACKED)
def test_what_is_not_finite_does_not_become_a_number(name: str, wrong: float) -> None:
    x = numbers(0)
    x[2, 300] = wrong
    got, block = rounded(x, FORMATS[name]), FORMATS[name].block_size
    assert not np.isfinite(got[2, 300])
    assert np.isfinite(got).sum() == x.size - block


@pytest.mark.parametrize("name", PACKED)
@QUICK
@given(seed=st.integers(0, 999), rows=st.integers(1, 4))
def test_machine_code_gives_what_numpy_gives(name: str, seed: int, rows: int) -> None:
    form, weights = FORMATS[name], pack(numbers(seed, 11), FORMATS[name])
    expected, out = weights.decoded(), np.empty(weights.shape, np.float32)
    machine_code.decode(weights.raw, out, form)
    np.testing.assert_array_equal(out, expected)
    x = np.random.default_rng(seed).standard_normal((rows, 512)).astype(np.float32)
    y = machine_code.product(weights.raw, x, form)
    assert y is not None, "this processor should be able to"
    np.testing.assert_allclose(y, x @ expected.T, rtol=1e-5, atol=2e-5 * np.abs(expected).max())
    mixed = np.ones((rows, 512), np.float32)
    p = np.abs(x[:, :11]).copy()
    assert machine_code.mix(weights.raw, p, mixed, form)
    np.testing.assert_allclose(mixed, 1 + p @ expected, rtol=1e-5, atol=2e-5 * np.abs(expected).max())
    alone = machine_code.product(np.ascontiguousarray(weights.raw[3:5]), x[:1].copy(), form)
    assert alone is not None
    np.testing.assert_array_equal(alone, y[:1, 3:5])  # bit for bit, whatever else is computed


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_odd_widths_are_left_to_numpy(name: str) -> None:
    weights = pack(numbers(0, 6, 101), FORMATS[name])
    out = np.empty(weights.shape, np.float32)
    machine_code.decode(weights.raw, out, FORMATS[name])
    np.testing.assert_array_equal(out, weights.decoded())
    assert machine_code.product(weights.raw, out[:1], FORMATS[name]) is None


def test_columns_of_a_matrix_are_left_to_numpy() -> None:
    weights = pack(numbers(0), FORMATS["q8_0"])
    part = weights.columns(slice(64, 128))
    out = np.empty(part.shape, np.float32)
    machine_code.decode(part.raw, out, part.format)
    np.testing.assert_array_equal(out, weights.decoded()[:, 64:128])
    assert machine_code.product(part.raw, out[:1], part.format) is None


def test_machine_code_is_given_no_arrays_of_other_sizes_or_types() -> None:
    """It would read or write somewhere else in memory."""
    form, raw = FORMATS["q8_0"], encode_rows(numbers(0), FORMATS["q8_0"])  # [6, 512]
    with pytest.raises(ValueError, match="are not 256 numbers"):
        machine_code.product(raw, np.ones((1, 256), np.float32), form)
    with pytest.raises(ValueError, match="not float64"):
        machine_code.product(raw, np.ones((1, 512)), form)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="6 rows for 2 sums"):
        machine_code.mix(raw, np.ones((2, 5), np.float32), np.ones((2, 512), np.float32), form)
    with pytest.raises(ValueError, match="reshape"):
        machine_code.decode(raw, np.ones((5, 512), np.float32), form)


def test_a_processor_without_float16_computes_with_numpy() -> None:
    machine_code.compiled.cache_clear()
    form = FORMATS["q8_0"]
    with (
        patch("llvmlite.binding.get_host_cpu_features") as features,
        patch("llvmlite.binding.get_default_triple") as at,
    ):
        features.return_value, at.return_value = {"f16c": False}, "x86_64-unknown-linux-gnu"
        assert machine_code.compiled(form) is None
        weights = pack(numbers(0), form)
        out = np.empty(weights.shape, np.float32)
        machine_code.decode(weights.raw, out, form)
    machine_code.compiled.cache_clear()
    np.testing.assert_array_equal(out, weights.decoded())


def test_scales_tell_whether_numbers_are_finite() -> None:
    for name in PACKED:
        raw = encode_rows(numbers(0), FORMATS[name])
        assert np.isfinite(decode.scales(raw, FORMATS[name])).all()
    broken = PackedMatrix(FORMATS["q6_k"], encode_rows(numbers(0), FORMATS["q6_k"]))
    broken.raw[2, 208:210] = 0xFF
    assert not np.isfinite(decode.scales(broken.raw, broken.format)).all()
