"""Links and devices that fail, on the timeline: what waits, what is sent again, what is lost, and what nobody minds."""

from collections import defaultdict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, devices

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute
from edgeemu.cluster.faults import Fault, FaultKind, change_by
from edgeemu.cluster.links import Change, Link, LinkEnds, Path
from edgeemu.cluster.topology import Line, Mesh, Star, Topology
from edgeemu.timeline.network import DrawKey, Network, disturbance_s, serialise

LINK = Link(8e3, 0.01)  # 1,000 bytes a second
BOTH = ((0, 1), (1, 0))


def cluster(topology: Topology | None = None) -> Cluster:
    topology = topology or Mesh(3, lambda *_: LINK)
    return Cluster("c", 0, devices([Compute(1e9, 1e9, 0.0)] * topology.n_devices), topology)


def failing(
    kind: FaultKind, at_s: float, for_s: float | None, of: Cluster | None = None, links: tuple[LinkEnds, ...] = BOTH
) -> Cluster:
    change = change_by(Fault(kind, links=links, for_s=for_s, loss=0.5), at_s)
    assert change is not None
    return (of or cluster()).changed(change, at_s)


def arrival_s(path: Path, size_bytes: int, departure_s: float) -> float:
    return serialise(defaultdict(float), path, size_bytes, departure_s)


@pytest.mark.parametrize(
    ("departure_s", "arrives_s"),
    [
        (0.0, 1.01),  # before
        (1.5, 5.51),  # half of it passes before the link stalls, the other half after
        (3.0, 6.01),
        (5.0, 6.01),
    ],
)
def test_what_is_sent_over_a_link_that_stalls_waits(departure_s: float, arrives_s: float) -> None:
    stalled = failing(FaultKind.STALL, 2.0, 3.0)
    assert arrival_s(stalled.path(0, 1), 1000, departure_s) == pytest.approx(arrives_s)
    assert arrival_s(stalled.path(0, 2), 1000, departure_s) == pytest.approx(departure_s + 1.01)


@pytest.mark.parametrize(
    ("departure_s", "again_s"),
    [
        (2.0, 2.0 + 3.0),  # the timer ends 0.2, 0.6, 1.4, 3.0 s after the beginning: the link is up then
        (2.5, 2.5 + 3.0),
        (4.0, 4.0 + 1.4),
        (4.9, 4.9 + 0.2),
    ],
)
@pytest.mark.parametrize("kind", [FaultKind.DOWN, FaultKind.PARTITION])
def test_what_is_sent_over_a_link_that_is_down_is_sent_again_by_the_timer(
    kind: FaultKind, departure_s: float, again_s: float
) -> None:
    down = failing(kind, 2.0, 3.0)
    assert arrival_s(down.path(0, 1), 1000, departure_s) == pytest.approx(again_s + 1.01)


def test_of_a_message_that_a_link_cuts_off_the_rest_is_sent_again() -> None:
    down = failing(FaultKind.DOWN, 2.0, 2.0)
    assert arrival_s(down.path(0, 1), 1000, 1.5) == pytest.approx(2.0 + 3.0 + 0.5 + 0.01)
    assert arrival_s(down.path(0, 1), 1000, 4.0) == pytest.approx(5.01)
    assert arrival_s(down.path(0, 1), 1000, 0.9) == pytest.approx(1.91)


def test_outages_that_overlap_are_one() -> None:
    down = failing(FaultKind.DOWN, 3.0, 4.0, failing(FaultKind.DOWN, 2.0, 3.0))
    assert arrival_s(down.path(0, 1), 1000, 2.0) == pytest.approx(2.0 + 6.2 + 1.01)  # 0.2 + 0.4 + … + 3.2 s
    stalled = failing(FaultKind.STALL, 3.0, 4.0, failing(FaultKind.STALL, 2.0, 3.0))
    assert arrival_s(stalled.path(0, 1), 1000, 2.5) == pytest.approx(8.01)


def test_a_connection_stays_in_order_behind_what_is_sent_again() -> None:
    down = failing(FaultKind.DOWN, 2.0, 3.0)
    network = Network(down.path, 0)
    first_s, second_s = (network.arrival_s((0, 1, 0, step, 0, 0), 10, at_s) for step, at_s in enumerate((4.0, 5.0)))
    assert first_s == pytest.approx(4.0 + 1.4 + 0.02)
    assert second_s >= first_s


def test_what_is_sent_over_a_link_that_is_gone_never_arrives() -> None:
    for kind in (FaultKind.DOWN, FaultKind.STALL):
        gone = failing(kind, 2.0, None)
        assert arrival_s(gone.path(0, 1), 1000, 3.0) > 1e5
        assert gone.path(0, 1).bandwidth_at(3.0) == pytest.approx(8e-3)
        assert gone.path(0, 1).bandwidth_at(1.0) == 8e3


@QUICK
@given(
    st.lists(
        st.tuples(st.sampled_from([FaultKind.DOWN, FaultKind.STALL]), st.floats(0, 20), st.floats(0.01, 9)), max_size=4
    ),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5000)), min_size=1, max_size=6),
)
def test_nothing_arrives_earlier_than_without_faults_nor_out_of_order(
    faults: list[tuple[FaultKind, float, float]], sent: list[tuple[float, int]]
) -> None:
    made = cluster()
    for kind, at_s, for_s in faults:
        made = failing(kind, at_s, for_s, made)
    calm, disturbed = Network(cluster().path, 0), Network(made.path, 0)
    last_s = 0.0
    for step, (departure_s, size_bytes) in enumerate(sorted(sent)):
        key = 0, 1, 0, step, 0, 0
        with_faults_s = disturbed.arrival_s(key, size_bytes, departure_s)
        assert with_faults_s >= max(calm.arrival_s(key, size_bytes, departure_s) - 1e-9, last_s)
        last_s = with_faults_s


def test_packets_are_lost_while_a_link_loses_them_and_only_then() -> None:
    path = failing(FaultKind.LOSS, 2.0, 3.0).path(0, 1)
    assert [path.loss_at(t_s) for t_s in (1.9, 2.0, 4.9, 5.0)] == [0.0, 0.5, 0.5, 0.0]
    keys = [DrawKey(0, 1, 0, step, 0, 0) for step in range(2000)]
    lost = sum(disturbance_s(path, 100, 0, key, 3.0) > 0 for key in keys) / len(keys)
    assert lost == pytest.approx(0.5, abs=0.04)
    assert not any(disturbance_s(path, 100, 0, key, 1.0) for key in keys)
    network = Network(failing(FaultKind.LOSS, 2.0, 3.0).path, 0)
    late = [network.arrival_s((0, 1, 0, step, 0, 0), 1, 2.0 + 0.05 * step) - 2.0 - 0.05 * step for step in range(40)]
    assert max(late) >= 0.2


def test_a_links_own_loss_and_bursts_that_overlap_compound() -> None:
    base = cluster(Mesh(3, lambda *_: Link(8e3, 0.01, loss=0.1)))
    path = failing(FaultKind.LOSS, 3.0, 3.0, failing(FaultKind.LOSS, 2.0, 3.0, base)).path(0, 1)
    assert [path.loss_at(t_s) for t_s in (1.0, 2.5, 4.0, 5.5, 6.0)] == pytest.approx([0.1, 0.55, 0.775, 0.55, 0.1])
    still = failing(FaultKind.LOSS, 2.0, 3.0, base).still(2.5)
    assert still.path(0, 1).loss == pytest.approx(0.55)


def test_a_relayed_message_waits_for_the_link_that_is_down() -> None:
    line = failing(FaultKind.DOWN, 2.0, 3.0, cluster(Line(3, lambda *_: LINK)), links=((1, 2), (2, 1)))
    assert arrival_s(line.path(0, 1), 1000, 2.0) == pytest.approx(3.01)
    assert arrival_s(line.path(0, 2), 1000, 2.0) == pytest.approx(2.0 + 3.0 + 1.02)


@pytest.mark.parametrize("kind", [FaultKind.DOWN, FaultKind.STALL])
@pytest.mark.parametrize("for_s", [3.0, None])
def test_a_station_without_its_link_does_not_take_the_channel_from_the_others(
    kind: FaultKind, for_s: float | None
) -> None:
    air = Star(3, lambda *_: LINK, on_channel=frozenset({0, 1, 2}))
    made = failing(kind, 2.0, for_s, cluster(air), links=((0, None), (None, 0)))
    free_s: dict[int, float] = defaultdict(float)
    waits_s = [serialise(free_s, made.path(0, 1), 100, 2.0) for _ in range(2)]
    assert serialise(free_s, made.path(1, 2), 100, 3.0) < 4.0
    assert serialise(free_s, made.path(2, 0), 100, 3.0) >= 5.0
    if for_s is not None:
        again_s = 5.0 if kind is FaultKind.STALL else 2.0 + 3.0
        assert waits_s[0] == pytest.approx(again_s + 0.1 + 0.02, abs=0.2)
        assert waits_s[1] >= waits_s[0]
    assert made.path(0, 1).bandwidth_at(1.0) == pytest.approx(cluster(air).path(0, 1).bandwidth_at(1.0))
    assert serialise(defaultdict(float), made.path(0, 1), 100, 1.0) == pytest.approx(
        serialise(defaultdict(float), cluster(air).path(0, 1), 100, 1.0)
    )


def test_an_event_can_stop_a_link_until_another() -> None:
    made = cluster().changed(Change(links=BOTH, bandwidth_bps=0.0), 2.0)
    assert arrival_s(made.path(0, 1), 1000, 2.5) > 1e5
    made = made.changed(Change(links=BOTH, bandwidth_bps=16e3), 5.0)
    assert arrival_s(made.path(0, 1), 1000, 2.5) == pytest.approx(5.51)
    made = failing(FaultKind.STALL, 4.0, 3.0, made)
    assert arrival_s(made.path(0, 1), 1000, 2.5) == pytest.approx(7.51)


def test_paths_with_faults_survive_the_wire() -> None:
    made = failing(FaultKind.LOSS, 1.0, 9.0, failing(FaultKind.DOWN, 2.0, None))
    path = made.path(0, 1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(path), type=Path) == path


def test_devices_that_hang_stand_still_and_what_ends_a_process_shows_in_no_speed() -> None:
    change = change_by(Fault(FaultKind.HANG, (1,), for_s=3.0), 2.0)
    assert change is not None
    made = cluster().changed(change, 2.0).changed(Change((1,), speed=0.5), 3.0)
    slowdowns = [made.devices[1].slowdown_at(t_s) for t_s in (1.0, 2.0, 4.9, 5.0)]
    assert slowdowns == pytest.approx([1.0, 1e6, 1e6, 2.0])
    assert made.devices[0] == cluster().devices[0]
    for kind in FaultKind:
        if kind.ends_process or kind is FaultKind.JOIN:
            assert change_by(Fault(kind, (1,), for_s=3.0), 2.0) is None
