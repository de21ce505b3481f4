"""Activations, norms, RoPE and the dense blocks against their formulas in float64."""

import math

import numpy as np
import pytest
from support.kernel_shapes import GPT2, SMALL

from edgeemu_kernels.dense import Embed, LmHead, gelu_inplace, silu_inplace
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.rope import FIRST_ROWS, Rope, frequencies
from edgeemu_kernels.shape import RopeScaling
from edgeemu_kernels.weights.seeded import SeededSource

EXTREMES = np.array([-1e4, -200, -88, -5, -1e-3, 0, 1e-3, 5, 88, 200, 1e4], np.float32)


def test_silu() -> None:
    x = np.concatenate([np.linspace(-20, 20, 401, dtype=np.float32), EXTREMES])
    exact = x.astype(np.float64) / (1 + np.exp(np.clip(-x.astype(np.float64), None, 700)))
    np.testing.assert_allclose(silu_inplace(x.copy()), exact, rtol=1e-6, atol=2e-6)


def test_gelu() -> None:
    x = np.concatenate([np.linspace(-20, 20, 401, dtype=np.float32), EXTREMES])
    y = x.astype(np.float64)
    exact = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    np.testing.assert_allclose(gelu_inplace(x.copy()), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 5])
def test_norms(rows: int) -> None:
    rng = np.random.default_rng(0)
    x = (3 + 5 * rng.standard_normal((rows, 40))).astype(np.float32)
    weight, bias = rng.standard_normal((2, 40)).astype(np.float32)
    y = x.astype(np.float64)
    before = x.copy()
    rms = y / np.sqrt((y**2).mean(1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(Norm("rms", weight, None, 1e-5).forward(x), rms, rtol=2e-6, atol=2e-6)
    layer = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5) * weight + bias
    np.testing.assert_allclose(Norm("layer", weight, bias, 1e-5).forward(x), layer, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(x, before)


def test_llama3_scaling_leaves_short_waves_and_slows_long_ones() -> None:
    scaling = RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
    plain, scaled = frequencies(128, 500_000.0, None), frequencies(128, 500_000.0, scaling)
    wavelength = 2 * math.pi / plain
    short, long = wavelength < 8192 / 4, wavelength > 8192
    np.testing.assert_array_equal(scaled[short], plain[short])
    np.testing.assert_allclose(scaled[long], plain[long] / 8, rtol=1e-12)
    between = ~short & ~long
    assert between.any()
    assert np.all((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 8))


@pytest.mark.parametrize("positions", ["rope-interleaved", "rope-half"])
def test_rope_keeps_what_depends_on_distance_only(positions: str) -> None:
    shape = SMALL.from_dict(SMALL.to_dict() | {"positions": positions, "head_dim": 8})
    rope = Rope(shape)
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 2, 8)).astype(np.float32)

    def product(query_at: int, key_at: int) -> np.ndarray:
        turned_q, turned_k = q.copy(), k.copy()
        rope.rotate(turned_q, query_at)
        rope.rotate(turned_k, key_at)
        return (turned_q * turned_k).sum(-1)

    far = 3 * FIRST_ROWS  # the table grows in between
    np.testing.assert_allclose(product(9, 4), product(far + 5, far), rtol=1e-4, atol=1e-5)
    assert not np.allclose(product(9, 4), product(9, 5), atol=1e-3)
    unmoved = q.copy()
    rope.rotate(unmoved, 0)
    np.testing.assert_array_equal(unmoved, q)


def test_embed_adds_learned_positions() -> None:
    embed = SeededSource(GPT2, 0).embed()
    assert embed.positions is not None
    np.testing.assert_array_equal(embed.forward([3, 3], 7), embed.table[[3, 3]] + embed.positions[7:9])
    assert embed.weight_bytes == embed.table.nbytes + embed.positions.nbytes
    with pytest.raises(ValueError, match="position 64 of a model with 64 positions"):
        embed.forward([1, 2], 63)
    before = embed.table.copy()
    Embed(embed.table).forward([1], 0)[...] = 0  # what comes out is a copy
    np.testing.assert_array_equal(embed.table, before)


def test_a_shared_output_matrix_counts_once() -> None:
    source = SeededSource(GPT2, 0)
    embed = source.embed()
    shared, alone = source.lm_head(embed), source.lm_head()
    assert shared.weight is embed.table
    assert shared.weight_bytes == shared.norm.weight_bytes
    assert alone.weight_bytes == alone.norm.weight_bytes + alone.weight.nbytes
    x = np.random.default_rng(0).standard_normal((3, GPT2.d_model)).astype(np.float32)
    np.testing.assert_array_equal(shared.forward(x), alone.forward(x))
    assert isinstance(shared, LmHead)
    np.testing.assert_allclose(shared.forward(x[1]), shared.forward(x)[1], atol=1e-5)
