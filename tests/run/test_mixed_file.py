"""A GGUF file with another format for each tensor: its plan's sizes, and texts wherever its blocks are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.builders import scattered
from support.gguf_files import MIXED, Q, byte_tokenizer, write
from support.kernel_shapes import WIDE
from support.memory_cluster import MemoryCluster

from edgeemu.device.held_blocks import HeldBlocks
from edgeemu.errors import RequestError
from edgeemu.placement.blocks import EMBED, Kind, all_blocks, ffn
from edgeemu.placement.model_bytes import model_bytes
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.run.ask_policy import fault, first_decision
from edgeemu.run.make_plan import make_plan
from edgeemu.run.plan import Plan
from edgeemu.scenario.load import parse_scenario
from edgeemu.timeline.steps import Step
from edgeemu_kernels.packed import PackedMatrix, raw_of
from edgeemu_kernels.reference import Reference

SCENARIO = """
model: {{gguf: mixed.gguf}}
precision: {{weights: file}}
devices: [{{name: d, count: 3, gflops: 1000 GFLOPS, mem_bandwidth: 1 GB/s, memory: {memory}}}]
network: {{default: {{bandwidth: 100 Mbit/s, delay: 1 ms}}}}
workload: {{prompts: [{{tokens: 6}}], max_tokens: 5}}
"""
PROMPT = [5, 3, 8, 2, 1, 7]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shape = replace(WIDE, n_layers=3, vocab_size=257)
    write(tmp_path / "mixed.gguf", shape, quantised=Q.Q4_K, kinds=MIXED, metadata=byte_tokenizer())
    return tmp_path


def plan_of(folder: Path, policy: str, memory: str = "8 MiB") -> Plan:
    return make_plan(parse_scenario(SCENARIO.format(memory=memory), "s", base=folder), policy)


def test_sizes_are_those_of_the_tensors(folder: Path) -> None:
    plan = plan_of(folder, "single")
    source = plan.model.open_source()
    ends = source.embed().weight_bytes + source.lm_head().weight_bytes
    layers = [
        (source.heads(layer, [0, 1]).weight_bytes, source.proj(layer).weight_bytes, source.ffn(layer).weight_bytes)
        for layer in range(3)
    ]
    assert model_bytes(plan.model.shape) == ends + sum(map(sum, layers))
    assert sum(page.weights_bytes for page in plan.pages) == ends + sum(map(sum, layers))
    assert [plan.costs.weight_bytes(ffn(layer)) for layer in range(3)] == [ffn_bytes for _, _, ffn_bytes in layers]


def test_time_passes_by_the_bytes_of_each_layer(folder: Path) -> None:
    plan = plan_of(folder, "single")
    heads = {op.layer: op for op in plan.program.ops if op.kind == "head"}
    times_s = [plan.durations(heads[at], Step(0, 1, 1, 6)) for at in range(3)]
    read = [plan.costs.heads_weight_bytes(2, at) + 2 * plan.costs.kv_bytes(7) for at in range(3)]
    assert times_s == [pytest.approx(size / 1e9) for size in read]


def test_a_placement_that_just_fits_is_right(folder: Path) -> None:
    """Policies count every layer as the mean; answers are checked by the bytes of each."""
    needed = plan_of(folder, "single").pages[0].total_bytes
    for memory, fits in ((needed, True), (needed - 1, False)):
        view = plan_of(folder, "round-robin", f"{memory} B").view
        placed = Placement(dict.fromkeys(all_blocks(view.costs.shape), 0))
        assert view.held_bytes(placed) == {0: needed}
        assert (fault(placed, view) == "") == fits


def test_a_policy_that_fits_only_the_mean_is_asked_again(folder: Path) -> None:
    """Layer 0 is too much for its device by its own bytes."""
    plan = plan_of(folder, "single")
    asked: list[int] = []

    def first_two(view: ClusterView, _: Placement | None) -> Placement:
        asked.append(view.costs.weight_bytes(ffn(0)))
        owner = {block: int(block.layer > 1 - len(asked) or block.kind is Kind.LM_HEAD) for block in all_blocks(shape)}
        return Placement(owner)

    shape = plan.model.shape
    usage = plan.view.empty_usage()
    for block in all_blocks(shape):
        if block.kind is not Kind.LM_HEAD and block.layer <= 0:
            usage.add(block)
    tight = DeviceView("tight", plan.view.devices[0].compute, usage.page().total_bytes - 1)
    view = replace(plan.view, devices=(tight, *plan.view.devices[1:]))
    assert first_decision(first_two, view, 5.0).placement.on(0) == [EMBED]
    assert asked[0] < asked[1]


@pytest.mark.parametrize("seed", range(3))
def test_texts_are_the_references_wherever_blocks_are(folder: Path, seed: int) -> None:
    plan = plan_of(folder, "galaxy" if seed else "lookahead")
    shape = plan.model.shape
    placement = scattered(shape, 3, seed) if seed == 1 else plan.placement
    source = plan.model.open_source()
    made = MemoryCluster(source, placement, 3, len(PROMPT), len(PROMPT) + 5).generate(PROMPT, 5, order=seed)
    assert made.tokens == Reference(source).generate(PROMPT, 5)
    assert raw_of(source.heads(0, [0]).weights[-1]).nbytes == 64 * 210


def test_expanded_matrices_give_the_same_text_and_count_nothing(folder: Path) -> None:
    plan = plan_of(folder, "galaxy")
    expanded = make_plan(parse_scenario(SCENARIO.format(memory="8 MiB"), "s", ["precision.hold=expanded"], base=folder))
    shape, usual = expanded.model.shape, plan.model.shape
    assert shape.precision.held_bytes(144) == 144 + 4 * 256  # of the leanest format, q4_k
    assert usual.precision.held_bytes(144) == 144
    made = [
        MemoryCluster(each.model.open_source(), plan.placement, 3, len(PROMPT), len(PROMPT) + 5)
        for each in (plan, expanded)
    ]
    assert made[0].generate(PROMPT, 5).tokens == made[1].generate(PROMPT, 5).tokens
    assert [device.ledger.page() for device in made[0].devices] == [device.ledger.page() for device in made[1].devices]


def test_blocks_that_arrive_are_expanded_too(folder: Path) -> None:
    source = plan_of(folder, "single").model.with_expanded().open_source()
    here, there = HeldBlocks(source), HeldBlocks(source)
    here.load(Kind.FFN, 0, [])
    there.load(Kind.HEAD, 0, [0, 1])
    there.exchange({(Kind.FFN, 0): ()}, {ffn(0): here.weights(ffn(0))})
    for matrix in (here.ffns[0].down, there.ffns[0].down):
        assert isinstance(matrix, PackedMatrix)
        np.testing.assert_array_equal(matrix.expanded, matrix.decoded())
    assert here.weight_bytes == there.weight_bytes == source.ffn(0).weight_bytes


def test_float32_has_nothing_to_expand(folder: Path) -> None:
    with pytest.raises(RequestError, match="f32 has nothing to expand"):
        parse_scenario(SCENARIO.format(memory="8 MiB"), "s", ["precision={hold: expanded}"], base=folder)
