"""Blocks in any number formats on several devices: what they write, hold and send."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, SLOW, divided_placements, mixed_shapes, placements, precise_shapes
from support.memory_cluster import MemoryCluster

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.compile import CollectiveAlgorithm
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import CACHE, WEIGHTS
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import MessageKind
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N_DEVICES = 3


def rounding_shapes() -> st.SearchStrategy[ModelShape]:
    """Shapes whose caches or messages are rounded, with matrices in any formats."""
    return (precise_shapes() | mixed_shapes()).filter(lambda shape: shape.precision.order_free)


def prompt(shape: ModelShape, tokens: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, shape.vocab_size, tokens)]


def agree(shape: ModelShape, ours: Sequence[np.ndarray], theirs: np.ndarray) -> None:
    """Logits are close; where rows are rounded on the way, a last bit decides now and then which number a row gets."""
    rounded = shape.precision.cache != "f32" or shape.precision.messages != "f32"
    spread = float(np.abs(theirs).max())
    np.testing.assert_allclose(
        np.array(ours), theirs, rtol=0, atol=0.1 * spread if rounded else 1e-4 * max(1.0, spread)
    )


@SLOW
@given(st.data(), precise_shapes() | mixed_shapes(), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_any_placement_computes_what_the_undivided_model_computes(
    data: st.DataObject, shape: ModelShape, prompt_tokens: int, new_tokens: int, seed: int
) -> None:
    """Devices have as much memory as was planned for their precision; messages are as large as the costs say."""
    source, ids = SeededSource(shape, seed), prompt(shape, prompt_tokens, seed)
    placement = data.draw(placements(shape, N_DEVICES) | divided_placements(shape, N_DEVICES))
    cluster = MemoryCluster(source, placement, N_DEVICES, prompt_tokens, prompt_tokens + new_tokens)
    made = cluster.generate(ids, new_tokens, order=seed)
    theirs = Reference(source).logits([*ids, *made.tokens[:-1]])[prompt_tokens - 1 :]
    agree(shape, made.logits, theirs)
    costs = PhysicalCosts(shape)
    for sent in cluster.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, costs)


@SLOW
@given(st.data(), rounding_shapes(), st.sampled_from(["star", "ring", "relay"]), st.integers(1, 20), st.integers(0, 99))
def test_where_rows_are_rounded_any_placement_computes_the_undivided_decoders_logits_to_the_bit(
    data: st.DataObject, shape: ModelShape, way: CollectiveAlgorithm, prompt_tokens: int, seed: int
) -> None:
    source, ids = SeededSource(shape, seed), prompt(shape, prompt_tokens, seed)
    placement = data.draw(divided_placements(shape, N_DEVICES))
    cluster = MemoryCluster(source, placement, N_DEVICES, prompt_tokens, prompt_tokens + 3, collective=way)
    made, decoder = cluster.generate(ids, 3, order=seed), Decoder(source)
    theirs = [decoder.prefill(ids), *map(decoder.step, made.tokens[:-1])]
    np.testing.assert_array_equal(np.array(made.logits), np.array(theirs))


@SLOW
@given(st.data(), rounding_shapes(), st.integers(0, 99))
def test_where_rows_are_rounded_the_steps_of_a_text_do_not_matter(
    data: st.DataObject, shape: ModelShape, seed: int
) -> None:
    """A cache that is filled again, in steps of other sizes, is to the bit what it was."""
    ids, decoder = prompt(shape, 24, seed), Decoder(SeededSource(shape, seed))
    expected = decoder.prefill(ids)
    for _ in range(2):
        cuts = sorted(data.draw(st.sets(st.integers(1, 23))))
        decoder.reset()
        for first, end in pairwise([0, *cuts, 24]):
            logits = decoder.prefill(ids[first:end])
        np.testing.assert_array_equal(logits, expected)


@SLOW
@given(st.data(), precise_shapes(), st.sampled_from(["star", "ring", "relay"]), st.integers(1, 9), st.integers(0, 99))
def test_partial_sums_cross_in_the_format_of_messages_where_a_scenario_says_so(
    data: st.DataObject, shape: ModelShape, way: CollectiveAlgorithm, prompt_tokens: int, seed: int
) -> None:
    shape = replace(shape, precision=replace(shape.precision, rounds_partials=True))
    source, ids, costs = SeededSource(shape, seed), prompt(shape, prompt_tokens, seed), PhysicalCosts(shape)
    placement = data.draw(divided_placements(shape, N_DEVICES))
    cluster = MemoryCluster(source, placement, N_DEVICES, prompt_tokens, prompt_tokens + 2, collective=way)
    made = cluster.generate(ids, 2, order=seed)
    if shape.precision.messages == "f32":
        agree(shape, made.logits, Reference(source).logits([*ids, *made.tokens[:-1]])[prompt_tokens - 1 :])
    for sent in cluster.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, costs)
        if sent.op.emits.kind is MessageKind.PARTIAL and sent.op.steps.has(sent.rows):
            assert sent.size_bytes in {costs.activation_bytes(rows) for rows in (1, sent.rows)}


def test_a_quantised_model_is_as_small_as_its_format() -> None:
    """By hand: 18 bytes for 32 weights, 34 for 32 numbers of a cache's row, 2 for a number of a message."""
    shape = ModelShape("small", 2, 64, 4, 2, 32, 128, 96, 64).at_precision("q4_0", "q8_0", "f16")
    cluster = MemoryCluster(SeededSource(shape, 1), Placement(dict.fromkeys(all_blocks(shape), 0)), 1, 3, 5)
    matrices = 2 * 96 * 64 + 2 * (2 * 128 * 64 + 64 * 128 + 3 * 128 * 64)
    assert LLAMA.precision.weights("up").name == "f32"
    ledger = cluster.devices[0].ledger
    assert ledger.page()[WEIGHTS] == matrices * 18 // 32 + 5 * 64 * 4
    cluster.generate([1, 2, 3], 2)
    assert ledger.page().get(CACHE, 0) == 0
    assert PhysicalCosts(shape).kv_bytes(5) == 2 * 5 * 34
    assert PhysicalCosts(shape).activation_bytes(3) == PhysicalCosts.header_bytes + 3 * 64 * 2
