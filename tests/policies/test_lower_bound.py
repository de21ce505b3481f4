"""Lower bounds: no placement on no cluster is faster in the simulator, and simple cases are exact."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import clusters, devices, divided_placements, placements, shapes

from edgeemu.cluster.at_best import at_best
from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Mesh
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.search.lower_bound import least_busy_s, least_first_token_s, least_step_s, least_token_s
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.oracle import oracle_view
from edgeemu.policies.view.rehearsal import Length
from edgeemu.timeline.prediction import SequenceTimes, predict_workload
from edgeemu.timeline.scheduler import Scheduler
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.shape import ModelShape

NEW_TOKENS = 3
ROUNDING = 1 - 1e-9


def simulated(
    cluster: Cluster, view: ClusterView, placement: Placement, *, tile_rows: int | None = 1, sequences: int = 1
) -> list[SequenceTimes]:
    """Times of equal sequences at once under a placement."""
    computes = [device.compute for device in view.devices]
    program = compile_routes(placement, view.costs.shape, "star" if view.star else "ring", tile_rows=tile_rows)
    schedule = Scheduler([Length(view.prompt_tokens, NEW_TOKENS)] * sequences, sequences)
    duration = roofline_durations(computes, view.costs)
    return predict_workload(cluster, view.costs, program, duration, schedule, [NEW_TOKENS] * sequences)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Cluster, ClusterView, Placement, int | None]:
    """A disturbed cluster with just the memory that a placement needs, its view at its best, and that placement."""
    n_devices, shape = draw(st.integers(1, 4)), draw(shapes())
    cluster, kinds = draw(clusters(n_devices)), (placements, divided_placements)
    placement = draw(draw(st.sampled_from(kinds))(shape, n_devices))
    rows = draw(st.integers(1, 20))
    best = at_best(cluster)
    view = replace(oracle_view(best, PhysicalCosts(shape), None, rows, rows + NEW_TOKENS), star=draw(st.booleans()))
    needs_bytes = [usage.page().total_bytes for usage in view.usages(placement)]
    tight = [replace(d, memory_bytes=need) for d, need in zip(view.devices, needs_bytes, strict=True)]
    if draw(st.booleans()):
        view = replace(view, devices=tuple(tight))
    return cluster, view, placement, draw(st.sampled_from((None, 1, 3)))


@settings(max_examples=30, deadline=None)
@given(cases())
def test_no_placement_is_faster_than_the_bounds(case: tuple[Cluster, ClusterView, Placement, int | None]) -> None:
    cluster, view, placement, tile_rows = case
    (times,) = simulated(cluster, view, placement, tile_rows=tile_rows)
    assert times.ttft_s >= least_first_token_s(view) * ROUNDING
    quick = len(view.devices) * view.costs.shape.n_layers <= 4
    least_s = least_step_s(view, thorough=quick)
    if quick:
        assert times.sampled_s[-1] >= NEW_TOKENS * least_token_s(view, NEW_TOKENS) * ROUNDING
    for before_s, after_s in zip(times.sampled_s, times.sampled_s[1:], strict=False):
        assert after_s - before_s >= least_s * ROUNDING


@settings(max_examples=20, deadline=None)
@given(cases(), st.integers(2, 6))
def test_however_many_sequences_run_at_once_each_token_keeps_devices_busy(
    case: tuple[Cluster, ClusterView, Placement, int | None], concurrency: int
) -> None:
    cluster, view, placement, tile_rows = case
    times = simulated(cluster, view, placement, tile_rows=tile_rows, sequences=concurrency)
    tokens = NEW_TOKENS * concurrency
    assert max(each.sampled_s[-1] for each in times) >= tokens * least_busy_s(view, view.prompt_tokens - 1) * ROUNDING
    assert min(each.ttft_s for each in times) >= least_first_token_s(view) * ROUNDING


@settings(max_examples=30, deadline=None)
@given(cases())
def test_a_step_takes_no_less_than_it_keeps_devices_busy(
    case: tuple[Cluster, ClusterView, Placement, int | None],
) -> None:
    _, view, _, _ = case
    past = view.prompt_tokens
    assert least_busy_s(view, past - 1) * ROUNDING <= least_step_s(view, past), "so the first is for several sequences"


SHAPE = ModelShape("small", 2, 64, 4, 4, 16, 128, 200, 128)


def pair(link: Link, *speeds: float, memory_bytes: int = 2**40) -> tuple[Cluster, ClusterView]:
    computes = [Compute(1e12, speed, 1e-5) for speed in speeds]
    every = devices(computes, [memory_bytes] * len(computes))
    cluster = Cluster("pair", 0, every, Mesh(len(every), lambda *_: link))
    return cluster, oracle_view(cluster, PhysicalCosts(SHAPE), None, 4, 4 + NEW_TOKENS)


def test_where_links_are_slow_the_bound_is_the_faster_device_alone() -> None:
    cluster, view = pair(Link(1e5, 1.0), 1e8, 5e8)
    (alone,) = simulated(cluster, view, Placement(dict.fromkeys(all_blocks(SHAPE), 1)))
    assert alone.sampled_s[1] - alone.sampled_s[0] == pytest.approx(least_step_s(view))
    assert alone.ttft_s == pytest.approx(least_first_token_s(view), rel=0.15)  # without the products for queries


def test_where_links_take_no_time_a_layer_is_divided_by_speed() -> None:
    _, view = pair(Link(1e15, 0.0), 1e8, 1e8)
    _, alone = pair(Link(1e15, 0.0), 1e8)
    assert 0.5 < least_step_s(view) / least_step_s(alone) < 0.65


def test_memory_of_all_devices_together_counts() -> None:
    """Both devices hold half of the model: the slow one has work that it would not have with more memory."""
    _, roomy = pair(Link(1e15, 0.0), 1e8, 1e10)
    whole = Placement(dict.fromkeys(all_blocks(SHAPE), 0))
    need_bytes = roomy.usages(whole)[0].page().total_bytes
    _, tight = pair(Link(1e15, 0.0), 1e8, 1e10, memory_bytes=need_bytes * 6 // 10)
    assert least_step_s(tight) > 5 * least_step_s(roomy)
    _, far = pair(Link(1e15, 0.5), 1e8, 1e10, memory_bytes=need_bytes * 6 // 10)
    assert least_step_s(far, thorough=True) > 1.0 > least_step_s(far), "x goes there and comes back"


def test_that_nothing_fits_is_proven() -> None:
    _, view = pair(Link(1e9, 1e-3), 1e8, 1e8, memory_bytes=1000)
    assert least_step_s(view) == least_first_token_s(view) == float("inf")


def test_on_many_devices_hops_are_left_out() -> None:
    chance = random.Random(1)
    cluster, view = pair(Link(1e8, 1e-3), *(chance.uniform(1e8, 1e9) for _ in range(70)))
    (single,) = simulated(cluster, view, Placement(dict.fromkeys(all_blocks(SHAPE), 0)))
    assert 0 < least_step_s(view) < (single.sampled_s[1] - single.sampled_s[0]) / 10
