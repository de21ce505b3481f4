"""EdgeShard's programs against enumeration, MDI-LLM's ring, and the baselines of both papers."""

import random
from dataclasses import replace
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, SLOW, view, with_workload

from edgeemu.cluster.devices import Compute
from edgeemu.errors import InfeasibleError
from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, head, layer_blocks, proj
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies import mdi, policy
from edgeemu.policies.search import pipeline_programs
from edgeemu.policies.search.pipeline_stages import Stage, StageCosts, merged
from edgeemu.policies.search.speed_order import in_order_of_speed
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.step_time import step_s
from edgeemu_kernels.shape import ModelShape

PLANNED = ("mdi", "edgeshard-latency", "edgeshard-throughput", "edge-solo", "cloud-edge-even", "cloud-edge-opt")
ROOMY = 2**40


def model(n_layers: int) -> ModelShape:
    return replace(LLAMA, n_layers=n_layers)


@st.composite
def small_views(draw: st.DrawFn, n_devices: int, max_layers: int, *, tight: bool) -> ClusterView:
    """Uneven devices and links, some devices alike; with `tight`, of memory for a few layers each."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    shape = model(draw(st.integers(1, max_layers)))
    costs = PhysicalCosts(shape)
    whole = StageCosts(view(shape, [ROOMY], [Compute(1e9, 1e9, 0.0)], 8, 24))
    kinds = [Compute(chance.uniform(1e7, 1e9), chance.uniform(1e7, 1e9), chance.choice([0.0, 1e-4])) for _ in range(2)]
    computes = [chance.choice(kinds) for _ in range(n_devices)]
    sizes = [whole.total_bytes[True, True][chance.randint(0, shape.n_layers)] for _ in range(2)]
    memory = [chance.choice(sizes) if tight else ROOMY for _ in range(n_devices)]
    links = {
        (a, b): (chance.choice([1e5, 1e7]), chance.choice([0.0, 1e-3, 1e-2]))
        for a in range(n_devices)
        for b in range(n_devices)
    }
    seen = tuple(DeviceView(f"d{n}", c, m) for n, (c, m) in enumerate(zip(computes, memory, strict=True)))
    source = draw(st.integers(0, n_devices - 1))
    matrix = LinkMatrix.of_pairs(n_devices, lambda a, b: links[a, b][0], lambda a, b: links[a, b][1])
    return ClusterView(costs, seen, matrix, WorkloadView(8, 24), source=source)


def every_assignment(costs: StageCosts) -> list[list[Stage]]:
    """All ways to give every element but the first any device, those that fit."""
    n, source = len(costs.view.devices), costs.view.source
    ways = (merged((source, *rest)) for rest in product(range(n), repeat=costs.n_elements - 1))
    return [stages for stages in ways if costs.view.holds(costs.placement(stages))]


def every_pipeline(costs: StageCosts) -> list[list[Stage]]:
    """All ways to cut the elements into stages on different devices, the first on the source; those that fit."""
    view, found = costs.view, []
    others = [d for d in range(len(view.devices)) if d != view.source]
    for extra in range(len(others) + 1):
        for chosen in permutations(others, extra):
            for cuts in product(range(1, costs.n_elements), repeat=extra):
                borders = (0, *cuts, costs.n_elements)
                if any(a >= b for a, b in pairwise(borders)):
                    continue
                devices = (view.source, *chosen)
                found.append([Stage(d, borders[n], borders[n + 1]) for n, d in enumerate(devices)])
    return [stages for stages in found if view.holds(costs.placement(stages))]


@given(data=st.data(), tight=st.booleans())
@QUICK
def test_the_program_for_latency_is_the_optimum_of_all_assignments(data: st.DataObject, tight: bool) -> None:
    seen = data.draw(small_views(3, 3, tight=tight))
    costs = StageCosts(seen)
    found = pipeline_programs.least_latency(costs, seen.source)
    best_s = min((costs.latency_s(stages) for stages in every_assignment(costs)), default=None)
    if best_s is None:
        assert found is None
        with pytest.raises(InfeasibleError, match="EdgeShard's pipeline cannot hold"):
            policy("edgeshard-latency")(seen, None)
        return
    assert found is not None
    assert costs.latency_s(found) == pytest.approx(best_s, rel=1e-9)
    placed = policy("edgeshard-latency")(seen, None)
    assert seen.holds(placed)
    assert placed.owner[EMBED] == seen.source
    assert step_s(with_workload(seen, length=seen.total_tokens - 1), placed) == pytest.approx(best_s, rel=1e-9)


@given(data=st.data(), tight=st.booleans())
@QUICK
def test_the_program_for_throughput_is_the_optimum_of_all_pipelines(data: st.DataObject, tight: bool) -> None:
    seen = data.draw(small_views(4, 3, tight=tight))
    costs = StageCosts(seen)
    found = pipeline_programs.least_bottleneck(costs, seen.source)
    best_s = min((costs.bottleneck_s(stages) for stages in every_pipeline(costs)), default=None)
    if best_s is None:
        assert found is None
        with pytest.raises(InfeasibleError, match="EdgeShard's pipeline cannot hold"):
            policy("edgeshard-throughput")(seen, None)
        return
    assert found is not None
    assert costs.bottleneck_s(found) == pytest.approx(best_s, rel=1e-9)
    assert seen.holds(costs.placement(found))
    exactly_s = costs.bottleneck_s(found)  # equal stages can differ by rounding, and then more devices can win
    fewest = min(len(s) for s in every_pipeline(costs) if costs.bottleneck_s(s) <= exactly_s)
    assert len(found) == fewest, "of exactly equal bottlenecks, the one with fewer devices"


@given(data=st.data())
@SLOW
def test_in_the_order_of_speed_it_is_the_optimum_of_pipelines_in_that_order(data: st.DataObject) -> None:
    seen = data.draw(small_views(4, 3, tight=True))
    costs = StageCosts(seen)
    found = in_order_of_speed(costs, seen.source, range(4))
    rank = {seen.source: -1} | {
        d: n for n, d in enumerate(sorted(range(4), key=lambda d: (costs.layer_s[d], d))) if d != seen.source
    }
    ordered = [s for s in every_pipeline(costs) if [rank[x.device] for x in s] == sorted(rank[x.device] for x in s)]
    best_s = min(map(costs.bottleneck_s, ordered), default=None)
    assert (None if found is None else costs.bottleneck_s(found)) == pytest.approx(best_s)


@given(data=st.data())
@QUICK
def test_segments_are_what_single_stages_take_where_they_fit(data: st.DataObject) -> None:
    seen = data.draw(small_views(2, 4, tight=True))
    costs = StageCosts(seen)
    whole = merged([1] * costs.n_elements)
    for device in range(2):
        times_s = costs.segments_s(device)
        for first, end in product(range(costs.n_elements), range(1, costs.n_elements + 1)):
            if first >= end:
                assert times_s[first, end] == np.inf
                continue
            stage = Stage(device, first, end)
            blocks = costs.placement([Stage(device, first, end)]).owner
            usage = seen.empty_usages()[0]
            for block in blocks:
                usage.add(block)
            fits = usage.page().total_bytes <= seen.devices[device].memory_bytes
            assert times_s[first, end] == (pytest.approx(costs.stage_s(stage)) if fits else np.inf)
    assert costs.placement(whole).devices() == [1]


def test_many_alike_devices_are_taken_as_a_group() -> None:
    """EdgeShard's testbed has 15 devices of three kinds, and the largest model 82 elements."""
    shape = model(80)
    fast, slow = Compute(4e9, 4e9, 0.0), Compute(1e9, 1e9, 0.0)
    seen = view(shape, [ROOMY] * 15, [fast] * 12 + [slow] * 3, 8, 24)
    groups = pipeline_programs.alike_devices(seen, 0, range(15))
    assert sorted(map(len, groups)) == [1, 3, 11]
    costs = StageCosts(seen)
    found = pipeline_programs.least_bottleneck(costs, 0)
    assert found is not None
    assert len({stage.device for stage in found}) == len(found)
    speed = 12 * 1.0 + 3 * 0.25  # in fast devices: no partition of whole layers can be better
    assert costs.bottleneck_s(found) >= costs.stage_s(Stage(0, 0, costs.n_elements)) / speed
    assert costs.bottleneck_s(found) == pytest.approx(7 * costs.layer_s[0], rel=0.1)


@pytest.mark.parametrize(("layers", "nodes"), sorted(mdi.TABLE))
def test_the_ring_has_the_published_shares(layers: int, nodes: int) -> None:
    seen = view(model(layers), [ROOMY] * nodes, [Compute(1e9, 1e9, 0.0)] * nodes, 8, 24)
    placed = mdi.place(seen)
    starter, secondary = mdi.TABLE[layers, nodes]
    counts = [sum(block.kind is Kind.PROJ for block in placed.on(device)) for device in range(nodes)]
    assert counts == [starter] + [secondary] * (nodes - 1)
    assert placed.owner[EMBED] == placed.owner[LM_HEAD] == 0
    assert sum(counts) == layers, "the published table is whole"


@given(data=st.data())
@QUICK
def test_a_balanced_ring_is_the_best_of_its_order(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 3))
    seen = data.draw(small_views(n, 5, tight=True))
    costs = StageCosts(seen)
    nodes = [(seen.source + k) % n for k in range(min(n, costs.n_layers))]

    def busiest_s(shares: tuple[int, ...]) -> float:
        ends_s = seen.time_s(EMBED, nodes[0]) + seen.time_s(LM_HEAD, nodes[0])
        stages_s = [share * costs.layer_s[d] for share, d in zip(shares, nodes, strict=True)]
        links_s = [costs.occupied_s(a, b) for a, b in pairwise(nodes)]
        return float(max([stages_s[0] + ends_s, *stages_s[1:], *links_s]))

    def ring(shares: tuple[int, ...]) -> Placement:
        owner = {EMBED: nodes[0], LM_HEAD: nodes[0]}
        owners = [d for share, d in zip(shares, nodes, strict=True) for _ in range(share)]
        for layer, d in enumerate(owners):
            owner |= {head(layer, g): d for g in range(LLAMA.n_groups)} | {proj(layer): d, ffn(layer): d}
        return Placement(owner)

    ways = [s for s in product(range(1, costs.n_layers + 1), repeat=len(nodes)) if sum(s) == costs.n_layers]
    fitting = [shares for shares in ways if seen.holds(ring(shares))]
    found = mdi.balanced(costs, nodes)
    if not fitting:
        assert found is None
        return
    assert found is not None
    assert tuple(found) in fitting
    assert busiest_s(tuple(found)) == pytest.approx(min(map(busiest_s, fitting)))


def test_the_baselines_are_what_the_paper_calls_them() -> None:
    shape = model(6)
    seen = view(shape, [ROOMY] * 4, [Compute(1e9, 1e9, 0.0)] * 3 + [Compute(9e9, 9e9, 0.0)], 8, 24)
    seen = replace(seen, source=1)
    assert policy("edge-solo")(seen, None).devices() == [1]
    even = policy("cloud-edge-even")(seen, None)
    assert [even.owner[proj(layer)] for layer in range(6)] == [1, 1, 1, 3, 3, 3]
    assert (even.owner[EMBED], even.owner[LM_HEAD]) == (1, 3)
    best = policy("cloud-edge-opt")(seen, None)
    assert set(best.devices()) <= {1, 3}
    costs = StageCosts(seen)
    cuts = [[Stage(1, 0, cut), Stage(3, cut, 8)] for cut in range(1, 8)] + [[Stage(1, 0, 8)]]
    assert step_s(with_workload(seen, length=23), best) == pytest.approx(min(map(costs.latency_s, cuts)))


@pytest.mark.parametrize("name", PLANNED)
def test_a_planned_placement_stays_while_it_fits_and_says_what_is_missing_where_none_does(name: str) -> None:
    seen = view(model(4), [ROOMY] * 3, [Compute(1e9, 1e9, 0.0)] * 3, 8, 24)
    placed = policy(name)(seen, None)
    slower = replace(seen, devices=(replace(seen.devices[0], compute=Compute(1e6, 1e6, 0.0)), *seen.devices[1:]))
    assert policy(name)(slower, placed) is placed
    tiny = view(model(4), [1000] * 3, [Compute(1e9, 1e9, 0.0)] * 3, 8, 24)
    with pytest.raises(InfeasibleError, match="0 layers in 1000 B"):
        policy(name)(tiny, None)


@given(data=st.data())
@QUICK
def test_memory_of_layers_is_what_blocks_need(data: st.DataObject) -> None:
    """Counted for two layers, and continued: the same in steps of a layer, whatever else is on the device."""
    seen = data.draw(small_views(1, 6, tight=False))
    costs = StageCosts(seen)
    for (embed, lm_head), totals in costs.total_bytes.items():
        usage = seen.empty_usage()
        for block, there in ((EMBED, embed), (LM_HEAD, lm_head)):
            if there:
                usage.add(block)
        held = [usage.page().total_bytes]
        for layer in range(costs.n_layers):
            for block in layer_blocks(seen.costs.shape, layer):
                usage.add(block)
            held.append(usage.page().total_bytes)
        assert list(totals) == held


@given(data=st.data())
@QUICK
def test_with_one_path_kept_the_program_is_the_papers(data: st.DataObject) -> None:
    """DP(i, j) in its plainest form, with the memory of the one path to (i, j)."""
    seen = data.draw(small_views(data.draw(st.integers(2, 5)), 5, tight=True))
    costs, n, last = StageCosts(seen), len(seen.devices), seen.costs.shape.n_layers + 1
    rooms = [costs.room(d, embed=d == seen.source) for d in range(n)]
    at_end = [costs.room(d, embed=d == seen.source, lm_head=True) for d in range(n)]
    best = (
        {seen.source: (float(np.diff(costs.until_s(seen.source))[0]), [seen.source])} if rooms[seen.source] >= 0 else {}
    )
    for element in range(1, last + 1):
        following = {}
        for j in range(n):
            room = at_end[j] if element == last else rooms[j]
            arriving = [
                (time_s + costs.hop_s(k, j), path)
                for k, (time_s, path) in sorted(best.items())
                if path[1:].count(j) + (element < last) <= room
            ]
            if arriving:
                at_s, path = min(arriving, key=lambda found: found[0])
                following[j] = (at_s + float(np.diff(costs.until_s(j))[element]), [*path, j])
        best = following
    ends = [(time_s + costs.token_s(path[-1], seen.source), path) for _, (time_s, path) in sorted(best.items())]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline_programs, "CANDIDATES", 1)
        found = pipeline_programs.least_latency(costs, seen.source, range(n))
    assert found == (merged(min(ends, key=lambda end: end[0])[1]) if ends else None)
