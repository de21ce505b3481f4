"""Connections keep their order whatever disturbs them, and pipes are shared by all who pass them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, clusters, even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Star
from edgeemu.timeline.network import DrawKey, Network

N_DEVICES = 4
Message = tuple[float, int, int, int]  # departure_s, source, target, size_bytes


def messages(seed: int, n: int) -> list[Message]:
    """In the order of departure."""
    chance = random.Random(seed)
    found = []
    for _ in range(n):
        source, target = chance.sample(range(N_DEVICES), 2)
        found.append((chance.uniform(0, 0.2), source, target, chance.choice([72, 500, 20_000])))
    return sorted(found)


def arrivals(cluster: Cluster, sent: list[Message]) -> list[float]:
    network = Network(cluster.path, cluster.seed)
    return [
        network.arrival_s(DrawKey(source, target, 0, number, 2, 1), size_bytes, departure_s)
        for number, (departure_s, source, target, size_bytes) in enumerate(sent)
    ]


@QUICK
@given(clusters(N_DEVICES), st.integers(0, 10_000))
def test_a_connection_keeps_its_order_and_nothing_arrives_before_it_could(cluster: Cluster, seed: int) -> None:
    sent = messages(seed, 30)
    last: dict[tuple[int, int], float] = {}
    for (departure_s, source, target, size_bytes), arrival_s in zip(sent, arrivals(cluster, sent), strict=True):
        path = cluster.path(source, target)
        soonest_s = departure_s + 8 * size_bytes / path.bandwidth_bps + max(0.0, path.delay_s - path.jitter_s)
        assert arrival_s >= soonest_s - 1e-9
        assert arrival_s >= last.get((source, target), 0.0)
        last[source, target] = arrival_s


@QUICK
@given(clusters(N_DEVICES), st.integers(0, 10_000))
def test_the_same_messages_arrive_at_the_same_instants(cluster: Cluster, seed: int) -> None:
    sent = messages(seed, 20)
    assert arrivals(cluster, sent) == arrivals(cluster, sent)


def test_a_late_message_holds_those_behind_it_on_its_connection_only() -> None:
    """Jitter of a second: without the rule half of the messages would overtake."""
    cluster = even_cluster(3, Link(1e9, 1.0, jitter_s=1.0))
    network = Network(cluster.path, 5)
    there = [network.arrival_s(DrawKey(0, 1, 0, step, 2, 0), 100, 0.001 * step) for step in range(50)]
    assert there == sorted(there)
    assert len(set(there)) < 25
    elsewhere = network.arrival_s(DrawKey(0, 2, 0, 0, 2, 0), 100, 0.05)
    alone = Network(cluster.path, 5).arrival_s(DrawKey(0, 2, 0, 0, 2, 0), 100, 0.05)
    assert elsewhere == alone < max(there)


def test_what_leaves_through_one_interface_queues_there() -> None:
    """Links of 8 kB/s, interfaces of 4 kB/s: two results of 4000 bytes leave one after the other."""
    cluster = even_cluster(3, Link(64_000, 0.5), nic_bps=32_000)
    network = Network(cluster.path, 0)
    assert network.passage(DrawKey(0, 1, 0, 0, 2, 0), 4000, 0.0) == pytest.approx((1.5, 0.0))
    assert network.passage(DrawKey(0, 2, 0, 0, 2, 0), 4000, 0.0) == pytest.approx((2.5, 1.0))
    third = network.passage(DrawKey(1, 2, 0, 0, 2, 0), 4000, 0.0)
    assert third == pytest.approx((3.5, 2.0)), "it meets both: in and out"


@QUICK
@given(st.integers(0, 10_000), st.booleans())
def test_without_its_waits_a_message_takes_as_long_as_alone(seed: int, star: bool) -> None:
    """Through interfaces that are quicker or slower than the links, and over a channel that some cross twice."""
    chance = random.Random(seed)
    links = [Link(chance.uniform(1e6, 1e8), 1e-3) for _ in range(N_DEVICES)]
    cluster = even_cluster(N_DEVICES, Link(1e7, 1e-3), nic_bps=chance.choice([5e6, 5e7]))
    if star:
        hub = Star(N_DEVICES, lambda a, b: links[a if b is None else b], on_channel=frozenset({0, 1}))
        cluster = Cluster("star", 0, cluster.devices, hub)
    network, last = Network(cluster.path, 0), dict[tuple[int, int], float]()
    for number, (departure_s, source, target, size_bytes) in enumerate(messages(seed, 30)):
        key = DrawKey(source, target, 0, number, 2, 1)
        arrival_s, waited_s = network.passage(key, size_bytes, departure_s)
        alone_s = Network(cluster.path, 0).arrival_s(key, size_bytes, departure_s)
        if arrival_s > last.get((source, target), 0.0):  # it did not wait for its place on the connection
            assert arrival_s - waited_s == pytest.approx(alone_s, abs=1e-9)
        last[source, target] = arrival_s


def test_what_arrives_through_one_interface_queues_there() -> None:
    cluster = even_cluster(3, Link(64_000, 0.5), nic_bps=32_000)
    network = Network(cluster.path, 0)
    assert network.arrival_s(DrawKey(0, 2, 0, 0, 2, 0), 4000, 0.0) == pytest.approx(1.5)
    assert network.arrival_s(DrawKey(1, 2, 0, 0, 2, 0), 4000, 0.0) == pytest.approx(2.5)


def test_both_directions_of_a_link_are_free_of_each_other_and_the_air_is_not() -> None:
    link = Link(8_000, 0.0)
    wired = even_cluster(2, link)
    on_air = Cluster("air", 0, wired.devices, Star(2, lambda *_: link, on_channel=frozenset({0, 1})))
    for cluster, back_s in ((wired, 1.0), (on_air, 4.0)):
        network = Network(cluster.path, 0)
        there_s = network.arrival_s(DrawKey(0, 1, 0, 0, 2, 0), 1000, 0.0)
        assert there_s == (1.0 if cluster is wired else 2.0)
        assert network.arrival_s(DrawKey(1, 0, 0, 0, 2, 0), 1000, 0.0) == back_s
