"""Rows of every matrix on several devices, and attention on one: the undivided model's text, within planned memory."""

import random
import tracemalloc
from dataclasses import replace
from itertools import product
from math import gcd
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.builders import GPT2, LLAMA, QUICK, SLOW, clusters, precise_shapes, shapes
from support.memory_cluster import MemoryCluster
from support.one_sequence import predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.device.executor import Executor
from edgeemu.device.sequences import SequenceState
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, all_blocks, ffn, head, n_shards, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.ledger import WEIGHTS, Ledger
from edgeemu.placement.operation_costs import is_last, message_bytes, op_work, op_workspace_bytes
from edgeemu.placement.placement import Placement, PlacementError
from edgeemu.placement.program import Collective, MessageKind, Slot
from edgeemu.placement.work import Work
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.decoder import Decoder
from edgeemu_kernels.packed import WORKSPACE_BYTES
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.sampling import GREEDY
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

N_DEVICES = 4
UNCOUNTED_BYTES = 64 * 1024  # of small objects
WIDE = ModelShape("wide", 2, 128, 8, 4, 16, 384, 96, 64)
LLAMA4 = replace(LLAMA, n_heads=4, n_kv_heads=4)


@st.composite
def gathered_placements(draw: st.DrawFn, shape: ModelShape) -> Placement:
    """Both ends on one device; groups, and shares of projections and feed-forwards, on any, in whole columns."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    root = chance.randrange(N_DEVICES)
    owner: dict[Block, int] = {EMBED: root, LM_HEAD: root}
    for layer in range(shape.n_layers):
        owner |= {head(layer, group): chance.randrange(N_DEVICES) for group in range(shape.n_groups)}
        for kind in (Kind.PROJ, Kind.FFN):
            total = n_shards(shape, kind)
            least, parts = total // gcd(total, shape.d_model), list(range(total))  # shares of whole columns
            chance.shuffle(parts)
            for first in range(0, total, least):
                device = chance.randrange(N_DEVICES)
                owner |= {Block(kind, layer, part): device for part in parts[first : first + least]}
    return Placement(owner)


def equal(shape: ModelShape, n: int) -> Placement:
    """Equal shares of every layer on n devices."""
    owner = {EMBED: 0, LM_HEAD: 0}
    for layer in range(shape.n_layers):
        owner |= {head(layer, g): g * n // shape.n_groups for g in range(shape.n_groups)}
        owner |= {proj(layer, g): g * n // shape.n_groups for g in range(shape.n_groups)}
        owner |= {ffn(layer, c): c * n // shape.ffn_units for c in range(shape.ffn_units)}
    return Placement(owner)


@SLOW
@given(st.data(), shapes() | precise_shapes(), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_any_shares_write_what_the_undivided_model_writes(
    data: st.DataObject, shape: ModelShape, prompt_tokens: int, new_tokens: int, seed: int
) -> None:
    """Weights in any format, messages in any order; devices have as much memory as was planned, and hold all of it."""
    shape = replace(shape, precision=replace(shape.precision, messages="f32"))
    placement = data.draw(gathered_placements(shape))
    placement.check(shape, N_DEVICES)
    source, ids = SeededSource(shape, seed), prompt(shape, prompt_tokens, seed)
    total_tokens = prompt_tokens + new_tokens
    cluster = MemoryCluster(source, placement, N_DEVICES, prompt_tokens, total_tokens, collective="gather")
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page().get(WEIGHTS, 0) == page.weights_bytes
        assert bool(page.cache_bytes) == (device is cluster.devices[placement.owner[EMBED]])
    made = cluster.generate(ids, new_tokens, order=seed)
    expected = Reference(source).logits([*ids, *made.tokens[:-1]])[len(ids) - 1 :]  # [new_tokens, vocab]
    spread = max(1.0, float(np.abs(expected).max()))
    rounded = shape.precision.cache != "f32"  # a last bit decides now and then which number a row of a cache gets
    np.testing.assert_allclose(np.array(made.logits), expected, rtol=0, atol=(0.1 if rounded else 1e-4) * spread)
    if rounded:
        decoder = Decoder(source)
        theirs = [decoder.prefill(ids), *map(decoder.step, made.tokens[:-1])]
        np.testing.assert_array_equal(np.array(made.logits), np.array(theirs))
    else:
        assert made.tokens == Reference(source).generate(ids, new_tokens)
    for page, device in zip(cluster.pages, cluster.devices, strict=True):
        assert device.ledger.page() == ({WEIGHTS: page.weights_bytes} if page.weights_bytes else {})
        last_row_bytes = page.cache_bytes // total_tokens  # planned, and never written
        assert device.ledger.peak_bytes >= page.total_bytes - page.messages_bytes - last_row_bytes
    for sent in cluster.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, PhysicalCosts(shape))


def prompt(shape: ModelShape, tokens: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, shape.vocab_size, tokens)]


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize(("messages", "apart"), [("f16", 0.01), ("q8_0", 0.1)])
def test_shares_cross_in_the_format_of_messages(messages: str, apart: float, n: int) -> None:
    shape = WIDE.at_precision("q4_0", "f32", messages)
    source, ids = SeededSource(shape, 2), prompt(shape, 7, 2)
    cluster = MemoryCluster(source, equal(shape, n), n, 7, 10, collective="gather")
    made = cluster.generate(ids, 3, order=5)
    expected = Reference(source).logits([*ids, *made.tokens[:-1]])[len(ids) - 1 :]
    np.testing.assert_allclose(np.array(made.logits), expected, rtol=0, atol=apart * float(np.abs(expected).max()))
    costs = PhysicalCosts(shape)
    for sent in cluster.sent:
        assert sent.size_bytes == message_bytes(sent.op, sent.rows, costs)


# -- routes ---------------------------------------------------------------------------------------------------------


def test_a_layer_of_two_by_hand() -> None:
    program = compile_routes(equal(LLAMA4, 2), LLAMA4, "gather")
    kinds = [(op.kind, op.device, op.emits.kind, op.to) for op in program.ops if op.layer == 0]
    assert kinds == [
        (Kind.HEAD, 0, MessageKind.PROJECTED, (0,)),
        (Kind.HEAD, 1, MessageKind.PROJECTED, (0,)),
        (Collective.ATTEND, 0, MessageKind.ATTENTION, (0, 1)),
        (Kind.PROJ, 0, MessageKind.COLUMNS, (0,)),
        (Kind.PROJ, 1, MessageKind.COLUMNS, (0,)),
        (Collective.JOIN, 0, MessageKind.RESIDUAL, (0, 1)),
        (Kind.FFN, 0, MessageKind.INNER, (0,)),
        (Kind.FFN, 1, MessageKind.INNER, (0, 1)),
        (Collective.JOIN, 0, MessageKind.LACKING, (1,)),
        (Kind.FFN, 0, MessageKind.COLUMNS, (0,)),
        (Kind.FFN, 1, MessageKind.COLUMNS, (0,)),
        (Collective.JOIN, 0, MessageKind.HIDDEN, (0, 1)),
    ]
    assert [op.columns for op in program.ops if op.columns] == 4 * [(0, 16), (16, 32)]
    lacking = [op for op in program.ops if op.emits.kind is MessageKind.LACKING]
    assert not any(op.computes or op.starts_kernel for op in lacking)
    inner = [op.emits for op in program.ops if op.emits.kind is MessageKind.INNER and op.layer == 0]
    assert list(lacking[0].needs) == inner  # the root sends when it has the columns of all


@QUICK
@given(st.data(), shapes(), clusters(N_DEVICES), st.integers(1, 9))
def test_every_input_is_made_once_and_every_operation_runs_once(
    data: st.DataObject, shape: ModelShape, cluster: Cluster, rows: int
) -> None:
    placement = data.draw(gathered_placements(shape))
    program, root = compile_routes(placement, shape, "gather"), placement.owner[EMBED]
    made: dict[Slot, int] = {}
    for op in program.ops:
        assert op.emits.source == op.device
        assert op.emits not in made
        assert op.to
        assert op.device == root or set(op.to) <= {op.device, root}
        for slot in op.needs:
            assert slot.kind in (MessageKind.PROMPT, MessageKind.TOKEN) or op.device in program.ops[made[slot]].to
        made[op.emits] = op.index
    computes = [device.compute for device in cluster.devices if device.compute]
    costs = PhysicalCosts(shape)
    ran = predict(cluster, costs, program, roofline_durations(computes, costs), rows, 3)
    for step in range(3):
        found = sorted(each.op.index for each in ran.executions if each.step.step == step)
        assert found == [op.index for op in program.ops]


@pytest.mark.parametrize("shape", [replace(LLAMA4, d_ff=64), GPT2], ids=["llama", "gpt2"])
def test_all_shares_together_have_the_work_of_the_undivided_layer(shape: ModelShape) -> None:
    """But for norms, which every device has."""
    costs, rows, past = PhysicalCosts(shape), 5, 11
    program = compile_routes(equal(shape, 2), shape, "gather")

    def total(*kinds: Kind | Collective) -> Work:
        work = Work(0.0, 0.0)
        for op in program.ops:
            if op.layer == 1 and op.kind in kinds:
                work += op_work(op, rows, past, costs)
        return work

    heads, norm = total(Kind.HEAD, Collective.ATTEND), costs.norm_bytes()
    whole = costs.work(Kind.HEAD, shape.n_groups, rows, past)
    assert heads == Work(whole.flops, whole.bytes_read + norm)
    assert total(Kind.PROJ) == costs.work(Kind.PROJ, 1, rows, past)
    whole = costs.work(Kind.FFN, 1, rows, past)
    assert total(Kind.FFN) == Work(whole.flops, whole.bytes_read + norm)


# -- what cannot be gathered ----------------------------------------------------------------------------------------


def test_what_cannot_be_gathered_is_refused_with_the_reason() -> None:
    placement, wide = equal(LLAMA4, 2), WIDE.at_precision(messages="q8_0")
    with pytest.raises(PlacementError, match="needs the embedding and the output matrix on one device"):
        compile_routes(Placement({**placement.owner, LM_HEAD: 1}), LLAMA4, "gather")
    undivided = {**dict.fromkeys(all_blocks(LLAMA4), 0), **{ffn(1, c): c % 2 for c in range(48)}}
    del undivided[ffn(1)]
    with pytest.raises(PlacementError, match=r"needs every layer divided, and proj\(0\) is on one device"):
        compile_routes(Placement(undivided), LLAMA4, "gather")
    with pytest.raises(PlacementError, match=r"shares of whole columns, and those of proj\(0\) are not"):
        compile_routes(equal(LLAMA, 2), LLAMA, "gather")
    with pytest.raises(PlacementError, match="those of layer 0 are not whole blocks of q8_0"):
        compile_routes(equal(wide, 2).moved([ffn(0, 0)], 1), wide, "gather")


def test_whole_layers_in_a_chain_need_no_gathering() -> None:
    placement = Placement({block: max(0, block.layer) for block in all_blocks(LLAMA)})
    assert compile_routes(placement, LLAMA, "gather") == compile_routes(placement, LLAMA)


@pytest.mark.parametrize("rows", [1, 40, 600])
@pytest.mark.parametrize("formats", [("f32", "f32", "f32"), ("q4_0", "q8_0", "q8_0")], ids=["f32", "packed"])
def test_operations_allocate_no_more_than_planned(formats: tuple[str, str, str], rows: int) -> None:
    """NumPy reports its arrays to tracemalloc; inputs are there before, and count as messages. The first step warms."""
    shape = ModelShape("broad", 1, 512, 8, 4, 64, 1536, 96, 1024).at_precision(*formats)
    program, costs = compile_routes(equal(shape, 2), shape, "gather"), PhysicalCosts(shape)
    devices = [Executor(SeededSource(shape, 0), Ledger(f"d{n}", 2**30)) for n in range(2)]
    for n, device in enumerate(devices):
        device.load(program.on(n))
        for sequence in range(2):
            device.open(sequence, rows, rows + 1, SequenceState(GREEDY, keep_logits=False))
    made: dict[Slot, NDArray[Any]] = {program.ops[0].needs[0]: np.arange(rows, dtype=np.int64) % 96}
    for sequence, op in product(range(2), program.ops):
        inputs = [made[slot] for slot in op.inputs(0)]
        tracemalloc.start()
        made[op.emits] = devices[op.device].run(op, sequence, 0, 0, inputs)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if sequence and op.kind not in (Kind.EMBED, Kind.LM_HEAD):
            planned = op_workspace_bytes(op, rows, 0, costs)
            assert peak <= planned + UNCOUNTED_BYTES, op
            assert is_last(op.emits, 1) or planned <= 4 * peak + 3 * WORKSPACE_BYTES, op  # of that it is one row
