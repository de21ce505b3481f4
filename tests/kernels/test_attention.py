"""The fused kernels against the reference, however the groups are divided and the tokens cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_shapes import GPT2, SMALL, shapes

from edgeemu_kernels.attention import QUERY_ROWS, Heads
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.weights.sources import Loaded, WeightSource


class Divided:
    """A model whose groups live on several devices; `owner[layer][group]` is a device."""

    def __init__(self, source: WeightSource, owner: list[list[int]]) -> None:
        self.shape, self.source = source.shape, source
        self.parts: list[list[tuple[Heads, KVCache]]] = []
        for layer, owners in enumerate(owner):
            self.parts.append([])
            for device in sorted(set(owners)):
                held = [group for group, place in enumerate(owners) if place == device]
                heads = source.heads(layer, held[::-1])  # any order will do
                self.parts[-1].append((heads, heads.new_cache(capacity=2)))

    def forward(self, ids: list[int], position: int) -> Array:
        x = self.source.embed().forward(ids, position)
        for layer, parts in enumerate(self.parts):
            outputs = {}
            for heads, cache in parts:
                out = heads.forward(x, position, cache)
                for i, group in enumerate(heads.groups):
                    outputs[group] = out[:, i * self.shape.group_dim : (i + 1) * self.shape.group_dim]
            attn = np.concatenate([outputs[group] for group in range(self.shape.n_groups)], axis=1)
            x = self.source.ffn(layer).forward(self.source.proj(layer).forward(attn, x))
        return self.source.lm_head(self.source.embed()).forward(x)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), shape=shapes(), seed=st.integers(0, 1000))
def test_any_division_gives_the_reference(data: st.DataObject, shape: ModelShape, seed: int) -> None:
    source = Loaded(SeededSource(shape, seed))
    ids = data.draw(st.lists(st.integers(0, shape.vocab_size - 1), min_size=1, max_size=40))
    devices = st.lists(st.integers(0, 2), min_size=shape.n_groups, max_size=shape.n_groups)
    owner = data.draw(st.lists(devices, min_size=shape.n_layers, max_size=shape.n_layers))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids)), max_size=6)) | {len(ids)})
    divided = Divided(source, owner)
    got, start = [], 0
    for stop in cuts:
        got.append(divided.forward(ids[start:stop], start))
        start = stop
    np.testing.assert_allclose(np.concatenate(got), Reference(source).logits(ids), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [SMALL, GPT2], ids=lambda shape: shape.name)
def test_prefill_longer_than_a_block_of_queries(shape: ModelShape) -> None:
    source = Loaded(SeededSource(shape, 1))
    length = min(2 * QUERY_ROWS + 40, shape.max_context)
    ids = np.random.default_rng(0).integers(0, shape.vocab_size, length).tolist()
    whole = Divided(source, [[0] * shape.n_groups] * shape.n_layers).forward(ids, 0)
    np.testing.assert_allclose(whole, Reference(source).logits(ids), atol=2e-4, rtol=1e-4)


def test_a_wrong_position_is_refused() -> None:
    heads = SeededSource(SMALL, 0).heads(0, [0])
    cache = heads.new_cache(8)
    heads.forward(np.zeros((2, SMALL.d_model), np.float32), 0, cache)
    with pytest.raises(ValueError, match="position 3, but the cache holds 2"):
        heads.forward(np.zeros((1, SMALL.d_model), np.float32), 3, cache)


@pytest.mark.parametrize("shape", [SMALL, GPT2], ids=lambda shape: shape.name)
def test_groups_come_and_go_bit_identically(shape: ModelShape) -> None:
    source = SeededSource(shape, 5)
    whole, newcomer = source.heads(1, [0, 1, 2]), source.heads(1, [1])
    smaller = whole.without_group(1)
    assert smaller.groups == (0, 2)
    np.testing.assert_array_equal(smaller.weight, source.heads(1, [0, 2]).weight)
    back = smaller.with_group(1, 1, newcomer.group_weights(1))
    assert back.groups == (0, 1, 2)
    np.testing.assert_array_equal(back.weight, whole.weight)
    assert back.weight_bytes == whole.weight_bytes
    if shape.bias:
        np.testing.assert_array_equal(back.bias, whole.bias)
    with pytest.raises(ValueError, match="already here"):
        whole.with_group(0, 1, newcomer.group_weights(1))
    with pytest.raises(ValueError):
        smaller.without_group(1)


def test_a_group_moves_with_its_cache_in_mid_sequence() -> None:
    """Group 1 goes from device A to B after 7 tokens; what comes out is what would have come without the move."""
    source = SeededSource(SMALL, 3)
    x = np.random.default_rng(0).standard_normal((9, SMALL.d_model)).astype(np.float32)
    whole = source.heads(0, [0, 1, 2])
    expected = whole.forward(x, 0, whole.new_cache(16))
    a, b = source.heads(0, [0, 1]), source.heads(0, [2])
    cache_a, cache_b = a.new_cache(4), b.new_cache(16)
    a.forward(x[:7], 0, cache_a)
    b.forward(x[:7], 0, cache_b)
    keys, values = cache_a.take(1)
    b, cache_b = b.with_group(0, 1, a.group_weights(1)), cache_b.with_group(0, keys, values)
    a, cache_a = a.without_group(1), cache_a.without_group(1)
    for row in (7, 8):
        out = np.concatenate([a.forward(x[row : row + 1], row, cache_a), b.forward(x[row : row + 1], row, cache_b)], 1)
        np.testing.assert_allclose(out[0], expected[row], atol=1e-5)
    np.testing.assert_array_equal(cache_b.take(0, 0, 7)[0], keys)


def test_weight_bytes_are_those_of_the_arrays() -> None:
    heads = SeededSource(GPT2, 0).heads(0, [2, 0])
    arrays = [array for group in heads.groups for array in heads.group_weights(group).arrays()]
    assert heads.norm.bias is not None
    norm_bytes = heads.norm.weight.nbytes + heads.norm.bias.nbytes
    assert heads.weight_bytes == sum(array.nbytes for array in arrays) + norm_bytes
