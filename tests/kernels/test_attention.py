"""The fused kernels against the reference, however the groups are divided and the tokens cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_shapes import GPT2, SMALL, shapes
from support.loaded import Loaded

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.weights.sources import WeightSource
from edgeemu_kernels.workspace import QUERY_ROWS


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


def test_weight_bytes_are_those_of_the_arrays() -> None:
    heads = SeededSource(GPT2, 0).heads(0, [2, 0])
    arrays = [array for group in heads.groups for array in heads.group_weights(group).arrays()]
    assert heads.norm.bias is not None
    norm_bytes = heads.norm.weight.nbytes + heads.norm.bias.nbytes
    assert heads.weight_bytes == sum(array.nbytes for array in arrays) + norm_bytes
