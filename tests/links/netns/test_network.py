"""Kernel links on this kernel: it has the settings that were asked for, changes lose nothing, nothing is left."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from link_hosts import Hosts, interfaces, listen_udp, receive_udp, send_udp
from support.kernel_links import network_namespaces
from support.wired import SLOW, cluster

from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.links import Change, Link, LinkEnds, Outage
from edgeemu.cluster.variation import Trace
from edgeemu.errors import RunError
from edgeemu.host.namespaces import join_network_namespace, own_user_namespace
from edgeemu.links.framing import framed
from edgeemu.links.netns import netlink, protocol, queues, tc
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.links.netns.layout import NetworkLayout, network_layout
from edgeemu.links.netns.network import KernelNetwork
from edgeemu.links.netns.process import run_network_process
from edgeemu.links.netns.queues import HtbClass, QueuePlace
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.timeline.clock import WallClock

PROBED = probe_host()
WHY_NOT = PROBED.why_not("hybrid", shared_channel=True)
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
USERS = [
    pytest.param(False, id="as this user"),
    pytest.param(
        True, id="rootless", marks=pytest.mark.skipif(not PROBED.user_namespaces, reason="no user namespaces")
    ),
]
KINDS = ["mesh", "line", "star", "shared channel"]


def wired(kind: str, n: int = 3, link: Link = SLOW, nic_bps: float | None = None) -> NetworkLayout:
    shared = kind == "shared channel"
    made = cluster(n, "star" if shared else kind, link, nic_bps, shared_channel=shared)
    return network_layout(made, delays=False)


@pytest.fixture(autouse=True)
def no_namespace_is_left() -> Iterator[None]:
    """Nor an interface among ours."""
    before = network_namespaces(), interfaces()
    yield
    deadline = time.monotonic() + 2.0
    while (network_namespaces(), interfaces()) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert network_namespaces() <= before[0]
    assert interfaces() == before[1]


def classes(network: KernelNetwork, device: int, ifindex: int) -> dict[QueuePlace, HtbClass]:
    """The classes that the kernel has, not those that it was asked for."""
    found = network.queues(device, ifindex)
    return {place: settings for place, settings in found.items() if isinstance(settings, HtbClass)}


def rates_bps(hosts: Hosts, device: int) -> list[int]:
    found = hosts.on_network(classes, device, 2)
    return [8 * found[place].ceil_bytes_per_s for place in sorted(found)]


@pytest.mark.parametrize("rootless", USERS)
@pytest.mark.parametrize("kind", KINDS)
def test_messages_arrive_complete(kind: str, rootless: bool) -> None:
    with Hosts(wired(kind, 4, Link(100e6, 0.0)), rootless=rootless) as hosts:
        hosts.shape()
        for ends in ((0, 3), (3, 0), (2, 1)):
            assert len(hosts.transfers(*ends, size_bytes=100_000, messages=2)) == 2
        assert hosts.packets_dropped() == 0


def test_the_kernel_has_the_queues_of_the_layout() -> None:
    with Hosts(wired("mesh", 3, Link(10e6, 0.0), nic_bps=15e6)) as hosts:
        hosts.shape()
        assert rates_bps(hosts, 0) == [10e6, 10e6, 15e6]  # to d1, to d2, and both together
        found = hosts.on_network(classes, 0, 2)
        certain = [of.rate_bytes_per_s for place, of in sorted(found.items())]
        assert sum(certain[:2]) <= certain[2]  # or htb would let them exceed it
        hosts.shape(4.0)
        assert rates_bps(hosts, 0) == [2.5e6, 2.5e6, 3.75e6]


def test_other_settings_than_were_asked_for_are_an_error() -> None:
    with Hosts(wired("mesh")) as hosts:
        hosts.shape()
        hosts.call(0, meddle)
        with pytest.raises(RunError, match=r"d0 -> d1: HtbClass\(rate_bytes_per_s=1000, .* instead of HtbClass\(rate"):
            hosts.on_network(KernelNetwork.change, with_other_rate_to(2, hosts.layout), 0.0)


def meddle() -> None:
    """Another program in d0's namespace sets the class of the packets to d1."""
    socket = netlink.Netlink()
    place = QueuePlace(2, 0x10002, queues.ROOT_PARENT)
    socket.request([tc.request(place, HtbClass(1000, 1000, 100, 100, 1514), netlink.CHANGE, "meddling")])
    socket.close()


def with_other_rate_to(target: int, layout: NetworkLayout) -> NetworkLayout:
    """A layout in which only the rate from d0 to one other device is another: the class to d1 is not set again."""
    first, *others = layout.veths
    slower = tuple(
        msgspec.structs.replace(queue, bandwidth_bps=7e6) if queue.target == target else queue
        for queue in first.far.queues
    )
    changed = msgspec.structs.replace(first, far=msgspec.structs.replace(first.far, queues=slower))
    return msgspec.structs.replace(layout, veths=(changed, *others))


def with_rate(n: int, rate_bps: float) -> NetworkLayout:
    return wired("mesh", n, replace(SLOW, bandwidth_bps=rate_bps))


def test_a_refusal_of_the_kernel_is_an_error_with_its_words() -> None:
    broken = wired("mesh", 2)
    first, second = broken.veths
    same = msgspec.structs.replace(second.near, ifindex=first.near.ifindex)
    broken = msgspec.structs.replace(broken, veths=(first, msgspec.structs.replace(second, near=same)))
    with pytest.raises(RunError, match=r"the kernel refused a veth pair port1 - eth0: "), Hosts(broken):
        pass


def test_queues_cannot_be_added_later() -> None:
    with Hosts(wired("mesh", 3)) as hosts:
        hosts.shape()
        with pytest.raises(RunError, match="cannot get queues"):
            hosts.on_network(KernelNetwork.change, wired("mesh", 3, nic_bps=1e6), 0.0)


def test_a_change_loses_no_queued_packets() -> None:
    count = 90  # no more than a socket takes at once
    with Hosts(with_rate(2, 400e3)) as hosts:
        hosts.shape()
        hosts.call(1, listen_udp)
        hosts.start(1, receive_udp, 5.0, count)
        hosts.call(0, send_udp, hosts.layout.address(1), count, 0.0, 1000)  # 1.9 s at that rate: nearly all wait
        hosts.on_network(KernelNetwork.change, with_rate(2, 8e6), 0.0)
        numbers = [number for number, _, _ in hosts.wait(1)]
        assert numbers == list(range(count))
        assert hosts.packets_dropped() == 0
        assert rates_bps(hosts, 0) == [8e6]


def failing(kind: str, outage: Outage, *links: LinkEnds) -> NetworkLayout:
    """A layout whose links fail from the first second on."""
    shared = kind == "shared channel"
    made = cluster(3, "star" if shared else kind, Link(400e3, 0.0), shared_channel=shared)
    return network_layout(made.changed(Change(links=links, outage=outage), 1.0), delays=False)


BETWEEN_0_AND_1 = {"mesh": (0, 1), "line": (0, 1), "star": (None, 1), "shared channel": (None, 1)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_that_is_down_drops_all_and_then_is_as_before(kind: str) -> None:
    """Also what is in its queue. Other links stay; a device that relays goes on with that."""
    with Hosts(failing(kind, Outage(3.0), BETWEEN_0_AND_1[kind])) as hosts:
        hosts.shape()
        hosts.on_network(KernelNetwork.follow, WallClock(0.0, 1.0))
        before = [hosts.on_network(KernelNetwork.queues, device, 2) for device in range(3)]
        assert numbers_that_came(hosts, 0.5) == list(range(90))
        came = numbers_that_came(hosts, 1.01)
        assert came == list(range(len(came)))
        assert len(came) < 60
        assert all_of_five_come(hosts, 1, 0)  # the other direction has not failed
        hosts.on_network(KernelNetwork.step, 3.01)
        assert numbers_that_came(hosts, 3.02) == list(range(90))
        assert all_of_five_come(hosts, 0, 2)
        assert [hosts.on_network(KernelNetwork.queues, device, 2) for device in range(3)] == before
        assert hosts.on_network(due) == float("inf")


def all_of_five_come(hosts: Hosts, source: int, target: int) -> bool:
    return [number for number, _ in hosts.packets(source, target, 5, gap_s=0.0, at_most=5)] == list(range(5))


def numbers_that_came(hosts: Hosts, step_s: float) -> list[int]:
    """The packets that arrive of 90 which wait for 0.25 s at the rate of their link; meanwhile there is a step."""
    hosts.call(1, listen_udp)
    hosts.start(1, receive_udp, 0.5, 90)
    hosts.call(0, send_udp, hosts.layout.address(1), 90, 0.0, 100)
    hosts.on_network(KernelNetwork.step, step_s)
    return [number for number, _, _ in hosts.wait(1)]


def test_nothing_passes_a_link_that_is_down() -> None:
    with Hosts(failing("mesh", Outage(3.0), (0, 1))) as hosts:
        hosts.shape()
        hosts.on_network(KernelNetwork.follow, WallClock(0.0, 1.0))
        hosts.on_network(KernelNetwork.step, 2.0)
        assert hosts.packets(0, 1, 20, gap_s=1e-3) == []
        assert len(hosts.packets(0, 2, 20, gap_s=1e-3, at_most=20)) == 20


@pytest.mark.parametrize("rootless", USERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_not_there_yet_has_a_namespace_that_a_process_can_join(kind: str, rootless: bool) -> None:
    with Hosts(wired(kind, 3, Link(100e6, 0.0)), rootless=rootless, absent={1}) as hosts:
        hosts.shape()
        assert all_of_five_come(hosts, 0, 2)
        hosts.call(1, join_network_namespace, hosts.on_network(where, 1))
        assert all_of_five_come(hosts, 0, 1)
        assert all_of_five_come(hosts, 1, 2)


def where(network: KernelNetwork, device: int) -> str:
    return f"/proc/{os.getpid()}/fd/{network.namespaces[device]}"


def test_a_varying_link_changes_at_the_ends_of_its_pieces() -> None:
    varies = LinkVariation(Trace((0.0, 1.0, 2.5), (1.0, 0.5, 0.25)))
    with Hosts(wired("mesh", 2, replace(SLOW, varies=varies))) as hosts:
        hosts.shape()
        hosts.on_network(KernelNetwork.follow, WallClock(100.0, 2.0))
        seen = []
        for now_s in (100.0, 101.9, 102.0, 104.0, 105.1, 200.0):
            hosts.on_network(KernelNetwork.step, now_s)
            seen += rates_bps(hosts, 0)
        assert seen == [5e6, 5e6, 2.5e6, 2.5e6, 1.25e6, 1.25e6]
        assert hosts.on_network(due) == float("inf")


def due(network: KernelNetwork) -> float:
    return network.due_wall_s


def test_closing_removes_what_was_made() -> None:
    with Hosts(wired("shared channel", 3)) as hosts:
        hosts.shape()
        assert hosts.call(0, interfaces) == ["eth0", "lo"]
        hosts.on_network(KernelNetwork.close)
        assert hosts.call(0, interfaces) == ["lo"]


def test_the_network_process_carries_out_orders(tmp_path: Path) -> None:
    """A process like that of a run, with the socket that it has there; here it joins no device."""
    spec = protocol.NetworkProcessConfig(f"ipc://{tmp_path}/control", f"ipc://{tmp_path}/orders")
    with contextlib.closing(UnixSockets(spec.control)) as control:
        pid = fork_network_process(spec)
        try:

            def answer() -> protocol.Answer:
                while not (received := control.take()):
                    assert select.select([control], [], [], 10.0)[0], "no answer for 10 s"
                ((identity, frame),) = received
                assert identity == protocol.IDENTITY
                return protocol.decode_answer(frame)

            def tell(order: protocol.Order) -> protocol.Answer:
                assert control.offer(spec.orders, framed([b"", protocol.encode(order)]))
                return answer()

            assert answer() == protocol.NetworkReady()
            empty = NetworkLayout((), True, (), None, delays=False)
            for order in (
                protocol.Build(empty, ()),
                protocol.Shape(1.0),
                protocol.BeginVariation(0.0, 1.0),
                protocol.ChangeQueues(empty),
            ):
                done = tell(order)
                assert isinstance(done, protocol.Done), done
                assert done.order == type(order).__name__
            failed = tell(protocol.Build(empty, ()))
            assert isinstance(failed, protocol.Failed)
            assert "the kernel refused a bridge" in failed.message
        finally:
            _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 1


def fork_network_process(spec: protocol.NetworkProcessConfig) -> int:
    """Forks as the fork server does; without root, in a user namespace."""
    assert threading.active_count() == 1
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            if os.geteuid() != 0:
                own_user_namespace()
            run_network_process(protocol.encode(spec))
            status = 0
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        finally:
            os._exit(status)
    return pid
