"""Step times and memory are computed by several functions, each fast for its use: they agree wherever they overlap.

Times agree with each other and with the simulator, memory with `placement.memory` to the byte.
"""

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, placements, shapes, uneven_mesh, view, with_workload
from support.one_sequence import Prediction, predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, all_blocks, ffn, layer_blocks, proj
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.memory import usages
from edgeemu.placement.placement import Placement
from edgeemu.policies import galaxy
from edgeemu.policies.search import pipeline_moves
from edgeemu.policies.search.head_split import best_split
from edgeemu.policies.search.layer_runs import whole_layers_room
from edgeemu.policies.search.partial_placement import Moved, PartialPlacement
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_time import StepTimes, step_s
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.shape import ModelShape

N = 4
PROMPT, TOTAL = 7, 30
SEEDS = st.integers(0, 2**32)
EXACT = {"rel": 1e-9, "abs": 0.0}


def simulated(cluster: Cluster, seen: ClusterView, placement: Placement) -> Prediction:
    """The complete sequence: its last step is at the full length."""
    costs = seen.costs
    durations = roofline_durations([device.compute for device in seen.devices], costs)
    return predict(cluster, costs, compile_routes(placement, costs.shape), durations, PROMPT, TOTAL - PROMPT)


def busy_s(prediction: Prediction, step: int, kinds: tuple[Kind, ...]) -> float:
    """Time of all operations of these kinds in a step."""
    return sum(
        done.time.end_s - done.time.start_s
        for done in prediction.executions
        if done.step.step == step and done.op.kind in kinds
    )


def pipelines(chance: random.Random, n_elements: int) -> list[Stage]:
    """Stages on different devices, in any order, of any length."""
    count = chance.randint(1, min(N, n_elements))
    cuts = [0, *sorted(chance.sample(range(1, n_elements), count - 1)), n_elements]
    order = chance.sample(range(N), count)
    return [Stage(device, cuts[n], cuts[n + 1]) for n, device in enumerate(order)]


@QUICK
@given(shapes(), SEEDS)
def test_layers_and_models_on_one_device(shape: ModelShape, seed: int) -> None:
    """`ClusterView`, `StepTimes`, `StageCosts`, galaxy and the simulator."""
    cluster = uneven_mesh(N, seed)
    seen = oracle_view(cluster, PhysicalCosts(shape), None, PROMPT, TOTAL)
    times, stages = StepTimes(seen, TOTAL - 1), StageCosts(seen)
    layer = (Kind.HEAD, Kind.PROJ, Kind.FFN)
    for device in range(N):
        alone = Placement(dict.fromkeys(all_blocks(shape), device))
        ran = simulated(cluster, seen, alone)
        last = TOTAL - PROMPT - 1
        past = ran.executions[-1].step.past  # of the last step: one position less than at the sequence's end
        shorter = StepTimes(seen, past)
        assert busy_s(ran, last, layer) == pytest.approx(shape.n_layers * shorter.whole_layer_s[device], **EXACT)
        assert ran.sampled_s[-1] - ran.sampled_s[-2] == pytest.approx(
            shorter.step_s(PlacementArrays.of(alone, shape)), **EXACT
        )
        assert busy_s(ran, 0, layer) == pytest.approx(shape.n_layers * galaxy.layer_s(seen, device), **EXACT)
        assert seen.layer_time_s(device) == pytest.approx(times.whole_layer_s[device], **EXACT)
        assert seen.layer_time_s(device) == stages.layer_s[device]
        model_s = times.step_s(PlacementArrays.of(alone, shape))
        assert seen.model_time_s(device) == pytest.approx(model_s, **EXACT)
        assert stages.stage_s(Stage(device, 0, stages.n_elements)) == pytest.approx(model_s, **EXACT)
        assert stages.latency_s([Stage(device, 0, stages.n_elements)]) == pytest.approx(model_s, **EXACT)
        assert times.busy_s(PlacementArrays.of(alone, shape))[device] == pytest.approx(model_s, **EXACT)


@QUICK
@given(shapes(max_layers=5), SEEDS)
def test_pipelines_of_complete_layers(shape: ModelShape, seed: int) -> None:
    """`StageCosts`, `StepTimes`, `busiest_s` and the simulator."""
    cluster = uneven_mesh(N, seed)
    seen = oracle_view(cluster, PhysicalCosts(shape), None, PROMPT, TOTAL)
    costs = StageCosts(seen)
    stages = pipelines(random.Random(seed), costs.n_elements)
    placement = costs.placement(stages)
    layout, times = PlacementArrays.of(placement, shape), StepTimes(seen, TOTAL - 1)
    assert costs.latency_s(stages) == pytest.approx(times.step_s(layout), **EXACT)
    longer = simulated(cluster, replace(seen, workload=replace(seen.workload, total_tokens=TOTAL + 1)), placement)
    assert longer.executions[-1].step.past == TOTAL - 2
    one_less = StageCosts(with_workload(seen, total_tokens=TOTAL - 1))
    assert longer.sampled_s[-1] - longer.sampled_s[-2] == pytest.approx(one_less.latency_s(stages), **EXACT)
    back_s = times.links.s_per_bit.pair(stages[-1].device, stages[0].device) * times.token_bits
    busiest_s = max(costs.bottleneck_s(stages), back_s)
    assert pipeline_moves.busiest_s(times, layout) == pytest.approx(busiest_s, **EXACT)


@QUICK
@given(st.data(), shapes(max_layers=5), SEEDS)
def test_placements_in_the_making(data: st.DataObject, shape: ModelShape, seed: int) -> None:
    """`PartialPlacement`, `StepTimes`, `head_split` and the simulator."""
    cluster = uneven_mesh(N, seed)
    seen = oracle_view(cluster, PhysicalCosts(shape), None, PROMPT, TOTAL)
    placement = data.draw(placements(shape, N))
    layout, times = PlacementArrays.of(placement, shape), StepTimes(seen)
    draft = PartialPlacement.of(seen, times, layout)
    assert draft.step_s() == pytest.approx(step_s(seen, placement), **EXACT)
    tokens = simulated(cluster, seen, placement).sampled_s
    assert draft.step_s() == pytest.approx(tokens[1] - tokens[0], **EXACT)
    source, gather = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, N - 1))
    split = best_split(times, source, gather, MemoryHeadroom(seen), 0)
    assert split is not None
    holders = split.counts.nonzero()[0]
    stage_s = times.heads_stage_s(source, gather, holders, split.counts[holders])
    assert split.stage_s == pytest.approx(stage_s, **EXACT)


@QUICK
@given(st.data(), shapes(max_layers=5))
def test_the_messages_of_a_step_are_those_between_its_blocks(data: st.DataObject, shape: ModelShape) -> None:
    """`StepTimes.message_bits` and the messages between blocks, one by one."""
    cluster = uneven_mesh(N, data.draw(SEEDS))
    seen = oracle_view(cluster, PhysicalCosts(shape), None, PROMPT, TOTAL)
    placement = data.draw(placements(shape, N))
    times = StepTimes(seen)
    bits = times.message_bits(PlacementArrays.of(placement, shape))
    sent: dict[tuple[int, int], float] = defaultdict(float)
    costs = seen.costs.at_step(1, seen.past)
    owner = placement.owner
    sent[owner[LM_HEAD], owner[EMBED]] += 8.0 * costs.token_bytes()
    source = owner[EMBED]
    for layer in range(shape.n_layers):
        heads = [owner[block] for block in layer_blocks(shape, layer) if block.kind is Kind.HEAD]
        gather = owner[proj(layer)]
        for target in {*heads, gather}:
            sent[source, target] += 8.0 * costs.activation_bytes(1)
        for device in set(heads):
            sent[device, gather] += 8.0 * costs.attention_bytes(heads.count(device), 1)
        source = owner[ffn(layer)]
        sent[gather, source] += 8.0 * costs.activation_bytes(1)
    sent[source, owner[LM_HEAD]] += 8.0 * costs.activation_bytes(1)
    assert bits == pytest.approx({pair: size for pair, size in sent.items() if pair[0] != pair[1]})


@QUICK
@given(st.data(), shapes(max_layers=5), SEEDS)
def test_memory_to_the_byte(data: st.DataObject, shape: ModelShape, seed: int) -> None:
    """`placement.memory`, `ClusterView`, `MemoryHeadroom` and `PartialPlacement`."""
    concurrent = data.draw(st.sampled_from([(), (TOTAL,), (24, 17, 3)]))
    seen = with_workload(view(shape, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, PROMPT, TOTAL), concurrent=concurrent)
    placement = data.draw(placements(shape, N))
    pages = [usage.page().total_bytes for usage in usages(placement, seen.costs, N, PROMPT, TOTAL, concurrent)]
    layout = PlacementArrays.of(placement, shape)
    assert [usage.page().total_bytes for usage in seen.usages(placement)] == pages
    assert MemoryHeadroom.of(seen, layout).total.tolist() == pages
    draft = PartialPlacement.of(seen, StepTimes(seen), layout)
    chance = random.Random(seed)
    for layer in range(shape.n_layers):  # blocks that leave and come back take what they took
        kind = chance.choice([Kind.PROJ, Kind.FFN])
        device = draft.at(kind, layer)
        draft.take(kind, layer)
        draft.put(kind, layer, device)
        counts = draft.groups[layer].copy()
        for holder in np.flatnonzero(counts).tolist():
            draft.take_groups(layer, holder, int(counts[holder]))
        draft.put_groups(layer, counts)
    assert draft.room.total.tolist() == pages


@QUICK
@given(st.data(), shapes(max_layers=5))
def test_what_moved_is_held_where_it_was_and_where_it_is_and_nowhere_between(
    data: st.DataObject, shape: ModelShape
) -> None:
    """Blocks are moved, moved back, and moved on; ends that meet share a table on the way too."""
    seen = view(shape, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, PROMPT, TOTAL)
    before = PlacementArrays.of(data.draw(placements(shape, N)), shape)
    draft = PartialPlacement.of(seen, StepTimes(seen), before)
    devices, layers = st.integers(0, N - 1), st.integers(0, shape.n_layers - 1)
    for _ in range(data.draw(st.integers(0, 12))):
        kind, layer, target = data.draw(st.sampled_from(Kind)), data.draw(layers), data.draw(devices)
        source = data.draw(devices) if kind is Kind.HEAD else draft.at(kind, layer)
        number = int(draft.groups[layer, source]) if kind is Kind.HEAD else 1
        if source == target or not number:
            continue
        moved = [Moved(kind, layer, source, data.draw(st.integers(1, number)))]
        saved = draft.save()
        draft.move(moved, target)
        match data.draw(st.sampled_from(["stay", "back", "restore"])):
            case "back":
                draft.move_back(moved, target)
            case "restore":
                draft.restore(saved)
    after = draft.layout(before)
    both = MemoryHeadroom(seen)
    both.groups = np.maximum(before.counts(N), after.counts(N))
    singles = [(Kind.EMBED, before.embed, after.embed), (Kind.LM_HEAD, before.lm_head, after.lm_head)]
    singles += [(Kind.PROJ, *ends) for ends in zip(before.proj.tolist(), after.proj.tolist(), strict=True)]
    singles += [(Kind.FFN, *ends) for ends in zip(before.ffn.tolist(), after.ffn.tolist(), strict=True)]
    for kind, *ends in singles:
        both.singles[kind][sorted(set(ends))] += 1
    both.recount()
    assert draft.room.total.tolist() == both.total.tolist()
    draft.settle()
    assert draft.room.total.tolist() == MemoryHeadroom.of(seen, after).total.tolist()


@QUICK
@given(shapes(max_layers=5), SEEDS)
def test_memory_of_stages_to_the_byte(shape: ModelShape, seed: int) -> None:
    """`StageCosts` and `whole_layers_room`, against `placement.memory` of the stages' placement."""
    chance = random.Random(seed)
    seen = view(shape, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, PROMPT, TOTAL)
    costs = StageCosts(seen)
    stages = pipelines(chance, costs.n_elements)
    pages = [usage.page().total_bytes for usage in usages(costs.placement(stages), seen.costs, N, PROMPT, TOTAL)]
    for device, first, end in stages:
        layers = min(end, costs.n_elements - 1) - max(first, 1)
        assert costs.total_bytes[first == 0, end == costs.n_elements][max(0, layers)] == pages[device]
    fitting = chance.randint(0, shape.n_layers)
    for spare in (-1, 0):  # one byte too few for so many layers, and just enough
        limit = costs.total_bytes[False, False][fitting] + spare
        tight = replace(seen, devices=tuple(replace(device, memory_bytes=limit) for device in seen.devices))
        room = StageCosts(tight).room(0)
        assert room == fitting + spare
        draft = PartialPlacement.empty(tight, StepTimes(tight))
        assert min(shape.n_layers, int(whole_layers_room(draft)[0])) == max(0, room)
