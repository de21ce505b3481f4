"""Compiled kernels give what NumPy gives, for any sizes, and leave what is not a number as it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK
from support.kernel_shapes import WIDE

from edgeemu_kernels import compiled
from edgeemu_kernels.attention import Attention, _attend, _attend_causal, _attend_compiled
from edgeemu_kernels.compiled_sizes import COMPILED_BLOCK, COMPILED_BYTES, FEW_ROWS, compiles_attention
from edgeemu_kernels.dense import swiglu_inplace
from edgeemu_kernels.linear import Array, linear
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import Positions


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@QUICK
@given(st.integers(1, FEW_ROWS), st.integers(1, 70), st.integers(1, 40))
def test_a_product_of_few_rows_is_that_of_blas(rows: int, width: int, out: int) -> None:
    x, weight = drawn(rows, width), drawn(out, width, seed=1)
    np.testing.assert_allclose(compiled.few_rows(x, weight), x @ weight.T, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
def test_a_large_matrix_is_multiplied_with_rows_that_are_part_of_wider_ones(rows: int) -> None:
    weight = drawn(1030, 260)
    assert weight.nbytes > COMPILED_BYTES
    x, bias = drawn(rows, 300, seed=1)[:, :260], drawn(1030, seed=2)
    np.testing.assert_allclose(linear(x, weight, bias), x @ weight.T + bias, atol=1e-4)


@QUICK
@given(st.integers(1, 3), st.integers(1, 5), st.sampled_from([16, 48]), st.integers(1, 2 * COMPILED_BLOCK + 9))
def test_attention_to_any_number_of_positions_is_that_of_numpy(
    groups: int, queries: int, width: int, length: int
) -> None:
    q = drawn(groups, queries, width)
    keys, values = drawn(groups, length + 3, width, seed=1), drawn(groups, length + 3, width, seed=2)
    keys[:, length:] = values[:, length:] = np.nan  # unwritten rows
    mixed = np.empty_like(q)
    compiled.attend(q, keys, values, length, mixed)
    np.testing.assert_allclose(mixed, _attend(q, keys[:, :length], values[:, :length]), atol=1e-5)


@QUICK
@given(
    st.sampled_from(["rope-half", "rope-interleaved", "learned"]),
    st.sampled_from([16, 48]),
    st.integers(1, 3),
    st.integers(1, 40),
)
def test_the_next_position_is_turned_kept_and_attended_to_as_by_numpy(
    positions: Positions, width: int, groups: int, length: int
) -> None:
    shape = replace(WIDE, d_model=512, head_dim=width, positions=positions)
    assert compiles_attention(shape)
    rope = None if positions == "learned" else Rope(shape)
    attention = Attention(shape, groups, rope)
    cache, keys, values = attention.new_cache(2), [], []  # it grows twice
    for at in range(length):
        qkv = drawn(1, groups * (shape.group_size + 2) * width, seed=at)
        rows = qkv.reshape(1, -1, width).copy()  # [1, n*S + n + n, hd]
        n_queries = groups * shape.group_size
        if rope is not None:
            rope.rotate(rows[:, : n_queries + groups], at)
        keys.append(rows[0, n_queries : n_queries + groups])
        values.append(rows[0, n_queries + groups :])
        mixed = attention.attend(qkv, at, cache)
    np.testing.assert_allclose(cache.keys(), np.stack(keys, axis=1), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(cache.values(), np.stack(values, axis=1))
    q = rows[0, :n_queries].reshape(groups, -1, width) * np.float32(width**-0.5)
    expected = _attend(q, cache.keys(), cache.values())
    np.testing.assert_allclose(mixed.reshape(q.shape), expected, atol=1e-5)


def test_attention_follows_scores_that_rise_and_fall_by_hundreds() -> None:
    keys = np.zeros((1, 3 * COMPILED_BLOCK, 16), np.float32)
    keys[0, :, 0] = 300 * np.sin(np.arange(keys.shape[1]) / 200)
    q, values = np.ones((1, 1, 16), np.float32), drawn(*keys.shape)
    mixed = np.empty_like(q)
    compiled.attend(q, keys, values, keys.shape[1], mixed)
    np.testing.assert_allclose(mixed, _attend(q, keys, values), atol=1e-5)


@QUICK
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 40))
def test_no_row_of_a_prefill_sees_a_later_one(sets: int, rows: int, past: int) -> None:
    q, keys, values = drawn(sets * rows, 16), drawn(past + rows, 16, seed=1), drawn(past + rows, 16, seed=2)
    expected = _attend_causal(q, keys, values, rows)
    np.testing.assert_allclose(_attend_compiled(q, keys, values, rows), expected, atol=1e-5)


def test_swiglu_is_exact_far_from_zero_too() -> None:
    x = 60 * drawn(3, 64)
    gate = x[:, :32].astype(np.float64)
    exact = gate / (1 + np.exp(-gate)) * x[:, 32:]
    np.testing.assert_allclose(swiglu_inplace(x.copy(), compiled=True), exact, rtol=2e-6, atol=1e-30)
    np.testing.assert_allclose(swiglu_inplace(x, compiled=False), exact, atol=1e-4)


def test_what_is_not_a_number_is_not_hidden() -> None:
    bad = drawn(1, 1, 32)
    bad[0, 0, 3] = np.nan
    keys, mixed = drawn(1, 5, 32), np.empty_like(bad)
    compiled.attend(bad, keys, keys, 5, mixed)
    assert np.isnan(mixed).all()
    assert np.isnan(compiled.few_rows(bad[0], drawn(8, 32))).all()
    compiled.swiglu(bad[0])
    assert np.isnan(bad[0, 0, 3])


@pytest.mark.parametrize("weight", [np.ones((8, 16)), np.ones((16, 8), np.float32).T])
def test_what_machine_code_would_read_wrongly_is_refused(weight: Array) -> None:
    """Numbers of another type or in another order: their bytes would give some result, too."""
    with pytest.raises(ValueError, match="machine code takes contiguous float32 numbers or bytes"):
        compiled.few_rows(np.ones((1, 16), np.float32), weight)
