"""Time that lost packets cost: geometric tries, timeouts that double as TCP's do, and no bound on either."""

from itertools import count
from math import log, nextafter
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, devices

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.links import Hop, Link, Path
from edgeemu.cluster.topology import Line
from edgeemu.timeline.network import DrawKey, disturbance_s
from edgeemu.timeline.retransmission import MAX_RTO_S, MIN_RTO_S, PACKET_BYTES, resent_s, retransmission_s

RATE_BPS = 8_000.0
PACKET_S = PACKET_BYTES / 1000  # at that rate


def extra_of(path: Path, size_bytes: int, messages: int) -> list[float]:
    return [disturbance_s(path, size_bytes, 0, DrawKey(0, 1, 0, step, 0, 0)) for step in range(messages)]


def one_packet(loss: float, *draws: float) -> float:
    return retransmission_s(1, loss, 0.04, 0.0, iter(draws))


def doubled_s(losses: int) -> float:
    return sum(min(MIN_RTO_S * 2**n, MAX_RTO_S) for n in range(losses))


@QUICK
@given(st.integers(1, 60_000), st.floats(0, 0.3), st.floats(0.001, 0.9), st.integers(0, 100))
def test_loss_costs_whole_rounds_and_the_lost_packets_again(
    size_bytes: int, delay_s: float, loss: float, step: int
) -> None:
    path = Path((Hop(0, 4 * RATE_BPS, 0.0), Hop(1, RATE_BPS, delay_s)), 0.0, loss)
    extra_s = disturbance_s(path, size_bytes, 3, DrawKey(0, 1, 0, step, 0, 0))
    if extra_s:
        assert extra_s >= 2 * delay_s + PACKET_S - 1e-9
        if size_bytes <= 3 * PACKET_BYTES:  # no three duplicate acknowledgements can come
            assert extra_s >= MIN_RTO_S + PACKET_S - 1e-9


def test_a_single_lost_packet_costs_timeouts_that_double_and_its_own_transmissions() -> None:
    extra_s = extra_of(Path((Hop(0, RATE_BPS, 0.02),), 0.0, 0.3), 1000, 4000)
    takes = [doubled_s(n) + n * PACKET_S for n in range(15)]
    losses = [min(range(15), key=lambda n: abs(takes[n] - each_s)) for each_s in extra_s]
    assert extra_s == pytest.approx([takes[n] for n in losses])
    for n in range(1, 6):  # the number of tries is geometric
        assert sum(each >= n for each in losses) / 4000 == pytest.approx(0.3**n, abs=0.02)


@pytest.mark.parametrize("losses", [1, 2, 9, 10, 11, 12, 13, 40])
def test_timeouts_double_up_to_two_minutes(losses: int) -> None:
    loss = 0.9
    more = 1.0 - loss ** (losses - 0.5)  # the quantile of so many further losses than the first
    assert one_packet(loss, 0.95, more, 0.0) == pytest.approx(doubled_s(losses))


def test_a_long_round_trip_is_waited_for_before_the_first_timeout() -> None:
    assert retransmission_s(1, 0.5, 1.5, 0.0, iter([0.9, 0.6, 0.0])) == 1.5 + 3.0


@pytest.mark.parametrize("loss", [0.9999, 0.999999])
def test_of_loss_near_one_the_times_grow_without_a_bound(loss: float) -> None:
    extra_s = extra_of(Path((Hop(0, 1e9, 0.002),), 0.0, loss), 1000, 3000)
    assert fmean(extra_s) == pytest.approx(MAX_RTO_S / (1 - loss), rel=0.06)
    assert sorted(extra_s)[1500] == pytest.approx(MAX_RTO_S * log(2) / (1 - loss), rel=0.06)


def test_three_packets_that_arrive_call_for_the_others_and_two_do_not() -> None:
    four = [0.41, 0.0]  # the quantile of one lost packet of four, then none
    assert retransmission_s(4, 0.2, 0.03, 0.001, iter(four)) == pytest.approx(0.031)
    two_of_four = [0.82, 0.0]
    assert retransmission_s(4, 0.2, 0.03, 0.001, iter(two_of_four)) == pytest.approx(MIN_RTO_S + 0.002)


def test_progress_ends_the_doubling() -> None:
    """Two packets are both lost twice, then one, then none: 200 ms, 400 ms, and 200 ms again."""
    draws = iter([0.999, 1 - 0.5**2.5, 0.9, 0.0])
    assert retransmission_s(2, 0.5, 0.01, 0.0, draws) == pytest.approx(0.2 + 0.4 + 0.2)


@QUICK
@given(st.integers(1, 3000), st.floats(0.9, nextafter(1.0, 0.0)), st.integers(0, 1000))
def test_every_draw_ends(packets: int, loss: float, number: int) -> None:
    asked = count()
    draws = ((number * 0.618 + next(asked) * 0.381) % 1.0 for _ in asked)
    assert 0 <= retransmission_s(packets, loss, 0.01, 0.001, draws) < float("inf")


def test_a_path_of_links_that_lose_nearly_all_loses_a_little_less_than_all() -> None:
    link = Link(1e6, 0.001, loss=1 - 1e-10)
    cluster = Cluster("line", 0, devices([Compute(1e9, 1e9, 0.0)] * 3), Line(3, lambda *_: link))
    assert link.loss < cluster.path(0, 2).loss < 1.0


# -- links that are down ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost_for_s", "again_after_s"),
    [(0.0, 0.2), (0.1, 0.2), (0.2, 0.2), (0.3, 0.6), (0.6, 0.6), (1.0, 1.4), (3.0, 3.0)],
)
def test_what_was_lost_is_sent_again_when_the_timer_ends_next(lost_for_s: float, again_after_s: float) -> None:
    """The timer ends after 0.2, 0.6, 1.4, 3.0 s and so on."""
    assert lost_for_s + resent_s(lost_for_s, 0.01) == pytest.approx(again_after_s)


@QUICK
@given(st.floats(0, 1e9), st.floats(0, 500))
def test_the_timer_ends_after_a_time_that_is_no_longer_than_the_longest(lost_for_s: float, round_trip_s: float) -> None:
    wait_s = resent_s(lost_for_s, round_trip_s)
    assert -1e-6 <= wait_s <= max(MAX_RTO_S, round_trip_s) + 1e-6
    assert wait_s <= max(lost_for_s, MIN_RTO_S, round_trip_s) + max(MIN_RTO_S, round_trip_s) + 1e-6
