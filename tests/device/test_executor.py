"""Blocks on several devices, joined in memory, write what the undivided model writes, within the memory planned."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, LLAMA_TIED, SHAPES, SLOW, placements, scattered, shapes
from support.memory_cluster import MemoryCluster

from edgeemu.device.executor import Executor
from edgeemu.device.sequences import NotHeldError, SequenceState
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import CACHE, MESSAGES, WEIGHTS, WORKSPACE, Ledger, OutOfMemoryError
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.placement import Placement
from edgeemu.placement.program import Op
from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.sampling import GREEDY, Sampling
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N_DEVICES = 3
ROOMY = 2**40


def prompt(shape: ModelShape, tokens: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, shape.vocab_size, tokens)]


def reference_logits(source: SeededSource, ids: list[int], tokens: list[int]) -> np.ndarray:
    """Logits of the undivided model before each of `tokens`, [tokens, vocab]."""
    return Reference(source).logits([*ids, *tokens[:-1]])[len(ids) - 1 :]


@SLOW
@given(st.data(), shapes(), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_any_placement_writes_what_the_undivided_model_writes(
    data: st.DataObject, shape: ModelShape, prompt_tokens: int, new_tokens: int, seed: int
) -> None:
    source = SeededSource(shape, seed)
    ids = prompt(shape, prompt_tokens, seed)
    placement = data.draw(placements(shape, N_DEVICES))
    cluster = MemoryCluster(source, placement, N_DEVICES, prompt_tokens, prompt_tokens + new_tokens)
    made = cluster.generate(ids, new_tokens, order=seed)
    assert made.tokens == Reference(source).generate(ids, new_tokens)
    np.testing.assert_allclose(made.logits, reference_logits(source, ids, made.tokens), atol=1e-4)


@SLOW
@given(st.data(), shapes(), st.integers(1, 9), st.integers(1, 5))
def test_what_is_charged_is_what_was_planned(
    data: st.DataObject, shape: ModelShape, prompt_tokens: int, new_tokens: int
) -> None:
    """The caps are the pages, so that a run that ends has stayed within them; and they are no wider than need be."""
    placement = data.draw(placements(shape, N_DEVICES))
    total_tokens = prompt_tokens + new_tokens
    cluster = MemoryCluster(SeededSource(shape, 0), placement, N_DEVICES, prompt_tokens, total_tokens)
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page().get(WEIGHTS, 0) == page.weights_bytes
    cluster.generate(prompt(shape, prompt_tokens, 0), new_tokens)
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page() == ({WEIGHTS: page.weights_bytes} if page.weights_bytes else {})
        # The last token's row is planned and never written; a prompt's messages are gone when the cache is full.
        last_row_bytes = page.cache_bytes // total_tokens
        assert device.ledger.peak_bytes >= page.total_bytes - page.messages_bytes - last_row_bytes
        assert device.ledger.peak_bytes <= page.total_bytes


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("sampling", [Sampling(0.9, 0, 1.0, 5), Sampling(1.2, 7, 0.9, 6)])
def test_drawn_tokens_are_those_of_the_undivided_model(shape: ModelShape, sampling: Sampling) -> None:
    source, ids = SeededSource(shape, 1), prompt(shape, 4, 0)
    cluster = MemoryCluster(source, scattered(shape, N_DEVICES, 8), N_DEVICES, 4, 12)
    expected = Reference(source).generate(ids, 8, sampling)
    assert cluster.generate(ids, 8, sampling=sampling).tokens == expected


def test_sequences_one_after_the_other_do_not_see_each_other() -> None:
    source = SeededSource(LLAMA, 2)
    cluster = MemoryCluster(source, scattered(LLAMA, N_DEVICES, 4), N_DEVICES, 9, 14)
    for sequence, length in enumerate((9, 2, 5)):
        ids = prompt(LLAMA, length, sequence)
        made = cluster.generate(ids, 5, sequence=sequence, order=sequence)
        assert made.tokens == Reference(source).generate(ids, 5)
    assert all(not device.ledger.page().get(name) for device in cluster.devices for name in (CACHE, MESSAGES))


@SLOW
@given(st.data(), shapes(), st.integers(1, 9))
def test_messages_are_as_large_as_the_simulator_says(data: st.DataObject, shape: ModelShape, tokens: int) -> None:
    placement = data.draw(placements(shape, N_DEVICES))
    cluster = MemoryCluster(SeededSource(shape, 0), placement, N_DEVICES, tokens, tokens + 3)
    cluster.generate(prompt(shape, tokens, 0), 3)
    costs = PhysicalCosts(shape)
    for op, rows, size_bytes in cluster.sent:
        assert size_bytes == message_bytes(op, rows, costs)
    remote = [op for op in cluster.program.ops for target in op.to if target != op.device]
    assert len(cluster.sent) == 3 * len(remote) - remote.count(cluster.program.ops[-1])  # the last token stays


# -- what does not fit ----------------------------------------------------------------------------------------------


class Watched:
    """A source that notes what it is asked for."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self.asked: list[str] = []
        self._source = SeededSource(shape, 0)

    def embed(self) -> Embed:
        self.asked.append("embed")
        return self._source.embed()

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        self.asked.append(f"heads({layer})")
        return self._source.heads(layer, groups)

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        self.asked.append(f"proj({layer})")
        return self._source.proj(layer, groups, rows)

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        self.asked.append(f"ffn({layer})")
        return self._source.ffn(layer, units, rows)

    def lm_head(self, embed: Embed | None = None) -> LmHead:
        self.asked.append("lm_head")
        return self._source.lm_head(embed)

    def positions(self) -> Array | None:
        return self._source.positions()

    def final_norm(self) -> Norm:
        return self._source.final_norm()


def whole(shape: ModelShape) -> list[Op]:
    return list(compile_routes(Placement(dict.fromkeys(all_blocks(shape), 0)), shape).ops)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_block_that_does_not_fit_is_refused_before_it_is_made(shape: ModelShape) -> None:
    costs = PhysicalCosts(shape)
    sizes = [costs.weight_bytes(EMBED)]
    for _ in range(shape.n_layers):
        sizes += [
            costs.heads_weight_bytes(shape.n_groups),
            costs.weight_bytes(proj(0)),
            costs.weight_bytes(ffn(0)),
        ]
    sizes.append(costs.norm_bytes() if shape.tied_embeddings else costs.weight_bytes(LM_HEAD))
    for fitting in range(len(sizes)):
        source = Watched(shape)
        ledger = Ledger("pi", sum(sizes[: fitting + 1]) - 1)
        with pytest.raises(OutOfMemoryError, match="pi is out of memory: weights needs"):
            Executor(source, ledger).load(whole(shape))
        assert len(source.asked) == fitting
        assert ledger.used_bytes == sum(sizes[:fitting])
    Executor(Watched(shape), Ledger("pi", sum(sizes))).load(whole(shape))


def test_a_sequence_whose_workspace_does_not_fit_is_refused_and_leaves_no_trace() -> None:
    costs = PhysicalCosts(LLAMA)
    block = Op(0, Kind.FFN, 0, (), 0, (), whole(LLAMA)[1].emits, ())
    needs_bytes = costs.workspace_bytes(Kind.FFN, 0, 4, 0)
    ledger = Ledger("pi", costs.weight_bytes(ffn(0)) + needs_bytes)
    compute = Executor(SeededSource(LLAMA, 0), ledger)
    compute.load([block])
    before = ledger.page()
    with pytest.raises(OutOfMemoryError, match="workspace"):
        compute.open(0, 5, 9, SequenceState(GREEDY, keep_logits=False))
    assert ledger.page() == before
    compute.open(0, 4, 9, SequenceState(GREEDY, keep_logits=False))  # the same number: it was never opened
    assert ledger.page() == before | {WORKSPACE: needs_bytes}


def test_a_cache_row_that_does_not_fit_is_refused_before_it_is_written() -> None:
    costs = PhysicalCosts(LLAMA)
    op = next(op for op in whole(LLAMA) if op.kind is Kind.HEAD)
    ledger = Ledger("pi", ROOMY)
    compute = Executor(SeededSource(LLAMA, 0), ledger)
    compute.load([op])
    opened = SequenceState(GREEDY, keep_logits=False)
    compute.open(0, 2, 9, opened)
    x = np.ones((2, LLAMA.d_model), np.float32)  # [2, d_model]
    compute.run(op, 0, 0, 0, [x])
    assert ledger.page()[CACHE] == 3 * costs.kv_bytes(2) == opened.caches[0].nbytes_used
    ledger.cap_bytes = ledger.used_bytes + 3 * costs.kv_bytes(1) - 1
    with pytest.raises(OutOfMemoryError, match="cache"):
        compute.run(op, 0, 1, 2, [x[:1]])
    assert opened.caches[0].length == 2
    compute.close(0)
    assert CACHE not in ledger.page()


# -- what does not fit the protocol ---------------------------------------------------------------------------------


def test_only_an_open_sequence_can_be_run_and_closed() -> None:
    compute = Executor(SeededSource(LLAMA, 0), Ledger("pi", ROOMY))
    compute.load(whole(LLAMA))
    compute.open(4, 2, 9, SequenceState(GREEDY, keep_logits=False))
    with pytest.raises(NotHeldError, match="sequence 4 is open already"):
        compute.open(4, 2, 9, SequenceState(GREEDY, keep_logits=False))
    for op in whole(LLAMA):
        if op.kind in (Kind.HEAD, Kind.LM_HEAD):
            with pytest.raises(NotHeldError, match=r"sequence 7 is not open; open are \[4\]"):
                compute.run(op, 7, 0, 0, [np.ones((1, LLAMA.d_model), np.float32)])
    compute.close(4)
    with pytest.raises(NotHeldError, match="sequence 4 is not open"):
        compute.close(4)


@pytest.mark.parametrize("op", whole(GPT2), ids=lambda op: f"{op.kind}-{op.layer}")
def test_an_operation_whose_block_is_elsewhere_is_refused(op: Op) -> None:
    compute = Executor(SeededSource(GPT2, 0), Ledger("pi", ROOMY))
    compute.load([])
    compute.open(0, 2, 9, SequenceState(GREEDY, keep_logits=False))
    with pytest.raises(NotHeldError, match=f"{op.kind} of layer {op.layer} is not loaded here"):
        compute.run(op, 0, 0, 0, [np.ones((1, GPT2.d_model), np.float32)] * 2)


def test_logits_are_kept_only_where_they_are_asked_for() -> None:
    compute = Executor(SeededSource(LLAMA_TIED, 0), Ledger("pi", ROOMY))
    (lm_head,) = (op for op in whole(LLAMA_TIED) if op.kind is Kind.LM_HEAD)
    compute.load([lm_head])
    x = np.ones((1, LLAMA_TIED.d_model), np.float32)  # [1, d_model]
    for sequence, keep in enumerate((True, False)):
        compute.open(sequence, 1, 2, SequenceState(GREEDY, keep_logits=keep))
        token = compute.run(lm_head, sequence, 0, 0, [x])
        assert (compute.last_logits is not None) == keep
        assert token.dtype == np.int64
        assert token.shape == (1,)


def test_groups_scattered_over_devices_are_put_in_their_order() -> None:
    """A projection whose parts interleave: device 0 has groups 0 and 2, device 1 has group 1."""
    placement = Placement(dict.fromkeys(all_blocks(LLAMA), 0)).moved([head(0, 1), head(1, 1)], 1)
    source, ids = SeededSource(LLAMA, 5), [1, 2, 3]
    cluster = MemoryCluster(source, placement, 2, 3, 7)
    parts = [op.parts for op in cluster.program.ops if op.kind is Kind.PROJ]
    assert parts == [((0, 2), (1,))] * 2
    assert cluster.generate(ids, 4).tokens == Reference(source).generate(ids, 4)
