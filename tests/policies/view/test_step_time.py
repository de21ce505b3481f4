"""The closed form of a step is what the simulator says, and moves take what their links take."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, placements, shapes, uneven_mesh, view, with_workload
from support.one_sequence import predict

from edgeemu.cluster.devices import Compute
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import all_blocks, ffn, head
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.paper_costs import PaperCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.migration_time import MoveCosts, migration_s
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.step_time import StepTimes, step_s
from edgeemu.timeline.steps import roofline_durations

N = 4


@QUICK
@given(st.data())
def test_a_step_takes_what_the_simulator_says(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    cluster = uneven_mesh(N, data.draw(st.integers(0, 2**32)))
    placement = data.draw(placements(shape, N))
    costs = PhysicalCosts(shape)
    seen = oracle_view(cluster, costs, None, 7, 30)
    durations = roofline_durations([device.compute for device in seen.devices], costs)
    program = compile_routes(placement, shape)
    simulated = predict(cluster, costs, program, durations, 7, 2).tpot_s
    assert step_s(seen, placement) == pytest.approx(simulated, rel=1e-9)
    later = predict(cluster, costs, program, durations, 7, 21)
    last_s = later.sampled_s[-1] - later.sampled_s[-2]
    assert step_s(with_workload(seen, length=26), placement) == pytest.approx(last_s, rel=1e-9)


def some_view(length: int) -> ClusterView:
    return with_workload(view(LLAMA, [2**40] * N, [Compute(1e9, 1e9, 0.0)] * N, 7, 30), length=length)


def test_moves_share_a_link_one_after_the_other_and_links_work_side_by_side() -> None:
    seen = some_view(10)
    shape, costs = seen.costs.shape, seen.costs
    old = Placement(dict.fromkeys(all_blocks(shape), 0))
    ffn_s = 8 * costs.weight_bytes(ffn(0)) / 1e8 + 1e-3
    head_s = 8 * (costs.weight_bytes(head(0, 0)) + costs.norm_bytes() + costs.kv_bytes(10)) / 1e8
    assert migration_s(seen, old, old) == 0.0
    assert migration_s(seen, old, old.moved([ffn(0)], 1)) == pytest.approx(ffn_s)
    assert migration_s(seen, old, old.moved([ffn(0), head(0, 1)], 1)) == pytest.approx(ffn_s + head_s)
    apart = old.moved([ffn(0)], 1).moved([head(0, 1)], 2)
    assert migration_s(seen, old, apart) == pytest.approx(ffn_s)


def test_weights_on_flash_do_not_cross_the_link() -> None:
    seen = replace(some_view(10), weights_on_flash=True, flash_bytes_per_s=1e6)
    shape, costs = seen.costs.shape, seen.costs
    old = Placement(dict.fromkeys(all_blocks(shape), 0))
    read_s = costs.weight_bytes(ffn(0)) / 1e6
    assert migration_s(seen, old, old.moved([ffn(0)], 1)) == pytest.approx(read_s)
    fast = replace(seen, flash_bytes_per_s=1e12)
    cache_s = 8 * costs.kv_bytes(10) / 1e8 + 1e-3
    assert migration_s(fast, old, old.moved([head(0, 1)], 1)) == pytest.approx(cache_s)


@QUICK
@given(st.data())
def test_all_layers_at_once_take_what_they_take_one_by_one(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    seen = oracle_view(uneven_mesh(N, data.draw(st.integers(0, 2**32))), PhysicalCosts(shape), None, 7, 30)
    layout = PlacementArrays.of(data.draw(placements(shape, N)), shape)
    times = StepTimes(seen, 20)
    sources = np.array([layout.embed, *layout.ffn[:-1]])
    at_once = times.layers_s(sources, layout.proj, layout.ffn, layout.counts(N))
    assert at_once.tolist() == pytest.approx(times.layer_times_s(layout), rel=1e-12)


@QUICK
@given(st.data(), st.booleans())
def test_moves_of_arrays_take_what_the_same_moves_of_blocks_take(data: st.DataObject, on_flash: bool) -> None:
    shape = data.draw(shapes())
    cluster = uneven_mesh(N, data.draw(st.integers(0, 2**32)))
    seen = replace(oracle_view(cluster, PhysicalCosts(shape), None, 7, 30), weights_on_flash=on_flash)
    old, new = data.draw(placements(shape, N)), data.draw(placements(shape, N))
    layouts = (PlacementArrays.of(placement, shape) for placement in (old, new))
    assert MoveCosts(seen).migration_s(*layouts) == pytest.approx(migration_s(seen, old, new))


def test_the_papers_blocks_take_longer_the_longer_the_sequence() -> None:
    """Also at the very length that the view's costs are of."""
    seen = replace(some_view(10), costs=PaperCosts(LLAMA, prompt_tokens=7, length=11))
    for past in (10, 20):
        works = [(past + 1) * LLAMA.d_model**2 * times for times in (1, 8)]
        times = StepTimes(seen, past)
        assert [times.proj_s[0], times.ffn_s[0]] == pytest.approx([flops / 1e9 for flops in works])
