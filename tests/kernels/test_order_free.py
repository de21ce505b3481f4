"""Sums that do not depend on how a layer is divided: the same bits for any rows, parts and orders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeemu_kernels import order_free
from edgeemu_kernels.arrays import Array
from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.order_free import MOST_STEPS, STEPS
from edgeemu_kernels.packed import Matrix, columns_of, pack, rows_of, unpack
from edgeemu_kernels.precision import FORMATS

QUICK = settings(derandomize=True, deadline=None, max_examples=60)
NAMES = ["f32", "f16", "q8_0", "q4_1", "q4_k"]


def numbers(rows: int, columns: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def matrix(rows: int, columns: int, name: str, seed: int) -> Matrix:
    values = numbers(rows, columns, seed)
    return values if name == "f32" else pack(values, FORMATS[name])


@QUICK
@given(data=st.data(), name=st.sampled_from(NAMES), seed=st.integers(0, 99))
def test_a_number_of_a_product_depends_on_its_rows_alone(data: st.DataObject, name: str, seed: int) -> None:
    width = data.draw(st.sampled_from([256, 768])) if name != "f32" else data.draw(st.integers(1, 100))
    t, out = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 600))
    x, weight = numbers(t, width, seed), matrix(out, width, name, seed + 1)
    whole = order_free.product(x, weight)
    np.testing.assert_allclose(whole, x @ unpack(weight).T, rtol=1e-4, atol=1e-3)
    first, row = data.draw(st.integers(0, t - 1)), data.draw(st.integers(0, out - 1))
    end, last = data.draw(st.integers(first + 1, t)), data.draw(st.integers(row + 1, out))
    some = order_free.product(x[first:end], rows_of(weight, slice(row, last)))
    np.testing.assert_array_equal(some, whole[first:end, row:last])


@QUICK
@given(data=st.data(), name=st.sampled_from(NAMES), biased=st.booleans(), seed=st.integers(0, 99))
def test_sums_of_parts_are_exact_whoever_adds_them(data: st.DataObject, name: str, biased: bool, seed: int) -> None:
    part = data.draw(st.sampled_from([256, 512])) if name != "f32" else data.draw(st.integers(1, 70))
    parts, t, out = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    x, weight, residual = numbers(t, parts * part, seed), matrix(out, parts * part, name, seed + 1), numbers(t, out, 3)
    bias = numbers(1, out, 4)[0] if biased else None
    expected = order_free.with_residual(order_free.totals(x, weight, bias, part), residual)
    close = x @ unpack(weight).T + residual + (0 if bias is None else bias)
    np.testing.assert_allclose(expected, close, rtol=1e-4, atol=1e-3)
    holders = data.draw(st.lists(st.integers(0, 3), min_size=parts, max_size=parts))
    crossed = [residual]
    for holder in data.draw(st.permutations(sorted(set(holders)))):
        mine = [at for at in range(parts) if holders[at] == holder]
        columns = np.concatenate([np.arange(at * part, (at + 1) * part) for at in mine])
        held = [unpack(columns_of(weight, slice(at * part, (at + 1) * part))) for at in mine]
        own = bias if 0 in mine else None
        total = order_free.totals(x[:, columns], np.concatenate(held, axis=1), own, part)
        crossed.append(order_free.crossing(total))
        assert crossed[-1].dtype == np.int32
    np.testing.assert_array_equal(order_free.values(order_free.added(crossed)), expected)
    np.testing.assert_array_equal(order_free.values(order_free.added(crossed[::-1])), expected)


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize(("rows", "compiled"), [(1, True), (1, False), (7, True), (7, False)])
@pytest.mark.parametrize("name", ["f32", "f16", "q4_0"])
def test_attention_is_softmax_over_the_decoded_rows_and_each_query_has_its_own_numbers(
    name: str, rows: int, compiled: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in however many pieces rows are decoded, and where a query is computed without later rows and queries."""
    width = 64 if name == "q4_0" else width
    monkeypatch.setattr("edgeemu_kernels.packed.rows_of_a_piece", lambda _: 3)
    if not compiled:
        monkeypatch.setattr(machine_code, "compiled", lambda _: None)
    form, cache, q = FORMATS[name], KVCache(1, width, 0, FORMATS[name]), numbers(2 * rows, width, 1)  # two heads
    cache.append(numbers(20, width, 2)[None], numbers(20, width, 3)[None])
    later = np.triu(np.full((rows, rows), -np.inf, np.float32), k=1) if rows > 1 else None
    scores = q @ cache.keys()[0].T  # [2*rows, 20]
    if later is not None:
        scores.reshape(2, rows, 20)[..., 20 - rows :] += later
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True) @ cache.values()[0]
    mixed = order_free.attend(q, *cache.stored(0, 20), form, later)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    for row in range(rows):
        of_row = q[row::rows]  # of both heads
        alone = order_free.attend(of_row, *cache.stored(0, 20 - rows + row + 1), form)
        np.testing.assert_array_equal(alone, mixed[row::rows])


@pytest.mark.parametrize("value", [5000.0, -5000.0, 3e30])
def test_sums_that_are_too_large_for_whole_numbers_cross_as_they_are(value: float) -> None:
    total = np.array([[value * STEPS, 3.0]])
    crossed = order_free.crossing(total.copy())
    assert crossed.dtype == np.float32
    assert crossed.nbytes == order_free.crossing(np.array([[1.0, 3.0]])).nbytes
    np.testing.assert_allclose(order_free.added([crossed, crossed]), 2 * total, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(value: float) -> None:
    crossed = order_free.crossing(np.array([[value, 1.0]]))
    assert not np.isfinite(order_free.values(order_free.added([crossed, crossed]))).all()


def test_the_largest_whole_number_of_steps_crosses_exactly() -> None:
    total = np.array([[MOST_STEPS, -MOST_STEPS, 1.0]])
    assert order_free.crossing(total.copy()).tolist() == total.tolist()
