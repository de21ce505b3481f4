"""Costs of blocks equal what the kernels hold, compute and allocate."""

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, LLAMA_TIED, QUICK, SHAPES, SLOW, mixed_shapes, precise_shapes, shapes

from edgeemu.placement.blocks import EMBED, LM_HEAD, MESSAGE_HEADER_BYTES, Block, Kind, all_blocks, ffn, head, proj
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.work import Work
from edgeemu_kernels import compiled  # noqa: F401 - loaded before anything is measured
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.packed import WORKSPACE_BYTES
from edgeemu_kernels.precision import number_format
from edgeemu_kernels.sampling import GREEDY, Sampling, sample
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

# Arrays that are small beside those which Costs counts: NumPy's buffer for a broadcast operand (np.getbufsize()
# values of 4 bytes), sums over an axis, and Python's own objects.
UNCOUNTED_BYTES = 4 * np.getbufsize() + 4096

# Wide enough that matrices, not the above, make up the sizes.
LLAMA_WIDE = replace(
    LLAMA, d_model=256, n_heads=8, n_kv_heads=4, head_dim=32, d_ff=512, vocab_size=4096, max_context=2048
)
GPT2_WIDE = replace(
    GPT2, d_model=256, n_heads=8, n_kv_heads=8, head_dim=32, d_ff=1024, vocab_size=4096, max_context=2048
)
LONG_ROWS = replace(LLAMA_WIDE, positions="rope-interleaved", d_model=1024)  # for compiled attention, too
WIDE = (
    LLAMA_WIDE,
    LONG_ROWS,
    GPT2_WIDE,
    GPT2_WIDE.at_precision("q8_0", "f16"),
    LONG_ROWS.at_precision("q4_k", "q4_0"),
    LLAMA_WIDE.at_precision("f32", "f32", "f16"),
    ModelShape("heads-of-100", 1, 400, 4, 4, 100, 256, 100, 4000).at_precision("f16", "f16", "f32"),
)


PARTS = ((Kind.HEAD, 0), (Kind.PROJ, -1), (Kind.FFN, -1))


def arrays(held: object) -> Iterator[np.ndarray]:
    """All arrays that an object of the kernels holds, but for the rotation table, which is no weight."""
    if isinstance(held, np.ndarray):
        yield held
        return
    if isinstance(held, tuple):
        for each in held:
            yield from arrays(each)
        return
    names = getattr(held, "__slots__", None) or getattr(held, "__dict__", {})
    for name in names:
        if name != "_rope":
            yield from arrays(getattr(held, name))


def real_bytes(held: object) -> int:
    return sum(array.nbytes for array in arrays(held))


def check_weights(shape: ModelShape) -> None:
    source, costs = SeededSource(shape, 7), PhysicalCosts(shape)
    assert costs.weight_bytes(EMBED) == real_bytes(source.embed())
    assert costs.weight_bytes(LM_HEAD) == real_bytes(source.lm_head())
    for layer in {0, shape.n_layers - 1}:
        assert costs.weight_bytes(proj(layer)) == real_bytes(source.proj(layer))
        assert costs.weight_bytes(ffn(layer)) == real_bytes(source.ffn(layer))
        for n in range(1, shape.n_groups + 1):
            assert costs.heads_weight_bytes(n, layer) == real_bytes(source.heads(layer, range(n)))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_weights_are_the_bytes_of_the_real_arrays(shape: ModelShape) -> None:
    check_weights(shape)


@QUICK
@given(shapes() | precise_shapes() | mixed_shapes())
def test_weights_of_any_shape_are_the_bytes_of_the_real_arrays(shape: ModelShape) -> None:
    check_weights(shape)


@QUICK
@given(mixed_shapes())
def test_uniform_costs_bound_those_of_every_layer(shape: ModelShape) -> None:
    costs = PhysicalCosts(shape)
    least, most = costs.uniform("least"), costs.uniform("largest")
    blocks = {kind: [Block(kind, layer, group) for layer in range(shape.n_layers)] for kind, group in PARTS}
    for each in blocks.values():
        of_layers = [costs.weight_bytes(block) for block in each]
        assert {len({bound.weight_bytes(block) for block in each}) for bound in (least, most)} == {1}
        mean = costs.uniform("mean").weight_bytes(each[-1])
        assert sum(of_layers) <= len(each) * mean < sum(of_layers) + len(each)
        assert least.weight_bytes(each[0]) <= min(of_layers) <= max(of_layers) <= most.weight_bytes(each[0])
    assert PhysicalCosts(LLAMA).uniform("mean") == PhysicalCosts(LLAMA)


def test_no_groups_need_no_norm() -> None:
    assert PhysicalCosts(LLAMA).heads_weight_bytes(0) == 0


def test_tied_embeddings_count_where_both_ends_are_apart() -> None:
    tied, untied = PhysicalCosts(LLAMA_TIED), PhysicalCosts(LLAMA)
    assert tied.weight_bytes(LM_HEAD) == untied.weight_bytes(LM_HEAD)
    assert tied.weight_bytes(EMBED) == untied.weight_bytes(EMBED)


@QUICK
@given(shapes() | precise_shapes() | mixed_shapes(), st.integers(0, 40), st.integers(1, 4))
def test_cache_bytes_are_those_of_the_rows_that_are_written(shape: ModelShape, tokens: int, groups: int) -> None:
    cache = KVCache(groups, shape.head_dim, 8, number_format(shape.precision.cache))
    rows = np.zeros((groups, tokens, shape.head_dim), np.float32)  # [groups, tokens, head_dim]
    cache.append(rows, rows)
    assert groups * PhysicalCosts(shape).kv_bytes(tokens) == cache.nbytes_used


@QUICK
@given(shapes() | precise_shapes() | mixed_shapes(), st.integers(1, 30), st.integers(0, 30))
def test_a_prefill_computes_as_much_as_its_tokens_one_by_one(shape: ModelShape, rows: int, past: int) -> None:
    costs = PhysicalCosts(shape)
    for kind in (Kind.EMBED, Kind.HEAD, Kind.PROJ, Kind.FFN):
        one_by_one = sum(costs.work(kind, shape.n_groups, 1, past + row).flops for row in range(rows))
        assert costs.work(kind, shape.n_groups, rows, past).flops == one_by_one
    whole, single = (costs.work(Kind.LM_HEAD, 0, n, past) for n in (rows, 1))
    assert whole == single  # the output matrix runs on the last row only


@QUICK
@given(shapes() | precise_shapes() | mixed_shapes(), st.integers(1, 30), st.integers(0, 30))
def test_a_step_reads_weights_and_cache_once(shape: ModelShape, rows: int, past: int) -> None:
    costs, n = PhysicalCosts(shape), shape.n_groups
    heads_bytes = costs.heads_weight_bytes(n) + n * costs.kv_bytes(past + rows)
    assert costs.work(Kind.HEAD, n, rows, past).bytes_read == heads_bytes
    for kind, block in ((Kind.PROJ, proj(0)), (Kind.FFN, ffn(0)), (Kind.LM_HEAD, LM_HEAD)):
        assert costs.work(kind, 0, rows, past).bytes_read == costs.weight_bytes(block)
    assert costs.work(Kind.EMBED, 0, rows, past).bytes_read == rows * shape.precision.weights("embed").row_bytes(
        shape.d_model
    )


@QUICK
@given(shapes() | precise_shapes() | mixed_shapes(), st.integers(1, 30), st.integers(0, 30))
def test_fused_groups_do_the_work_of_each_and_read_their_norm_once(shape: ModelShape, rows: int, past: int) -> None:
    costs, n = PhysicalCosts(shape), shape.n_groups
    fused, single = costs.work(Kind.HEAD, n, rows, past), costs.work(Kind.HEAD, 1, rows, past)
    assert fused.flops == n * single.flops
    assert fused.bytes_read == n * single.bytes_read - (n - 1) * costs.norm_bytes()


def test_decode_flops_of_a_published_model_are_twice_its_matrix_weights() -> None:
    """SmolLM2-135M at the first token: 2 operations for each of its 134.5 M weights, but for norms and attention."""
    shape = ModelShape("smollm2", 30, 576, 9, 3, 64, 1536, 49152, 8192, tied_embeddings=True)
    costs = PhysicalCosts(shape)
    layer = [costs.work(Kind.HEAD, 3, 1, 0), costs.work(Kind.PROJ, 0, 1, 0), costs.work(Kind.FFN, 0, 1, 0)]
    flops = 30 * sum(work.flops for work in layer) + costs.work(Kind.LM_HEAD, 0, 1, 0).flops
    assert flops == pytest.approx(2 * 134.5e6, rel=1e-3)


def test_work_adds_up() -> None:
    assert sum([Work(2, 5), Work(3, 7)], Work(0, 0)) == Work(5, 12)
    with pytest.raises(TypeError):
        Work(1, 1) + 3


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most that `run` had allocated at once; NumPy reports its arrays to tracemalloc."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        result = run()
        _, peak = tracemalloc.get_traced_memory()
        del result
        return peak - before
    finally:
        tracemalloc.stop()


def assert_bounded(measured_bytes: int, planned_bytes: int) -> None:
    """No less than what is really needed, and no more than three times as much, but for pieces that are decoded."""
    assert measured_bytes <= planned_bytes + UNCOUNTED_BYTES
    assert planned_bytes <= 3 * measured_bytes + 3 * WORKSPACE_BYTES


@pytest.mark.parametrize(("rows", "past"), [(1, 0), (1, 2000), (40, 0), (300, 500), (1500, 0)])
@pytest.mark.parametrize("shape", WIDE, ids=lambda shape: f"{shape.name}-{shape.d_model}-{shape.precision.up}")
def test_heads_allocate_no_more_than_planned(shape: ModelShape, rows: int, past: int) -> None:
    source, costs = SeededSource(shape, 0), PhysicalCosts(shape)
    for n in (1, shape.n_groups):
        heads = source.heads(0, range(n))
        warm, cache = heads.new_cache(past + rows), heads.new_cache(past + rows)
        for some, length in ((warm, past + rows - 1), (cache, past)):
            filled = np.ones((n, length, shape.head_dim), np.float32)  # [n, length, head_dim]
            if length:
                some.append(filled, filled)
        last = np.ones((1, shape.d_model), np.float32)  # [1, d_model]
        heads.forward(last, past + rows - 1, warm)  # makes the rotation table as long as it will be needed
        x = np.ones((rows, shape.d_model), np.float32)  # [rows, d_model]
        allocated = peak_bytes(lambda heads=heads, x=x, cache=cache: heads.forward(x, past, cache))
        assert_bounded(x.nbytes + allocated, costs.workspace_bytes(Kind.HEAD, n, rows, past))


@pytest.mark.parametrize("rows", [1, 40, 600])
@pytest.mark.parametrize("shape", WIDE, ids=lambda shape: f"{shape.name}-{shape.d_model}-{shape.precision.up}")
def test_dense_blocks_allocate_no_more_than_planned(shape: ModelShape, rows: int) -> None:
    source, costs = SeededSource(shape, 0), PhysicalCosts(shape)
    embed, proj_, ffn_ = source.embed(), source.proj(0).at(shape), source.ffn(0).at(shape)
    x = np.ones((rows, shape.d_model), np.float32)  # [rows, d_model]
    attention = np.ones((rows, shape.n_heads * shape.head_dim), np.float32)  # [rows, n_heads * head_dim]
    runs: dict[Kind, tuple[int, Callable[[], object]]] = {
        Kind.EMBED: (0, lambda: embed.forward([0] * rows, 0)),
        Kind.PROJ: (x.nbytes + attention.nbytes, lambda: proj_.forward(attention, x)),
        Kind.FFN: (x.nbytes, lambda: ffn_.forward(x)),
    }
    for kind, (input_bytes, run) in runs.items():
        assert_bounded(input_bytes + peak_bytes(run), costs.workspace_bytes(kind, 0, rows, 0))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.8), Sampling(0.8, top_k=40), Sampling(1.0, 4000, 0.9)])
def test_the_output_matrix_and_any_sampling_allocate_no_more_than_planned(sampling: Sampling) -> None:
    lm_head = SeededSource(LLAMA_WIDE, 0).lm_head()
    x = np.linspace(-1, 1, LLAMA_WIDE.d_model, dtype=np.float32)  # [d_model]
    sample(lm_head.forward(x), sampling, 0)  # the first draw loads NumPy's generator
    allocated = peak_bytes(lambda: sample(lm_head.forward(x), sampling, 0))
    planned = PhysicalCosts(LLAMA_WIDE).workspace_bytes(Kind.LM_HEAD, 0, 1, 0)
    assert x.nbytes + allocated <= planned + UNCOUNTED_BYTES
    assert planned <= 11 * 4 * LLAMA_WIDE.vocab_size  # what sampling needs at worst, not more


@SLOW
@given(shapes() | st.just(LONG_ROWS), st.integers(1, 300), st.integers(0, 300))
def test_workspace_grows_with_rows_and_past(shape: ModelShape, rows: int, past: int) -> None:
    costs = PhysicalCosts(shape)
    for kind in Kind:
        now = costs.workspace_bytes(kind, shape.n_groups, rows, past)
        assert now <= costs.workspace_bytes(kind, shape.n_groups, rows + 1, past)
        assert now <= costs.workspace_bytes(kind, shape.n_groups, rows, past + 1)
        assert costs.workspace_bytes(kind, 1, rows, past) <= now


def test_messages_are_a_header_and_their_values() -> None:
    costs = PhysicalCosts(LLAMA)
    assert costs.activation_bytes(3) == MESSAGE_HEADER_BYTES + 3 * 32 * 4
    assert costs.attention_bytes(2, 3) == MESSAGE_HEADER_BYTES + 3 * 2 * (2 * 8) * 4  # 2 groups of 2 heads of 8
    assert costs.token_bytes() == MESSAGE_HEADER_BYTES + 8


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_blocks_are_listed_once_in_the_order_in_which_they_run(shape: ModelShape) -> None:
    blocks = list(all_blocks(shape))
    assert len(blocks) == len(set(blocks)) == 2 + shape.n_layers * (shape.n_groups + 2)
    assert blocks[0] == EMBED
    assert blocks[-1] == LM_HEAD
    assert [block.layer for block in blocks[1:-1]] == sorted(block.layer for block in blocks[1:-1])
    assert blocks[1 : shape.n_groups + 3] == [*(head(0, g) for g in range(shape.n_groups)), proj(0), ffn(0)]


def test_blocks_have_the_names_of_the_design() -> None:
    assert [str(block) for block in (EMBED, head(3, 1), proj(2), ffn(0), LM_HEAD)] == [
        "embed",
        "head(3,1)",
        "proj(2)",
        "ffn(0)",
        "lm_head",
    ]
