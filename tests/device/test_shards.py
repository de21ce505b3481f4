"""Shards on several devices, joined by stars and rings, write the undivided model's text within their memory."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import GPT2, LLAMA, QUICK, SLOW, clusters, divided_placements, even_cluster, shapes, view
from support.memory_cluster import MemoryCluster
from support.one_sequence import predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, n_shards, proj, shards
from edgeemu.placement.compile import CollectiveAlgorithm, compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import WEIGHTS
from edgeemu.placement.operation_costs import message_bytes
from edgeemu.placement.placement import Placement, PlacementError, rings_of
from edgeemu.placement.program import Collective, MessageKind, Op, Program, Slot
from edgeemu.policies.view.step_time import step_s
from edgeemu.run.plan import arithmetic_rows
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N_DEVICES = 5
WAYS = st.sampled_from([("star", None), ("ring", None), ("ring", 1), ("ring", 2)])


def prompt(shape: ModelShape, tokens: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, shape.vocab_size, tokens)]


@SLOW
@given(st.data(), shapes(), WAYS, st.integers(1, 12), st.integers(1, 4), st.integers(0, 99))
def test_any_placement_of_shards_writes_what_the_undivided_model_writes(
    data: st.DataObject,
    shape: ModelShape,
    way: tuple[CollectiveAlgorithm, int | None],
    prompt_tokens: int,
    new_tokens: int,
    seed: int,
) -> None:
    """Prompts shorter than rings are, and longer; messages in any order; the caps are the pages that were planned."""
    placement = data.draw(divided_placements(shape, N_DEVICES))
    placement.check(shape, N_DEVICES)
    source, ids, (collective, tile_rows) = SeededSource(shape, seed), prompt(shape, prompt_tokens, seed), way
    total_tokens = prompt_tokens + new_tokens
    cluster = MemoryCluster(
        source, placement, N_DEVICES, prompt_tokens, total_tokens, collective=collective, tile_rows=tile_rows
    )
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page().get(WEIGHTS, 0) == page.weights_bytes
    made = cluster.generate(ids, new_tokens, order=seed)
    reference = Reference(source)
    assert made.tokens == reference.generate(ids, new_tokens)
    expected = reference.logits([*ids, *made.tokens[:-1]])[len(ids) - 1 :]  # [new_tokens, vocab]
    np.testing.assert_allclose(made.logits, expected, atol=1e-4)
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page() == ({WEIGHTS: page.weights_bytes} if page.weights_bytes else {})
        last_row_bytes = page.cache_bytes // total_tokens  # planned, and never written
        assert device.ledger.peak_bytes >= page.total_bytes - page.messages_bytes - last_row_bytes
        assert device.ledger.peak_bytes <= page.total_bytes
    for sent in cluster.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, PhysicalCosts(shape))


@pytest.mark.parametrize("way", [("star", None), ("ring", None)])
@pytest.mark.parametrize("prompt_tokens", [1, 9])
def test_a_layer_whose_shards_are_all_on_one_device_fits_as_planned(
    way: tuple[CollectiveAlgorithm, int | None], prompt_tokens: int
) -> None:
    shape = replace(LLAMA, n_layers=1)
    units = {Block(Kind.FFN, 0, unit): 3 for unit in range(n_shards(shape, Kind.FFN))}
    groups = {head(0, group): 4 for group in range(shape.n_groups)}
    placement = Placement({EMBED: 1, **groups, proj(0): 0, **units, LM_HEAD: 1})
    source, ids = SeededSource(shape, 0), prompt(shape, prompt_tokens, 0)
    cluster = MemoryCluster(
        source, placement, N_DEVICES, prompt_tokens, prompt_tokens + 2, collective=way[0], tile_rows=way[1]
    )
    assert cluster.generate(ids, 2, order=0).tokens == Reference(source).generate(ids, 2)


# -- routes ---------------------------------------------------------------------------------------------------------


def sets_of(program: Program) -> list[list[Op]]:
    """The operations of each kind of steps, in order."""
    kinds = sorted({op.steps for op in program.ops})
    return [[op for op in program.ops if op.steps == steps] for steps in kinds]


@QUICK
@given(st.data(), shapes(), WAYS)
def test_every_input_is_made_once_before_it_is_needed(
    data: st.DataObject, shape: ModelShape, way: tuple[CollectiveAlgorithm, int | None]
) -> None:
    placement = data.draw(divided_placements(shape, N_DEVICES))
    program = compile_routes(placement, shape, way[0], tile_rows=way[1])
    assert [op.index for op in program.ops] == list(range(len(program.ops)))
    for ops in sets_of(program):
        made: dict[Slot, Op] = {}
        for op in ops:
            assert op.emits.source == op.device
            assert op.emits not in made
            assert len(set(op.needs)) == len(op.needs)
            for slot in op.needs:
                if slot.kind not in (MessageKind.PROMPT, MessageKind.TOKEN):
                    assert op.device in made[slot].to
            made[op.emits] = op
        for op in ops:
            assert list(op.to) == sorted({other.device for other in ops if op.emits in other.needs})
            assert op.to


@QUICK
@given(st.data(), shapes())
def test_a_rings_chunk_passes_each_device_once(data: st.DataObject, shape: ModelShape) -> None:
    """In steps of many rows no device sends more than two messages for a chunk and a seam, and each to one device."""
    placement = data.draw(divided_placements(shape, N_DEVICES))
    program = compile_routes(placement, shape)
    for op in program.ops:
        if op.emits.kind in (MessageKind.REDUCE, MessageKind.NORMED) and op.steps.low:
            assert len(set(op.to) - {op.device}) <= 1


def whole_and_divided(shape: ModelShape, owners: list[int]) -> Placement:
    """Heads with their projections, and feed-forwards, dealt out in turn; both ends on the first device."""
    owner = dict.fromkeys(all_blocks(shape), 0)
    for layer in range(shape.n_layers):
        for kind in (Kind.PROJ, Kind.FFN):
            del owner[Block(kind, layer)]
            for block in shards(shape, kind, layer):
                owner[block] = owners[block.group % len(owners)]
        owner |= {Block(Kind.HEAD, layer, group): owners[group % len(owners)] for group in range(shape.n_groups)}
    return Placement(owner)


def test_a_ring_of_three_by_hand() -> None:
    """Between two parts: the chunk of device 0 starts at 1, passes 2, ends at 0, and goes on normalised to 1 and 2."""
    program = compile_routes(whole_and_divided(LLAMA, [0, 1, 2]), LLAMA, tile_rows=None)
    few, many = sets_of(program)
    assert {op.steps for op in few} == {(0, 3)}
    assert {op.steps for op in many} == {(3, 0)}
    seam = [op for op in many if op.emits.layer == 1 and op.emits.part == 0 and op.emits.kind >= MessageKind.PARTIAL]
    found = [(op.kind, op.device, op.emits.kind, op.to) for op in seam if op.kind is not Kind.FFN]
    assert found == [
        (Collective.SUM, 1, MessageKind.REDUCE, (2,)),
        (Collective.SUM, 2, MessageKind.REDUCE, (0,)),
        (Collective.SUM, 0, MessageKind.ROWS, (0,)),
        (Collective.NORM, 0, MessageKind.NORMED, (0, 1)),
        (Collective.SUM, 1, MessageKind.NORMED, (2,)),
    ]
    assert [op.computes for op in seam if op.kind is Collective.SUM] == [False, True, True, False]
    sums = [op for op in few if op.kind is Collective.SUM and op.emits.kind is MessageKind.RESIDUAL and op.layer == 0]
    assert [op.device for op in sums] == [0, 1, 2]
    assert all(op.to == (op.device,) and len(op.needs) == 4 for op in sums)


def test_there_are_tiles_where_their_rows_suffice() -> None:
    placement = whole_and_divided(LLAMA, [0, 1, 2])
    found = {}
    for tile_rows in (None, 1, 4):
        program = compile_routes(placement, LLAMA, tile_rows=tile_rows)
        found[tile_rows] = {ops[0].steps: any(op.kind is Collective.ATTEND for op in ops) for ops in sets_of(program)}
    assert found == {
        None: {(0, 3): False, (3, 0): False},
        1: {(0, 3): False, (3, 0): True},
        4: {(0, 3): False, (3, 12): False, (12, 0): True},
    }
    assert arithmetic_rows([Compute(10e9, 10e9, 0.0), Compute(40e9, 10e9, 0.0)], 4) == 8  # 2 x 8 operations a value


def test_tiles_hide_messages_behind_products() -> None:
    """Three equal devices: of what links add to the products, which is less than they take, almost half is hidden."""
    compute = Compute(1e9, 1e12, 0.0)
    shape = replace(LLAMA, n_layers=4, d_model=96, n_heads=12, n_kv_heads=3, head_dim=8, d_ff=384, max_context=128)
    placement, costs = whole_and_divided(shape, [0, 1, 2]), PhysicalCosts(shape)

    def ttft_s(tile_rows: int | None, link: Link) -> float:
        program, durations = (
            compile_routes(placement, shape, tile_rows=tile_rows),
            roofline_durations([compute] * 3, costs),
        )
        return predict(even_cluster(3, link, compute=compute), costs, program, durations, 96, 1).ttft_s

    products_s, slow = ttft_s(None, Link(1e15, 0.0)), Link(2e8, 1e-5)
    ring_s, tiles_s = ttft_s(None, slow), ttft_s(1, slow)
    assert products_s < tiles_s < ring_s < 2 * products_s
    assert tiles_s - products_s < 0.55 * (ring_s - products_s)


@QUICK
@given(shapes(), st.sampled_from(["ring", "star"]))
def test_whole_placements_are_not_touched_by_collectives(shape: ModelShape, collective: CollectiveAlgorithm) -> None:
    placement = Placement({block: index % 3 for index, block in enumerate(all_blocks(shape))})
    assert compile_routes(placement, shape, collective) == compile_routes(placement, shape)
    assert rings_of(placement, 1) == [()]


# -- placements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_shards_weigh_what_the_whole_weighs_but_for_what_they_share(shape: ModelShape) -> None:
    costs = PhysicalCosts(shape)
    parts = [costs.weight_bytes(block) for block in shards(shape, Kind.PROJ, 1)]
    assert sum(parts) == costs.weight_bytes(proj(1))
    units = [costs.weight_bytes(block) for block in shards(shape, Kind.FFN, 1)]
    assert sum(units) + costs.norm_bytes() == costs.weight_bytes(ffn(1))
    source, some = SeededSource(shape, 0), range(0, shape.ffn_units, 3)
    assert costs.fused_weight_bytes(Kind.FFN, 1, some) == source.ffn(1, some).weight_bytes
    assert costs.fused_weight_bytes(Kind.PROJ, 1, [1]) == source.proj(1, [1]).weight_bytes
    for kind in (Kind.PROJ, Kind.FFN):
        every = range(n_shards(shape, kind))
        assert costs.shard_work(kind, 0, every, 5, 0) == costs.work(kind, 1, 5, 0)


def test_a_layer_is_whole_or_all_of_its_shards() -> None:
    owner = whole_and_divided(LLAMA, [0, 1]).owner
    Placement(owner).check(LLAMA, 2)
    for block in (ffn(1, 5), proj(0, 2)):
        fewer = {other: device for other, device in owner.items() if other != block}
        with pytest.raises(PlacementError, match=rf"{block.kind}\({block.layer},{block.group}\) is on no device"):
            Placement(fewer).check(LLAMA, 2)
    with pytest.raises(PlacementError, match=r"ffn\(0\) is placed but not part of the model"):
        Placement({**owner, ffn(0): 0}).check(LLAMA, 2)
    with pytest.raises(PlacementError, match=r"ffn\(0,48\) is placed but not part of the model"):
        Placement({**owner, ffn(0, 48): 0}).check(LLAMA, 2)


def test_the_closed_form_of_a_step_refuses_shards() -> None:
    placement = whole_and_divided(LLAMA, [0, 1])
    seen = view(LLAMA, [2**30] * 2, [Compute(1e9, 1e9, 0.0)] * 2, 4, 8)
    with pytest.raises(PlacementError, match=r"proj\(0\) is on no device as a whole, and shards have no layout"):
        step_s(seen, placement)


# -- time -----------------------------------------------------------------------------------------------------------


@SLOW
@given(st.data(), shapes(), WAYS, clusters(N_DEVICES), st.integers(1, 9))
def test_a_step_takes_every_operation_of_its_kind_once(
    data: st.DataObject, shape: ModelShape, way: tuple[CollectiveAlgorithm, int | None], cluster: Cluster, rows: int
) -> None:
    placement = data.draw(divided_placements(shape, N_DEVICES))
    program = compile_routes(placement, shape, way[0], tile_rows=way[1])
    costs = PhysicalCosts(shape)
    computes = [device.compute for device in cluster.devices if device.compute]
    made = predict(cluster, costs, program, roofline_durations(computes, costs), rows, 3)
    for step, n in enumerate((rows, 1, 1)):
        ran = sorted(each.op.index for each in made.executions if each.step.step == step)
        assert ran == [op.index for op in program.ops if op.steps.has(n)]
