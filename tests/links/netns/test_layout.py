"""The kernel network requested is the cluster's network, and what it cannot be is reported."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, clusters, devices
from support.wired import COMPUTE, SLOW, cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.draw.cluster import draw
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.cluster.links import Change, Link
from edgeemu.cluster.topology import star
from edgeemu.cluster.variation import LinkVariation, Trace
from edgeemu.links.messages import WireError
from edgeemu.links.netns import buffer_sizes, protocol
from edgeemu.links.netns.layout import AIR, MAX_DEVICES, NetworkLayout, Queue, network_layout, unsupported
from edgeemu.run.choose_links import has_more_than_rates
from edgeemu.scenario.load import parse_scenario, to_yaml


@QUICK
@given(clusters(4), st.booleans())
def test_every_path_is_the_sum_of_its_queues(made: Cluster, delays: bool) -> None:
    """Whoever sends to whom passes queues whose slowest rate, delays, jitter and loss are the path's."""
    wired = network_layout(made, delays=delays)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(wired), type=NetworkLayout) == wired
    assert len({wired.address(device.index) for device in made.devices}) == 4
    everyone = range(4)
    for source in everyone:
        for target in everyone:
            if source == target:
                continue
            queues = queues_between(wired, source, target)
            path = made.path(source, target)
            assert sum(queue.delay_s for queue in queues) == pytest.approx(path.delay_s)
            assert sum(queue.jitter_s for queue in queues) == pytest.approx(path.jitter_s)
            kept = 1.0
            for queue in queues:
                kept *= 1 - queue.loss
            assert 1 - kept == pytest.approx(path.loss)


def queues_between(wired: NetworkLayout, source: int, target: int) -> list[Queue]:
    ends = {(end.device, end.name): end for end in wired.interfaces()}
    if wired.topology == "line":
        step = 1 if target > source else -1
        name = "right" if step > 0 else "left"
        return [ends[at, name].queues[0] for at in range(source, target, step)]
    up = [queue for queue in ends[source, "eth0"].queues if queue.target in (None, target)]
    return up + list(ends[None, f"port{target}"].queues)


def test_rates_and_interfaces_are_where_they_belong() -> None:
    wired = network_layout(cluster(3, "mesh", nic_bps=50e6), delays=True)
    port, own = wired.cables[1].near, wired.cables[1].far
    assert (own.nic_bps, [queue.target for queue in own.queues]) == (50e6, [0, 2])
    assert [queue.bandwidth_bps for queue in port.queues] == [50e6]
    on_air = network_layout(cluster(3, "star", air=True), delays=True)
    assert on_air.air is not None
    assert on_air.air.bandwidth_bps == 10e6
    assert {queue.bandwidth_bps for end in on_air.interfaces() for queue in end.queues} == {None}
    assert all(cable.near.on_the_air for cable in on_air.cables)
    assert AIR not in {end.ifindex for end in on_air.interfaces() if end.device is None}


def test_in_a_line_everyone_knows_the_way_to_everyone() -> None:
    wired = network_layout(cluster(25, "line"), delays=False)
    for device in range(25):
        routes = wired.routes(device)
        assert len(routes) < 20
        for other in set(range(25)) - {device}:
            there = ip_address(wired.address(other))
            fitting = [way for way in routes if there in ip_network(f"{way[1]}/{way[2]}")]
            assert [way[3] for way in fitting] == [device + (1 if other > device else -1)]


def test_what_the_kernel_cannot_be_is_said() -> None:
    for kind in ("mesh", "line", "star"):
        assert unsupported(cluster(4, kind)) == []
    assert unsupported(cluster(4, "star", air=True)) == []
    assert "more than the" in unsupported(cluster(MAX_DEVICES + 1, "star"))[0]
    assert "slower than kernel links can be" in unsupported(cluster(2, "mesh", Link(5e3, 0.0)))[0]
    assert "d1 relays between two neighbours" in unsupported(cluster(3, "line", nic_bps=15e6))[0]
    assert unsupported(cluster(2, "line", nic_bps=15e6)) == []
    uneven = star(3, lambda i: replace(SLOW, bandwidth_bps=1e6 * (i + 1)), lambda _: SLOW, frozenset({0, 1}))
    assert "share the air" in unsupported(Cluster("c", 0, devices([COMPUTE] * 3), *uneven))[0]


def test_what_varies_and_what_events_change_is_in_the_queue() -> None:
    varies = LinkVariation(Trace((0.0, 2.0), (1.0, 0.5)), None, Trace((0.0, 3.0), (0.0, 0.01)))
    made = cluster(2, "mesh", replace(SLOW, varies=varies))
    queue = network_layout(made, delays=True).cables[0].far.queues[0]
    assert [queue.rate_at(t_s) for t_s in (1.0, 2.0)] == [10e6, 5e6]
    assert queue.delay_at(3.5) == pytest.approx(0.015)
    assert [queue.until_s(t_s) for t_s in (0.0, 2.0, 3.0)] == [2.0, 3.0, float("inf")]
    changed = made.changed(Change(links=((0, 1),), bandwidth_bps=4e6, delay_s=0.1), 1.0)
    queue = network_layout(changed, delays=True).cables[0].far.queues[0]
    assert (queue.rate_at(1.5), queue.delay_at(1.5)) == (4e6, pytest.approx(0.1))


def test_queues_hold_what_is_under_way() -> None:
    assert buffer_sizes.queue_packets(10e6, 0.0) == buffer_sizes.MIN_QUEUE_PACKETS
    assert buffer_sizes.queue_packets(1e9, 0.04) >= 1e9 * 2 * 0.04 / 12000
    assert buffer_sizes.gso_max_segs(100e6) == 1


def test_orders_survive_the_way() -> None:
    for order in (
        protocol.Build(network_layout(cluster(2, "mesh"), delays=True), (1, 2)),
        protocol.Shape(2.0),
        protocol.StopNetwork(),
    ):
        assert protocol.decode_order(protocol.encode(order)) == order
    assert protocol.decode_answer(protocol.encode(protocol.Failed("why"))) == protocol.Failed("why")
    with pytest.raises(WireError):
        protocol.decode_order(b"\xc1")
    with pytest.raises(WireError):
        protocol.decode_answer(protocol.encode(protocol.StopNetwork()))


def test_what_only_real_packets_feel_is_asked_of_the_kernel() -> None:
    text = """
model: smollm2-135m-instruct
devices: [{name: a, profile: raspberry-pi-5, count: 2}]
network: {backend: kernel, default: {bandwidth: 10 Mbit/s, delay: 5 ms, reorder: 2 %, duplicate: 1 %}}
workload: {prompts: [Hello]}
"""
    scenario = parse_scenario(text)
    made = draw(scenario)
    queues = [queue for port in network_layout(made, delays=True).interfaces() for queue in port.queues]
    assert {(queue.reorder, queue.duplicate) for queue in queues if queue.delay_s} == {(0.02, 0.01)}
    assert has_more_than_rates(made)
    assert draw(parse_scenario(to_yaml(resolve(scenario)))) == made
