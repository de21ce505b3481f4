"""The estimator learns devices and links from reports, quickly enough."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, devices, divided_placements, even_cluster, scattered

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.links import Hop, Link, Path
from edgeemu.cluster.topology import Mesh
from edgeemu.cluster.variation import Constant, Trace
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.link_factors import Doubtful, Pair, coded, pairs_of
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.timeline.clock import occupy
from edgeemu.timeline.network import Transit, Transits, serialise
from edgeemu.timeline.simulator import Simulator
from edgeemu.timeline.steps import Step, roofline_durations

LINK = Link(10e6, 0.005)
SHEET = Compute(1e9, 1e9, 1e-4)
SIZES = st.lists(st.integers(64, 200_000), min_size=1, max_size=4, unique=True)


def estimate(smoothing: float = 0.5, link: Link = LINK) -> Estimator:
    return Estimator(even_cluster(3, link), [SHEET] * 3, PhysicalCosts(LLAMA), smoothing)


def transit(size_bytes: int, bandwidth_bps: float, delay_s: float) -> Transit:
    return Transit(0, 1, size_bytes, 2, 2 * (8 * size_bytes / bandwidth_bps + delay_s))


def base_view() -> ClusterView:
    seen = tuple(DeviceView(f"d{n}", SHEET, 2**40) for n in range(3))
    links = LinkMatrix.of_pairs(3, lambda *_: 1.0, lambda *_: 1.0)
    return ClusterView(PhysicalCosts(LLAMA), seen, links, WorkloadView(5, 9))


# -- links ----------------------------------------------------------------------------------------------------


def decisions_since(doubtful: Doubtful) -> dict[Pair, int]:
    return dict(zip(pairs_of(doubtful.links), doubtful.turns.tolist(), strict=True))


def test_links_to_ask_for_are_those_that_were_slow_and_those_that_are_named() -> None:
    known = estimate(1.0)
    known.observe_transits([transit(9_000, 10e6, 0.005), Transit(1, 0, 9_000, 1, 1.0)])
    assert known.newest_links(8.0).factors.keys() == set(), "not before a decision"
    known.view(base_view())
    assert known.newest_links(8.0).factors.keys() == {(0, 1), (1, 0)}
    assert known.newest_codes().tolist() == coded([(0, 1), (1, 0)]).tolist()
    assert decisions_since(known.doubtful(1.25)) == {(1, 0): 0}
    known.observe_transits([transit(9_000, 10e6, 0.005)])
    known.view(base_view())
    assert known.newest_links(8.0).factors.keys() == {(0, 1)}
    assert known.newest_codes().tolist() == coded([(0, 1)]).tolist()
    found = decisions_since(known.doubtful(1.25, coded([(0, 1), (1, 2)])))
    assert found == {(0, 1): 0, (1, 0): 1}, "of those that were ever measured"


@QUICK
@given(SIZES, st.integers(1, 5))
def test_a_link_that_is_as_its_data_sheet_stays_so(sizes: list[int], steps: int) -> None:
    known = estimate()
    for _ in range(steps):
        known.observe_transits([transit(size, 10e6, 0.005) for size in sizes])
    assert known.view(base_view()).bandwidth_bps(0, 1) == pytest.approx(10e6, rel=1e-9)
    assert known.view(base_view()).delay_s(0, 1) == pytest.approx(0.005, rel=1e-9)


@QUICK
@given(st.data())
def test_messages_of_a_step_can_be_sent_in_any_order(data: st.DataObject) -> None:
    ends = [(0, 1), (2, 0), (1, 2), (0, 2)]
    steps = [[Transit(*pair, 9_000, 1, data.draw(st.floats(1e-3, 1.0))) for pair in ends] for _ in range(4)]
    one, other = estimate(), estimate()
    for sent in steps:
        for known, transits in ((one, sent), (other, data.draw(st.permutations(sent)))):
            known.observe_transits(transits)
            known.view(base_view())
    assert dict(one.newest_links(8.0).factors) == dict(other.newest_links(8.0).factors)


@QUICK
@given(st.floats(1e6, 50e6), st.floats(1e-3, 5e-2))
def test_two_sizes_tell_bandwidth_from_delay(bandwidth_bps: float, delay_s: float) -> None:
    """Sizes of which one is delayed, and the other transmitted, for the most part."""
    known = estimate()
    for _ in range(12):
        known.observe_transits([transit(size, bandwidth_bps, delay_s) for size in (200, 100_000)])
    assert known.view(base_view()).bandwidth_bps(0, 1) == pytest.approx(bandwidth_bps, rel=0.05)
    assert known.view(base_view()).delay_s(0, 1) == pytest.approx(delay_s, rel=0.05)


@QUICK
@given(st.integers(64, 100_000), st.floats(0.2, 5))
def test_one_size_is_predicted_right_whatever_is_to_blame(size: int, factor: float) -> None:
    known = estimate()
    took_s = factor * (8 * size / 10e6 + 0.005)
    for _ in range(12):
        known.observe_transits([Transit(0, 1, size, 1, took_s)])
    predicted_s = 8 * size / known.view(base_view()).bandwidth_bps(0, 1) + known.view(base_view()).delay_s(0, 1)
    assert predicted_s == pytest.approx(took_s, rel=0.01)


def test_what_took_most_of_the_time_by_the_data_sheet_is_blamed() -> None:
    """A link of a tenth of its bandwidth, or of ten times its delay, seen by messages of one size."""
    transmitted, delayed = estimate(), estimate()
    transmitted.observe_transits([transit(100_000, 1e6, 0.005)])
    assert transmitted.view(base_view()).bandwidth_bps(0, 1) == pytest.approx(1e6, rel=0.01)
    delayed.observe_transits([transit(100, 10e6, 0.05)])
    assert delayed.view(base_view()).delay_s(0, 1) == pytest.approx(0.05, rel=0.01)


def test_links_that_nobody_saw_are_as_their_data_sheet() -> None:
    known = estimate()
    known.observe_transits([transit(1000, 1e6, 0.005)])
    assert known.view(base_view()).bandwidth_bps(1, 0) == 10e6
    assert known.view(base_view()).delay_s(2, 1) == 0.005


def test_the_view_has_rows_of_what_is_known() -> None:
    known = estimate()
    known.observe_transits([transit(200, 2e6, 0.02), transit(50_000, 2e6, 0.02)])
    known.observe_states([1.0, 1.0, 0.5], [1 << 40, 1 << 40, 1000])
    view = known.view(base_view())
    for a in range(3):
        for b in range(3):
            if a != b:
                seen = (a, b) == (0, 1)
                assert view.bandwidth_from(a)[b] == pytest.approx(2e6 if seen else 10e6, rel=0.01)
                assert view.links.delay_s.column(b)[a] == pytest.approx(0.02 if seen else 0.005, rel=0.01)
                assert view.links.s_per_bit.pair(a, b) == 1 / view.bandwidth_bps(a, b) == 1 / view.bandwidth_from(a)[b]
    assert np.isinf(view.bandwidth_from(1)[1])
    assert view.devices[2] == DeviceView("d2", SHEET.slowed(2.0), 1000, installed_bytes=1 << 40)
    assert (view.prompt_tokens, view.total_tokens) == (5, 9)


def test_messages_that_may_have_waited_for_their_own_kind_say_nothing() -> None:
    seen = Transits()
    seen.add(0, 1, 100, 0.0, 0.5)
    seen.add(0, 1, 100, 0.2, 0.7)  # the one before was on its way
    seen.add(0, 2, 100, 0.2, 0.4)  # another connection
    seen.add(0, 1, 100, 0.7, 1.0)
    assert sorted(seen.take()) == [Transit(0, 1, 100, 2, pytest.approx(0.8)), Transit(0, 2, 100, 1, pytest.approx(0.2))]
    assert seen.take() == []


@settings(QUICK, max_examples=8)
@given(divided_placements(LLAMA, 3), st.sampled_from([0.25, 1.0]), st.integers(1, 2))
def test_messages_that_queue_on_an_interface_do_not_make_their_links_slow(
    placement: Placement, smoothing: float, sequences: int
) -> None:
    """Prompts and steps of placements with blocks and shards anywhere; only the link that has changed is found so."""
    usual, slow = Link(1e7, 1e-3), Link(2e6, 1e-3)
    even = even_cluster(3, usual, nic_bps=1e7)
    changed = Cluster("changed", 0, even.devices, Mesh(3, lambda *ends: slow if ends == (0, 1) else usual))
    simulator = Simulator(changed, PhysicalCosts(LLAMA), roofline_durations([SHEET] * 3, PhysicalCosts(LLAMA)))
    known = Estimator(even, [SHEET] * 3, PhysicalCosts(LLAMA), smoothing)
    program, at_s = compile_routes(placement, LLAMA), 0.0
    for step, (rows, past) in enumerate([(12, 0), (1, 12), (1, 13)]):
        for sequence in range(sequences):
            simulator.start(Step(sequence, step, rows, past), program, at_s)
        at_s = max(token.sampled_s for token in simulator.tokens())
        sent = simulator.take_transits()
        known.observe_transits(sent)
        found = known.view(base_view()).observed
        for source, target, size_bytes, *_ in sent:
            delay, per_bit = found[source, target]
            link = slow if (source, target) == (0, 1) else usual
            bits = 8 * size_bytes
            learned_s = delay * usual.delay_s + per_bit * bits / usual.bandwidth_bps
            assert learned_s == pytest.approx(link.delay_s + bits / link.bandwidth_bps, rel=0.1)
            assert link is slow or (delay, per_bit) == pytest.approx((1.0, 1.0), rel=0.01)


# -- devices --------------------------------------------------------------------------------------------------


def executed(availability: float) -> tuple[Simulator, Cluster]:
    """One step on devices of which the second has less than all of itself."""
    made = devices([SHEET] * 3)
    made = (made[0], replace(made[1], availability=Constant(availability)), made[2])
    cluster = Cluster("uneven", 0, made, Mesh(3, lambda *_: LINK))
    simulator = Simulator(cluster, PhysicalCosts(LLAMA), roofline_durations([SHEET] * 3, PhysicalCosts(LLAMA)))
    simulator.start(Step(0, 0, 4, 0), compile_routes(scattered(LLAMA, 2, 1), LLAMA), 0.0)
    assert len(list(simulator.tokens())) == 1
    return simulator, cluster


@pytest.mark.parametrize("smoothing", [0.25, 1.0])
def test_a_slow_device_is_known_by_what_its_operations_took(smoothing: float) -> None:
    slow, cluster = executed(0.25)
    usual, _ = executed(1.0)
    known = Estimator(cluster, [SHEET] * 3, PhysicalCosts(LLAMA), smoothing)
    known.observe_executions(usual.executions)
    assert known.slowdowns() == pytest.approx([1, 1, 1])
    for n in range(1, 4):
        known.observe_executions(slow.executions)
        assert known.slowdowns()[1] == pytest.approx(4 - 3 * (1 - smoothing) ** n)
    assert known.slowdowns()[0] == pytest.approx(1)
    assert known.queueing_s(2) == 0.0


def test_the_first_observation_counts_in_full() -> None:
    slow, cluster = executed(0.25)
    known = Estimator(cluster, [SHEET] * 3, PhysicalCosts(LLAMA), 0.1)
    known.observe_executions(slow.executions)
    assert known.slowdowns()[1] == pytest.approx(4)


def test_a_load_is_taken_from_meters_only_where_nothing_was_executed() -> None:
    slow, cluster = executed(0.25)
    known = Estimator(cluster, [SHEET] * 3, PhysicalCosts(LLAMA), 0.5)
    known.observe_executions(slow.executions)
    known.observe_states([0.5] * 3, [2**20] * 3)
    assert known.slowdowns() == pytest.approx([1, 4, 2])
    known.observe_states([0.5] * 3, [2**20, 2**19, 2**20])
    assert known.slowdowns() == pytest.approx([1.5, 3, 2])
    assert known.view(base_view()).memory_bytes.tolist() == [2**20, 2**19, 2**20]


def test_memory_that_changes_in_the_same_list_is_read_again() -> None:
    known, memory_bytes = estimate(), [2**20] * 3
    known.observe_states([1.0] * 3, memory_bytes)
    memory_bytes[1] = 2**19
    known.observe_states([1.0] * 3, memory_bytes)
    assert known.view(base_view()).memory_bytes.tolist() == [2**20, 2**19, 2**20]


# -- the timeline ---------------------------------------------------------------------------------------------


def test_an_operation_on_a_loaded_device_by_hand() -> None:
    assert occupy(1.0, 2.0, 1.0, Trace((0.0, 2.5), (0.5, 1.0))) == (2.0, 2.0, 3.25)
    assert occupy(3.0, 2.0, 1.0) == (2.0, 3.0, 4.0)


def test_a_message_over_a_link_that_changes_under_way_by_hand() -> None:
    """100 bytes at 800 bit/s take 1 s; from 0.5 s on the rate is a quarter; the delay counts as at the beginning."""
    varies = LinkVariation(Trace((0.0, 0.5), (1.0, 0.25)), Trace((0.0, 1.0), (0.1, 0.3)), Constant(0.05))
    path = Path((Hop(0, 800.0, 0.1, varies), Hop(1, 8000.0, 0.01)), 0.0, 0.0)
    free_s = {0: 0.0, 1: 0.0}
    assert serialise(free_s, path, 100, 0.0) == pytest.approx(0.5 + 2.0 + 0.1 + 0.05 + 0.01)
    assert free_s == {0: 2.5, 1: 0.1}
    assert serialise(free_s, path, 100, 0.0) == pytest.approx(2.5 + 4.0 + 0.3 + 0.05 + 0.01)
    assert path.bandwidth_at(0.0) == 800.0
    assert path.bandwidth_at(0.5) == 200.0
    assert path.delay_at(1.0) == pytest.approx(0.36)
