"""Heads come and go bit by bit, weights and caches, and a text goes on as if none had moved."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import mixed
from support.kernel_shapes import GPT2, SMALL, WIDE_GPT2

from edgeemu.device.held_blocks import HeldBlocks
from edgeemu.device.sequences import ArrivedBlock, OpenSequences, SequenceState
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.attention import Heads
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array
from edgeemu_kernels.packed import raw_of
from edgeemu_kernels.sampling import GREEDY
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

HEAD_DIM = 4
MIXED = mixed(replace(WIDE_GPT2, name="mixed"), ["q4_k", "q8_0", "q6_k", "f16", "f32"])
SEQUENCE = 0


def random_rows(groups: int, length: int, seed: int) -> tuple[Array, Array]:
    keys, values = np.random.default_rng(seed).standard_normal((2, groups, length, HEAD_DIM)).astype(np.float32)
    return keys, values


def with_cache(cache: KVCache | None, layer: int = 0) -> OpenSequences:
    """One open sequence that has this cache in one layer."""
    sequences = OpenSequences(SMALL)
    sequences.open(SEQUENCE, SequenceState(GREEDY, keep_logits=False, total_tokens=16), {})
    if cache is not None:
        sequences[SEQUENCE].caches[layer] = cache
    return sequences


def arrived(group: int, keys: Array, values: Array) -> dict[Block, ArrivedBlock]:
    return {Block(Kind.HEAD, 0, group): ArrivedBlock([], {SEQUENCE: (keys, values)})}


def move(here: HeldBlocks, there: HeldBlocks, group: int, layer: int) -> None:
    """Moves a head's weights from one device's blocks to the other's; both keep the order of groups."""
    block = Block(Kind.HEAD, layer, group)
    weights = [array.copy() for array in here.weights(block)]
    staying = [held for held in here.heads[layer].groups if held != group]
    held_there = there.heads[layer].groups if layer in there.heads else ()
    here.exchange({(Kind.HEAD, layer): staying} if staying else {}, {})
    there.exchange({(Kind.HEAD, layer): sorted((*held_there, group))}, {block: weights})


@given(kept=st.integers(0, 6), layers=st.integers(0, 2), rows=st.integers(0, 8))
def test_caches_are_shortened_and_a_group_that_was_lost_gets_as_many_rows(kept: int, layers: int, rows: int) -> None:
    sequences = with_cache(None)
    for layer in range(2):
        cache = KVCache(1, HEAD_DIM, 16)
        cache.append(*random_rows(1, 8, layer))
        sequences[SEQUENCE].caches[layer] = cache
    before_bytes = sequences.cache_bytes
    freed_bytes = sequences.shorten({SEQUENCE: rows}, layers, {SEQUENCE: kept, 7: 0})
    lengths = [sequences[SEQUENCE].caches[layer].length for layer in range(2)]
    assert lengths == [rows if layer < layers else kept for layer in range(2)]
    assert freed_bytes == before_bytes - sequences.cache_bytes
    held = sequences[SEQUENCE].caches[0].take(0)
    sequences.regroup(0, [1], [0, 1], {Block(Kind.HEAD, 0, 0): ArrivedBlock([])})
    keys, values = sequences[SEQUENCE].caches[0].take(0)
    assert keys.shape == values.shape == (lengths[0], HEAD_DIM)
    assert not keys.any()
    for now, then in zip(sequences[SEQUENCE].caches[0].take(1), held, strict=True):
        np.testing.assert_array_equal(now, then)


@given(order=st.permutations(range(4)), length=st.integers(0, 12))
def test_groups_travel_bit_identically(order: list[int], length: int) -> None:
    """All groups of one cache, taken out in any order, arrive in another."""
    keys, values = random_rows(4, length, 7)
    cache = KVCache(4, HEAD_DIM, 8)
    cache.append(keys, values)
    here, there = with_cache(cache), with_cache(None)
    held, gone = list(range(4)), list[int]()
    for group in order:
        k, v = here.rows(SEQUENCE, 0, held.index(group), 0, length)
        staying = [other for other in held if other != group]
        there.regroup(0, gone, [*gone, group], arrived(group, k, v))
        here.regroup(0, held, staying, {})
        held, gone = staying, [*gone, group]
        if held:
            np.testing.assert_array_equal(here[SEQUENCE].caches[0].keys(), keys[held])
    np.testing.assert_array_equal(there[SEQUENCE].caches[0].keys(), keys[order])
    np.testing.assert_array_equal(there[SEQUENCE].caches[0].values(), values[order])
    assert (here[SEQUENCE].caches, here.cache_bytes) == ({}, 0)
    assert there[SEQUENCE].caches[0].length == length


def test_a_cache_of_another_length_or_width_is_refused() -> None:
    for keys, values in (random_rows(1, 2, 1), (np.zeros((1, 3, 5), np.float32), np.zeros((1, 3, 5), np.float32))):
        cache = KVCache(2, HEAD_DIM, 8)
        cache.append(*random_rows(2, 3, 0))
        with pytest.raises(ValueError, match="same shape"):
            with_cache(cache).regroup(0, [0, 1], [0, 1, 2], arrived(2, keys[0], values[0]))


def same(heads: Heads, others: Heads) -> None:
    for one, other in zip(heads.weights, others.weights, strict=True):
        np.testing.assert_array_equal(raw_of(one), raw_of(other))


@pytest.mark.parametrize("shape", [SMALL, GPT2, WIDE_GPT2.at_precision("q4_k"), MIXED], ids=lambda shape: shape.name)
def test_groups_come_and_go_bit_identically(shape: ModelShape) -> None:
    source = SeededSource(shape, 5)
    whole, here, there = source.heads(1, [0, 1, 2]), HeldBlocks(source), HeldBlocks(source)
    here.load(Kind.HEAD, 1, [0, 1, 2])
    move(here, there, 1, layer=1)
    assert here.heads[1].groups == (0, 2)
    same(here.heads[1], source.heads(1, [0, 2]))
    with pytest.raises(KeyError):
        here.weights(Block(Kind.HEAD, 1, 1))
    move(there, here, 1, layer=1)
    assert there.heads == {}
    assert here.heads[1].groups == (0, 1, 2)
    same(here.heads[1], whole)
    assert here.heads[1].weight_bytes == whole.weight_bytes
    if shape.bias:
        np.testing.assert_array_equal(here.heads[1].bias, whole.bias)


def test_a_group_moves_with_its_cache_in_mid_sequence() -> None:
    """Group 1 goes from device A to B after 7 tokens; what comes out is what would have come without the move."""
    source = SeededSource(SMALL, 3)
    x = np.random.default_rng(0).standard_normal((9, SMALL.d_model)).astype(np.float32)
    whole = source.heads(0, [0, 1, 2])
    expected = whole.forward(x, 0, whole.new_cache(16))
    a, b = HeldBlocks(source), HeldBlocks(source)
    a.load(Kind.HEAD, 0, [0, 1])
    b.load(Kind.HEAD, 0, [2])
    caches = [with_cache(device.heads[0].new_cache(16)) for device in (a, b)]
    for device, opened in zip((a, b), caches, strict=True):
        device.heads[0].forward(x[:7], 0, opened[SEQUENCE].caches[0])
    keys, values = caches[0].rows(SEQUENCE, 0, 1, 0, 7)
    move(a, b, 1, layer=0)
    caches[0].regroup(0, [0, 1], [0], {})
    caches[1].regroup(0, [2], [1, 2], arrived(1, keys, values))
    for row in (7, 8):
        parts = [
            device.heads[0].forward(x[row : row + 1], row, opened[SEQUENCE].caches[0])
            for device, opened in zip((a, b), caches, strict=True)
        ]
        np.testing.assert_allclose(np.concatenate(parts, 1)[0], expected[row], atol=1e-5)
    np.testing.assert_array_equal(caches[1].rows(SEQUENCE, 0, 0, 0, 7)[0], keys)


@pytest.mark.parametrize(("held", "lost"), [(Kind.EMBED, Kind.LM_HEAD), (Kind.LM_HEAD, Kind.EMBED)])
@pytest.mark.parametrize("shape", [replace(SMALL, tied_embeddings=True), replace(GPT2, tied_embeddings=True)])
def test_a_store_that_has_the_table_reads_it_no_second_time(shape: ModelShape, held: Kind, lost: Kind) -> None:
    source = SeededSource(shape, 3)
    store, owner = HeldBlocks(source), HeldBlocks(source)
    store.load(held, -1, [])
    owner.load(lost, -1, [])
    arrays, expected = store.from_flash(Block(lost)), owner.weights(Block(lost))
    assert [array.tobytes() for array in arrays] == [array.tobytes() for array in expected]
    assert any(np.shares_memory(array, mine) for array in arrays for mine in store.weights(Block(held)))
