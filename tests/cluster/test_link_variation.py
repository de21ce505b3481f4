"""Deliveries of a packet trace: messages pass at its instants, as Mahimahi itself counts packets and bytes."""

from array import array
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, even_cluster

from edgeemu.cluster.link_variation import Deliveries, LinkVariation
from edgeemu.cluster.links import Change, Hop, Link, Path
from edgeemu.cluster.variation import Trace, Uniform, Variation
from edgeemu.timeline.network import serialise

NOISE_S = 1e-3 - 1e-9  # deliveries are a microsecond each, and follow each other within their millisecond


def deliveries(*instants_ms: int) -> Deliveries:
    return Deliveries(array("I", instants_ms).tobytes())


def path(*instants_ms: int, delay_s: float = 0.0) -> Path:
    return Path((Hop(0, 1e6, delay_s, LinkVariation(None, None, None, deliveries(*instants_ms))),), 0.0, 0.0)


def mahimahi_s(instants_ms: list[int], messages: list[tuple[float, int]]) -> list[float]:
    """Instants at which messages (departure in seconds, bytes) are through, by Mahimahi's own loop (link_queue.cc)."""
    through_s: list[float] = []
    queue: list[list[float]] = []
    waiting = sorted(messages)
    base_ms = index = 0
    while len(through_s) < len(messages):
        now_s = (base_ms + instants_ms[index]) / 1e3
        index += 1
        if index == len(instants_ms):
            base_ms, index = base_ms + instants_ms[-1], 0
        while waiting and waiting[0][0] <= now_s:
            queue.append([float(waiting.pop(0)[1])])
        left = 1500.0
        while left > 0 and queue:
            sent = min(left, queue[0][0])
            left -= sent
            queue[0][0] -= sent
            if not queue[0][0]:
                queue.pop(0)
                through_s.append(now_s)
    return through_s


def test_a_message_of_one_packet_waits_for_the_next_instant() -> None:
    trace = path(50, 100, 150)
    for departure_s, arrival_s in [(0.0, 0.05), (0.049, 0.05), (0.051, 0.1), (0.1501, 0.2), (1000.01, 1000.05)]:
        assert serialise(defaultdict(float), trace, 200, departure_s) == pytest.approx(arrival_s, abs=2e-6)


def test_a_small_message_waits_for_the_end_of_an_outage() -> None:
    assert serialise(defaultdict(float), path(10, 20, 78_020, 78_030), 100, 0.021) == pytest.approx(78.02, abs=2e-6)


def test_packets_of_1500_bytes_pass_one_an_instant_and_the_delay_follows() -> None:
    assert serialise(defaultdict(float), path(10, 20, 30, 40, delay_s=0.5), 4500, 0.0) == pytest.approx(0.53, abs=4e-6)
    assert serialise(defaultdict(float), path(10, 20, 30, 40, delay_s=0.5), 4501, 0.0) == pytest.approx(0.54, abs=4e-6)
    assert serialise(defaultdict(float), path(10), 1500 * 1000, 0.0) == pytest.approx(10.0, abs=1e-5)


def test_what_waits_shares_an_instant_and_an_idle_link_loses_it() -> None:
    free = defaultdict[int, float](float)
    together = [serialise(free, path(10, 20, 30), 500, 0.001) for _ in range(4)]
    assert together == pytest.approx([0.01, 0.01, 0.01, 0.02], abs=4e-6)
    free.clear()
    assert serialise(free, path(10, 20, 30), 500, 0.001) == pytest.approx(0.01, abs=2e-6)
    assert serialise(free, path(10, 20, 30), 500, 0.0101) == pytest.approx(0.02, abs=2e-6)


@QUICK
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=12).map(sorted).filter(lambda times: times[-1] > 0),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 9000)), min_size=1, max_size=12),
)
def test_messages_pass_as_mahimahi_passes_them(instants_ms: list[int], sent: list[tuple[int, int]]) -> None:
    messages = sorted((at / 10_000 + 3e-5, size) for at, size in sent)  # between two milliseconds
    messages = [(at_s, max(8, size)) for at_s, size in messages]
    free = defaultdict[int, float](float)
    through_s = [serialise(free, path(*instants_ms), size, at_s) for at_s, size in messages]
    assert through_s == sorted(through_s)
    expected_s = mahimahi_s(instants_ms, messages)
    assert all(0 <= mine_s - its_s < NOISE_S for mine_s, its_s in zip(through_s, expected_s, strict=True))


@QUICK
@given(st.floats(0, 1e6), st.integers(10, 10**6), st.lists(st.integers(1, 900), min_size=1, max_size=50).map(sorted))
def test_late_in_a_long_run_too_each_message_has_its_packets(
    departure_s: float, size_bytes: int, instants_ms: list[int]
) -> None:
    free = defaultdict[int, float](float)
    first_s = serialise(free, path(*instants_ms), size_bytes, departure_s)
    second_s = serialise(free, path(*instants_ms), size_bytes, departure_s)
    both_s = serialise(defaultdict(float), path(*instants_ms), 2 * size_bytes, departure_s)
    assert departure_s < first_s < second_s
    assert second_s == pytest.approx(both_s, abs=2e-6)


def test_a_factor_is_one_on_the_bytes_of_each_delivery() -> None:
    halved = Deliveries(array("I", [10]).tobytes(), Trace((0.0, 0.1), (0.5, 2.0)))
    assert halved.passed_s(0.0, 8 * 1500) == pytest.approx(0.02, abs=2e-6)
    assert halved.passed_s(0.0, 8 * 9 * 750) == pytest.approx(0.09, abs=2e-6)  # 9 deliveries at half
    assert halved.passed_s(0.0, 8 * (9 * 750 + 10 * 3000)) == pytest.approx(0.19, abs=2e-6)


shares = st.one_of(
    st.none(),
    st.builds(Uniform, st.just(0.1), st.just(1.0), st.floats(1e-3, 0.05), st.integers(0, 99)),
    st.builds(Trace, st.just((0.0, 0.02, 0.05)), st.tuples(*[st.floats(0.0, 2.0)] * 3)),
)


@QUICK
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12).map(sorted),
    shares,
    st.lists(st.tuples(st.floats(0, 0.3), st.integers(72, 9000)), min_size=2, max_size=12),
)
def test_arrivals_are_monotonic_in_departure_and_size(
    instants_ms: list[int], share: Variation | None, sent: list[tuple[float, int]]
) -> None:
    varies = Deliveries(array("I", instants_ms).tobytes(), share)
    for departure_s, size_bytes in sent:
        passed_s = varies.passed_s(departure_s, 8.0 * size_bytes)
        assert passed_s > departure_s
        assert varies.passed_s(departure_s + 0.001, 8.0 * size_bytes) >= passed_s
        assert varies.passed_s(departure_s, 8.0 * size_bytes + 8) >= passed_s
    free = defaultdict[int, float](float)
    link = Path((Hop(0, 1e6, 0.0, LinkVariation(deliveries=varies)),), 0.0, 0.0)
    in_order_s = [serialise(free, link, size_bytes, departure_s) for departure_s, size_bytes in sorted(sent)]
    assert in_order_s == sorted(in_order_s)


def test_an_event_changes_the_rate_of_deliveries() -> None:
    link = Link(1.2e6, 0.0, varies=LinkVariation(None, None, None, deliveries(10)))
    changed = even_cluster(2, link).changed(Change(links=((0, 1),), bandwidth_bps=0.6e6), 1.0)
    for departure_s, took_s in [(0.0, 0.02), (1.0, 0.04)]:
        arrival_s = serialise(defaultdict(float), changed.path(0, 1), 3000, departure_s + 1e-3)
        assert arrival_s - departure_s == pytest.approx(took_s, abs=3e-6)


def test_a_long_trace_is_as_quick_as_a_short_one() -> None:
    asked = 0

    class Counted(Deliveries, frozen=True):
        def _start_s(self, slot: int) -> float:
            nonlocal asked
            asked += 1
            return super()._start_s(slot)

    Counted(array("I", range(1, 1_000_001)).tobytes()).passed_s(123_456.7, 8e9)
    assert asked < 100
