"""The layout of the kernel's network is the cluster's network, and what the kernel cannot do is reported in words."""

from collections.abc import Iterable
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
from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.links import Change, Link, LinkEnds, Outage
from edgeemu.cluster.topology import Arrays, FloatArray, IntArray, Star, Topology
from edgeemu.cluster.variation import Trace
from edgeemu.links.messages import WireError
from edgeemu.links.netns import buffer_sizes, protocol
from edgeemu.links.netns.layout import CHANNEL, MAX_DEVICES, NetworkLayout, Queue, network_layout, unsupported
from edgeemu.links.netns.queue_trees import tree, without_leaves
from edgeemu.links.netns.queues import Blackhole
from edgeemu.run.choose_links import has_more_than_rates
from edgeemu.scenario.load import parse_scenario, to_yaml
from edgeemu.topologies import End


@QUICK
@given(clusters(4), st.booleans())
def test_every_path_is_the_sum_of_its_queues(made: Cluster, delays: bool) -> None:
    """The queues between any two devices have the delays, jitter and loss of the path."""
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
    if not wired.bridged:
        step = 1 if target > source else -1
        towards = {(a.device, b.device): a for v in wired.veths for a, b in ((v.near, v.far), (v.far, v.near))}
        return [towards[at, at + step].queues[0] for at in range(source, target, step)]
    up = [queue for queue in ends[source, "eth0"].queues if queue.target in (None, target)]
    return up + list(ends[None, f"port{target}"].queues)


def test_rates_and_interfaces_are_where_they_belong() -> None:
    wired = network_layout(cluster(3, "mesh", nic_bps=50e6), delays=True)
    port, own = wired.veths[1].near, wired.veths[1].far
    assert (own.nic_bps, [queue.target for queue in own.queues]) == (50e6, [0, 2])
    assert [queue.bandwidth_bps for queue in port.queues] == [50e6]
    shared = network_layout(cluster(3, "star", shared_channel=True), delays=True)
    assert shared.shared_channel is not None
    assert shared.shared_channel.bandwidth_bps == 10e6
    assert {queue.bandwidth_bps for end in shared.interfaces() for queue in end.queues} == {None}
    assert all(veth.near.on_shared_channel for veth in shared.veths)
    assert not any(veth.far.on_shared_channel for veth in shared.veths)
    assert CHANNEL not in {end.ifindex for end in shared.interfaces() if end.device is None}


@pytest.mark.parametrize("kind", ["mesh", "line", "star"])
def test_a_device_alone_has_an_address(kind: str) -> None:
    wired = network_layout(cluster(1, kind, nic_bps=1e6), delays=True)
    assert wired.bridged
    assert [end.device for end in wired.interfaces()] == [None, 0]


def test_in_a_line_every_device_has_a_route_to_every_other() -> None:
    wired = network_layout(cluster(25, "line"), delays=False)
    for device in range(25):
        routes = wired.routes[device]
        assert len(routes) < 20
        ends = {end.ifindex: end for end in wired.interfaces() if end.device == device}
        for other in set(range(25)) - {device}:
            there = ip_address(wired.address(other))
            fitting = [route for route in routes if there in ip_network(f"{route.network}/{route.prefix}")]
            neighbour = device + (1 if other > device else -1)
            assert [route.gateway for route in fitting] == [wired.address(neighbour)]
            (joined,) = (
                {veth.near: veth.far, veth.far: veth.near}[ends[fitting[0].ifindex]]
                for veth in wired.veths
                if ends[fitting[0].ifindex] in (veth.near, veth.far)
            )
            assert (joined.device, joined.mac) == (neighbour, fitting[0].mac)


class Ring(Topology):
    """A topology that no scenario has: messages go round in one direction."""

    def __init__(self, n_devices: int) -> None:
        super().__init__(n_devices, lambda *_: SLOW, n_pipes=2 * n_devices)

    def joined(self, a: End, b: End) -> bool:
        return a is not None and b is not None and (a - b) % self.n_devices in (1, self.n_devices - 1)

    def route(self, src: int, dst: int) -> list[End]:
        return [(src + step) % self.n_devices for step in range((dst - src) % self.n_devices + 1)]

    def pipe(self, source: End, target: End) -> int:
        assert source is not None
        assert target is not None
        return 2 * source + ((target - source) % self.n_devices != 1)

    def pairs_over(self, links: Iterable[LinkEnds]) -> set[tuple[int, int]]:
        raise NotImplementedError

    def veths(self) -> list[tuple[End, End]]:
        return [(device, (device + 1) % self.n_devices) for device in range(self.n_devices)]

    def _arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:
        raise NotImplementedError


def test_another_topology_is_one_class() -> None:
    made = Cluster("ring", 0, devices([COMPUTE] * 5), Ring(5))
    assert made.path(3, 1).delay_s == pytest.approx(3 * SLOW.delay_s)
    assert unsupported(made) == []
    wired = network_layout(made, delays=True)
    assert not wired.bridged
    assert wired.shared_channel is None
    for device, routes in enumerate(wired.routes):
        assert {route.gateway for route in routes} == {wired.address((device + 1) % 5)}
        behind = [address for route in routes for address in ip_network(f"{route.network}/{route.prefix}")]
        assert sorted(map(str, behind)) == sorted(wired.address(other) for other in range(5) if other != device)
        mine = [end for end in wired.interfaces() if end.device == device]
        assert sorted(end.name for end in mine) == ["eth0", "eth1"]
        assert [len(end.queues) for end in mine] == [1, 1]


def test_what_the_kernel_cannot_do_is_reported() -> None:
    for kind in ("mesh", "line", "star"):
        assert unsupported(cluster(4, kind)) == []
    assert unsupported(cluster(4, "star", shared_channel=True)) == []
    assert "more than the" in unsupported(cluster(MAX_DEVICES + 1, "star"))[0]
    assert "slower than kernel links can be" in unsupported(cluster(2, "mesh", Link(5e3, 0.0)))[0]
    assert "d1 relays between neighbours" in unsupported(cluster(3, "line", nic_bps=15e6))[0]
    assert unsupported(cluster(2, "line", nic_bps=15e6)) == []
    rates = {0: 1e6, 1: 2e6, 2: 3e6, None: SLOW.bandwidth_bps}
    uneven = Star(3, lambda a, _: replace(SLOW, bandwidth_bps=rates[a]), on_channel=frozenset({0, 1}))
    assert "share a wireless channel" in unsupported(Cluster("c", 0, devices([COMPUTE] * 3), uneven))[0]


def test_variation_and_events_are_in_the_queue() -> None:
    varies = LinkVariation(Trace((0.0, 2.0), (1.0, 0.5)), None, Trace((0.0, 3.0), (0.0, 0.01)))
    made = cluster(2, "mesh", replace(SLOW, varies=varies))
    queue = network_layout(made, delays=True).veths[0].far.queues[0]
    assert [queue.rate_at(t_s) for t_s in (1.0, 2.0)] == [10e6, 5e6]
    assert queue.delay_at(3.5) == pytest.approx(0.015)
    assert [queue.until_s(t_s) for t_s in (0.0, 2.0, 3.0)] == [2.0, 3.0, float("inf")]
    changed = made.changed(Change(links=((0, 1),), bandwidth_bps=4e6, delay_s=0.1), 1.0)
    queue = network_layout(changed, delays=True).veths[0].far.queues[0]
    assert (queue.rate_at(1.5), queue.delay_at(1.5)) == (4e6, pytest.approx(0.1))


def test_faults_are_in_the_queue() -> None:
    made = cluster(2, "mesh", replace(SLOW, loss=0.1))
    down = made.changed(Change(links=((0, 1),), outage=Outage(3.0, resent=True)), 1.0)
    lossy = down.changed(Change(links=((0, 1),), outage=Outage(5.0, loss=0.5)), 2.0)
    queue = network_layout(lossy, delays=True).veths[0].far.queues[0]
    assert [queue.is_down_at(t_s) for t_s in (0.9, 1.0, 2.9, 3.0)] == [False, True, True, False]
    assert [queue.loss_at(t_s) for t_s in (1.9, 2.0, 4.9, 5.0)] == pytest.approx([0.1, 0.55, 0.55, 0.1])
    assert {queue.rate_at(t_s) for t_s in (0.0, 1.5, 4.0)} == {10e6}
    assert [queue.until_s(t_s) for t_s in (0.0, 1.0, 2.0, 3.0, 5.0)] == [1.0, 2.0, 3.0, 5.0, float("inf")]
    assert not network_layout(lossy, delays=True).veths[1].far.queues[0].is_down_at(1.5)


@pytest.mark.parametrize("netem", [False, True])
@pytest.mark.parametrize("kind", ["mesh", "star", "shared channel"])
def test_a_link_that_is_down_has_another_leaf_and_nothing_else(kind: str, netem: bool) -> None:
    shared = kind == "shared channel"
    made = cluster(3, "star" if shared else kind, shared_channel=shared)
    ends = (0, 1) if kind == "mesh" else (0, None)
    outage = Outage(2.0)
    wired = network_layout(made.changed(Change(links=(ends,), outage=outage), 1.0), delays=netem)
    assert unsupported(made.changed(Change(links=(ends,), outage=outage), 1.0)) == []
    assert wired.shared_channel == network_layout(made, delays=netem).shared_channel
    before, down, after = (tree(wired.veths[0].far, t_s, 1.0, netem=netem) for t_s in (0.0, 1.0, 2.0))
    assert before == after
    assert without_leaves(before) == without_leaves(down)
    replaced = {place.parent for place in before.keys() - down.keys()}
    (hole,) = down.keys() - before.keys()
    assert replaced == ({hole.parent} if netem else set())
    assert down[hole] == Blackhole()


def test_queues_hold_the_data_in_flight() -> None:
    assert buffer_sizes.queue_packets(10e6, 0.0) == buffer_sizes.MIN_QUEUE_PACKETS
    assert buffer_sizes.queue_packets(1e9, 0.04) >= 1e9 * 2 * 0.04 / 12000
    assert buffer_sizes.gso_max_segs(100e6) == 1


def test_orders_are_decoded_as_they_were_sent() -> None:
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


def test_reordering_and_duplication_are_asked_of_the_kernel() -> None:
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
