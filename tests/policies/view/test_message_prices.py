"""Overheads of messages are in the prices of links, and in nothing else that a policy sees of them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, even_cluster, placements, shapes, uneven_mesh
from support.one_sequence import predict

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.arrays import PlacementArrays
from edgeemu.placement.blocks import EMBED, LM_HEAD, all_blocks
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.message_overheads import with_message_overheads
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.oracle import nominal_computes, oracle_view
from edgeemu.policies.view.share_steps import step_of
from edgeemu.policies.view.share_times import ShareTimes
from edgeemu.policies.view.shares import ShareArrays
from edgeemu.policies.view.step_time import MANY, StepTimes, step_s
from edgeemu.scenario.options import Collectives
from edgeemu.timeline.executed import ExecutedOps
from edgeemu.timeline.steps import roofline_durations
from edgeemu_kernels.shape import ModelShape

N = 4
COSTS = PhysicalCosts(LLAMA)
EVERYONE = np.arange(N)


@st.composite
def busy_meshes(draw: st.DrawFn, bytes_cost: bool = True) -> Cluster:
    """Uneven devices, some of which messages keep busy."""
    cluster = uneven_mesh(N, draw(st.integers(0, 2**32)))
    byte_costs_s = st.sampled_from([0.0, 1e-6] if bytes_cost else [0.0])
    ends = draw(st.lists(st.tuples(st.floats(0, 0.02), byte_costs_s), min_size=N, max_size=N))
    found = []
    for device, (message_s, byte_s) in zip(cluster.devices, ends, strict=True):
        assert device.compute is not None
        compute = replace(device.compute, message_s=message_s, byte_s=byte_s)
        found.append(replace(device, compute=compute, message_overhead_s=message_s, byte_overhead_s=byte_s))
    return Cluster(cluster.name, cluster.seed, tuple(found), cluster.topology)


def one_busy(message_s: float, byte_s: float) -> tuple[Cluster, ClusterView]:
    """A cluster of which messages keep device 1 busy, and the view of it."""
    cluster = uneven_mesh(N, 3)
    device = cluster.devices[1]
    assert device.compute is not None
    compute = replace(device.compute, message_s=message_s, byte_s=byte_s)
    devices = (cluster.devices[0], replace(device, compute=compute), *cluster.devices[2:])
    cluster = Cluster(cluster.name, cluster.seed, devices, cluster.topology)
    return cluster, oracle_view(cluster, COSTS, None, 7, 30)


def simulated_tpot_s(cluster: Cluster, shape: ModelShape, placement: Placement) -> float:
    computes = [device.compute for device in cluster.devices if device.compute is not None]
    busy = [index for index, compute in enumerate(computes) if compute.messages_cost]
    program = with_message_overheads(compile_routes(placement, shape), busy)
    costs = PhysicalCosts(shape)
    found = predict(cluster, costs, program, roofline_durations(computes, costs), 7, 2).tpot_s
    assert found is not None
    return found


@QUICK
@given(shapes(max_layers=5), busy_meshes(), st.lists(st.integers(0, N - 1), min_size=7, max_size=7))
def test_a_step_of_a_chain_takes_what_the_simulator_says(shape: ModelShape, cluster: Cluster, at: list[int]) -> None:
    owner = {block: at[block.layer] for block in all_blocks(shape)} | {EMBED: at[5], LM_HEAD: at[6]}
    expected_s = simulated_tpot_s(cluster, shape, Placement(owner))
    seen = oracle_view(cluster, PhysicalCosts(shape), None, 7, 30)
    assert step_s(seen, Placement(owner)) == pytest.approx(expected_s, rel=1e-9)


@QUICK
@given(st.data(), shapes(), busy_meshes())
def test_where_messages_wait_for_each_other_a_step_takes_nearly_what_the_simulator_says(
    data: st.DataObject, shape: ModelShape, cluster: Cluster
) -> None:
    """Nearly: a device can be at work when a message arrives that it takes in first here."""
    placement = data.draw(placements(shape, N))
    seen = oracle_view(cluster, PhysicalCosts(shape), None, 7, 30)
    assert step_s(seen, placement) == pytest.approx(simulated_tpot_s(cluster, shape, placement), rel=0.15)


@QUICK
@given(st.data(), busy_meshes())
def test_many_layers_at_once_take_what_each_takes(data: st.DataObject, cluster: Cluster) -> None:
    shape = replace(LLAMA, n_layers=2 * MANY)
    layout = PlacementArrays.of(data.draw(placements(shape, N)), shape)
    times, counts = StepTimes(oracle_view(cluster, PhysicalCosts(shape), None, 7, 30)), layout.counts(N)
    ends = zip([layout.embed, *layout.ffn[:-1].tolist()], layout.proj.tolist(), layout.ffn.tolist(), strict=True)
    each_s = [times.layer_s(*at, row.nonzero()[0], row[row > 0]) for at, row in zip(ends, counts, strict=True)]
    assert times.layer_times_s(layout) == pytest.approx(each_s, rel=1e-12)


@QUICK
@given(st.data(), shapes(max_layers=3), busy_meshes())
def test_devices_are_as_busy_as_in_the_simulator(data: st.DataObject, shape: ModelShape, cluster: Cluster) -> None:
    placement, costs = data.draw(placements(shape, N)), PhysicalCosts(shape)
    seen = oracle_view(cluster, costs, None, 7, 30)
    computes = [device.compute for device in seen.devices]
    devices = [index for index, compute in enumerate(computes) if compute.messages_cost]
    program = with_message_overheads(compile_routes(placement, shape), devices)
    made = predict(cluster, costs, program, roofline_durations(computes, costs), 7, 2)
    for device, busy_s in enumerate(StepTimes(seen).busy_s(PlacementArrays.of(placement, shape))):
        mine = [e.time for e in made.executions if e.op.device == device and e.step.step == 1]
        assert busy_s == pytest.approx(sum(time.end_s - time.start_s for time in mine))


STAR_OF = ModelShape("eight groups", 2, 64, 8, 8, 8, 128, 100, 64)


@pytest.mark.parametrize("collective", ["ring", "star"])
@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("byte_s", [0.0, 1e-7])
def test_equal_devices_that_share_all_layers_take_what_the_simulator_says(
    collective: Collectives, n: int, byte_s: float
) -> None:
    """The root of a star sends to all others, and takes in from all, one after the other."""
    computes, costs = [Compute(1e9, 1e9, 1e-5, 1e-3, byte_s)] * n, PhysicalCosts(STAR_OF)
    cluster = even_cluster(n, Link(1e8, 1e-4), compute=computes[0])
    seen = replace(oracle_view(cluster, costs, None, 7, 30), star=collective == "star")
    layers, everyone = (1, STAR_OF.n_layers), np.arange(n)
    heads, units = (np.full((*layers, n), whole // n) for whole in (8, STAR_OF.ffn_units))
    shares = ShareArrays(np.array([0]), np.array([0]), heads, np.full(layers, -1), units).normal()
    program = with_message_overheads(
        compile_routes(shares.placement(0, STAR_OF, everyone), STAR_OF, collective), range(n)
    )
    made = predict(cluster, costs, program, roofline_durations(computes, costs), 7, 2)
    step = step_of(ShareTimes(seen, everyone, 7), shares)
    assert step.step_s[0] == pytest.approx(made.tpot_s, rel=1e-9)
    busy_s = [
        sum(e.time.end_s - e.time.start_s for e in made.executions if e.op.device == d and e.step.step)
        for d in range(n)
    ]
    assert step.busy_s[0] == pytest.approx(busy_s)


def test_both_ends_of_a_message_are_in_its_price() -> None:
    cluster, seen = one_busy(2e-3, 1e-6)
    wire = LinkMatrix.of(cluster)
    for source in range(N):
        for target in range(N):
            more_s = 2e-3 + 1e-6 * 100 if source != target and 1 in (source, target) else 0.0
            expected_s = wire.pair(source, target, 800.0) + more_s
            assert seen.links.pair(source, target, 800.0) == pytest.approx(expected_s, rel=1e-12)
            assert seen.links.wire.pair(source, target, 800.0) == wire.pair(source, target, 800.0)
    for device in range(N):
        row, column = seen.links.row(device, 800.0), seen.links.column(device, 800.0)
        assert row == pytest.approx([seen.links.pair(device, other, 800.0) for other in range(N)], rel=1e-12)
        assert column == pytest.approx([seen.links.pair(other, device, 800.0) for other in range(N)], rel=1e-12)
        assert seen.links.block(EVERYONE, EVERYONE, 800.0)[device] == pytest.approx(row, rel=1e-12)
        ends = np.full(N, device), EVERYONE
        pairs_s = seen.links.s_per_bit.pairs(*ends) * 800.0 + seen.links.delay_s.pairs(*ends)
        assert pairs_s == pytest.approx(row, rel=1e-12)
        others = np.delete(seen.links.delay_s.row(device), device)
        assert seen.links.delay_s.least_in_row(device) == others.min()


def test_without_overheads_links_are_as_they_are() -> None:
    links = LinkMatrix.of(uneven_mesh(N, 3))
    seen = oracle_view(uneven_mesh(N, 3), COSTS, None, 7, 30, links=links)
    assert seen.links is links
    assert replace(seen, still=1).links is links


def test_measured_factors_are_of_the_wire_and_views_keep_their_links() -> None:
    _, seen = one_busy(2e-3, 0.0)
    assert replace(seen, still=1).links is seen.links
    slower = replace(seen, links=seen.links.scaled({(0, 1): (3.0, 2.0)}))
    wire, before = slower.links.wire, seen.links.wire
    assert wire.delay_s.pair(0, 1) == pytest.approx(3 * before.delay_s.pair(0, 1))
    assert wire.s_per_bit.pair(0, 1) == pytest.approx(2 * before.s_per_bit.pair(0, 1))
    assert slower.links.delay_s.pair(0, 1) == pytest.approx(wire.delay_s.pair(0, 1) + 2e-3)
    received = pickle.loads(pickle.dumps(slower.links))
    assert received.pair(0, 1, 800.0) == slower.links.pair(0, 1, 800.0)
    assert received.wire.pair(0, 1, 800.0) == wire.pair(0, 1, 800.0)


def test_overheads_count_as_often_as_a_device_is_measured_to_be_slower_and_measure_nothing_themselves() -> None:
    cluster, base = one_busy(2e-3, 0.0)
    nominal = nominal_computes(cluster, None)
    placement = Placement({block: block.layer % 2 for block in all_blocks(LLAMA)} | {EMBED: 0, LM_HEAD: 0})
    program = with_message_overheads(compile_routes(placement, LLAMA), [1])
    slow = [replace(compute, message_s=9.0) if n == 1 else compute for n, compute in enumerate(nominal)]
    times = roofline_durations(slow, COSTS)
    made = predict(cluster, COSTS, program, lambda op, step: 4.0 * times(op, step), 7, 2)
    assert any(record.op.moves_message for record in made.executions)
    for observed in (made.executions, ExecutedOps.of(made.executions)):
        estimate = Estimator(cluster, nominal, COSTS, 1.0)
        estimate.observe_executions(observed)
        assert estimate.slowdowns()[:2] == pytest.approx([4.0, 4.0])
        seen = estimate.view(base)
        more_s = seen.links.delay_s.pair(0, 1) - seen.links.wire.delay_s.pair(0, 1)
        assert more_s == pytest.approx(4.0 * 2e-3)
