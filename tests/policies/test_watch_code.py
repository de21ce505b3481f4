"""Machine code learns from measurements what NumPy learns, to the last bit."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builders import LLAMA, QUICK, divided_placements, even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Link
from edgeemu.placement.compile import compile_routes
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.policies.compiled.watch_code import EstimatorCode
from edgeemu.policies.view.cluster_view import ClusterView, WorkloadView
from edgeemu.policies.view.device_view import DeviceView
from edgeemu.policies.view.estimator import Estimator
from edgeemu.policies.view.history import DecisionTime
from edgeemu.policies.view.link_factors import LinkFactors, coded
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.timeline.clock import Occupation
from edgeemu.timeline.columns import Columns
from edgeemu.timeline.executed import ExecutedOps, OpColumns
from edgeemu.timeline.network import Transit
from edgeemu.timeline.steps import OperationRecord, Step

N = 9  # devices: some of their pairs are measured late
SPEEDS = [Compute(1e9 * (n + 1), 2e9 / (n + 1), 1e-5 * n) for n in range(N)]
COSTS = PhysicalCosts(LLAMA)
X_BITS = 8.0 * COSTS.activation_bytes(1)
WIRED, AT_ONCE = Link(10e6, 0.005), Link(10e6, 0.0)


def numbers(arrays: Sequence[object]) -> list[object]:
    """Arrays as lists, in which NaN is equal to itself."""
    return [str(np.asarray(array).tolist()) for array in arrays]


def seen(cluster: Cluster) -> ClusterView:
    """The cluster without load, before anything was measured."""
    devices = tuple(DeviceView(f"d{n}", speed, 2**40) for n, speed in enumerate(SPEEDS))
    return ClusterView(COSTS, devices, LinkMatrix.of(cluster), WorkloadView(5, 9))


def learned(known: Estimator, base: ClusterView) -> list[object]:
    """All that others ask an estimator for, but what it expects."""
    view, doubtful = known.view(base), known.doubtful(1.25, coded([(0, 1), (8, 7)]))
    observed, (newest, slow) = LinkFactors.of(view.observed), known.newest_links(X_BITS)
    links = view.links.delay_s.block(np.arange(N), np.arange(N)), view.links.s_per_bit.block(np.arange(N), np.arange(N))
    speeds = view.flops_per_s, view.mem_bytes_per_s, view.overhead_s, view.memory_bytes, known.slowdowns()
    factors = [np.array([each.sources, each.targets, each.delay, each.per_bit]) for each in (observed, newest)]
    orders = [np.lexsort((targets, sources)) for sources, targets, *_ in factors]
    waits_s = [known.queueing_s(device) for device in range(N)]
    return [
        *numbers([*speeds, *links, *factors[0][:, orders[0]], *factors[1][:, orders[1]], slow[orders[1]], waits_s]),
        *(each.tolist() for each in (*doubtful, known.newest_codes())),
    ]


@st.composite
def some_transits(draw: st.DrawFn) -> list[Transit] | Columns[Transit]:
    """Messages of a step between any devices; those of no bytes take no time where a link has no delay."""
    ends = st.lists(st.integers(0, N - 1), min_size=2, max_size=2, unique=True)
    rows = [
        Transit(*draw(ends), draw(st.sampled_from([0, 64, 9_000])), draw(st.integers(1, 3)), draw(st.floats(1e-6, 9.0)))
        for _ in range(draw(st.integers(0, 12)))
    ]
    if not draw(st.booleans()):
        return rows
    kinds = np.int64, np.int64, np.int64, np.int64, np.float64
    return Columns(Transit, [np.array([row[at] for row in rows], kind) for at, kind in enumerate(kinds)])


@settings(QUICK, max_examples=40)
@given(st.data(), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([WIRED, AT_ONCE]), st.booleans())
def test_estimates_are_the_same(data: st.DataObject, smoothing: float, link: Link, begins_otherwise: bool) -> None:
    cluster = even_cluster(N, link)
    base, at_start = seen(cluster), {(3, 1): (2.0, 5.0), (0, 8): (1.0, 0.5)} if begins_otherwise else {}
    both = [each(cluster, SPEEDS, COSTS, smoothing, base.links, at_start) for each in (Estimator, EstimatorCode)]
    programs = [compile_routes(data.draw(divided_placements(LLAMA, N)), LLAMA, "ring") for _ in range(2)]
    for number in range(data.draw(st.integers(1, 12))):
        ops = OpColumns(data.draw(st.sampled_from(programs)).ops)
        for _ in range(data.draw(st.integers(0, 2))):
            steps = [Step(sequence, number, 1, 5 + number) for sequence in range(data.draw(st.integers(1, 2)))]
            places = data.draw(st.lists(st.integers(0, len(ops.ops) - 1), max_size=8, unique=True))
            took_s = data.draw(st.floats(1e-6, 3.0))
            rows = [(at, at + 0.1, at + 0.3, at + 0.3 + took_s, -1) for at in places]
            executed: Sequence[OperationRecord] = ExecutedOps.of_step(ops, steps[0], rows)
            if len(steps) == 2:
                executed = [
                    OperationRecord(ops.ops[at], step, Occupation(*times)) for step in steps for at, *times, _ in rows
                ]
            transits = data.draw(some_transits())
            for known in both:
                known.observe_executions(executed)
                known.observe_transits(transits)
        shares = data.draw(st.lists(st.sampled_from([0.1, 0.5, 1.0]), min_size=N, max_size=N))
        for known in both:
            known.observe_states(shares, [2**30 + number] * N)
        assert learned(both[0], base) == learned(both[1], base)


@settings(QUICK, max_examples=40)
@given(st.data(), st.sampled_from([0.5, 1.0]))
def test_expectations_are_the_same(data: st.DataObject, smoothing: float) -> None:
    """Devices that are at rest, and links, slow down and recover again and again."""
    cluster, times = even_cluster(N, WIRED), st.sampled_from([0.5, 1.0, 1.2, 2.0, 3.0, 50.0])
    pairs, base, now = [(0, 1), (1, 0), (8, 7), (3, 5)], seen(cluster), DecisionTime(0, 0.0, 0.0)
    both = [each(cluster, SPEEDS, COSTS, smoothing, base.links, {}) for each in (Estimator, EstimatorCode)]
    unsteady = data.draw(st.sampled_from([0.0, 0.3, 1.0]))  # share of devices that change at all
    for _ in range(data.draw(st.integers(1, 30))):
        now = now.later(data.draw(st.integers(1, 3)), now.at_s + data.draw(st.floats(0.001, 2.0)), paused=False)
        shares = [1.0 / data.draw(times) if device < unsteady * N else 1.0 for device in range(N)]
        took = [(pair, size, data.draw(times)) for pair in pairs if data.draw(st.booleans()) for size in (64, 9_000)]
        sent = [Transit(*pair, size, 1, slow * (8 * size / 10e6 + 0.005)) for pair, size, slow in took]
        found = []
        for known in both:
            known.observe_transits(sent)
            known.observe_states(shares, [2**30] * N)
            known.view(base)
            found.append(known.outlook(now, X_BITS))
        kept, made = (
            numbers([each.devices, each.sources, each.targets, *each.of_devices[:3], *each.of_links]) for each in found
        )
        assert kept == made
        assert found[0].unsteady == found[1].unsteady
        assert bool(found[0]) == bool(found[1])
