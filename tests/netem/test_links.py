"""netem below htb, as kernel links set it: what was asked for is what packets and messages meet."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import sqrt
from statistics import median
from typing import Any

import msgspec
import pytest
from link_hosts import Hosts, listen_udp, receive_udp, send_udp

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.devices import Compute, Device
from edgeemu.cluster.links import Link
from edgeemu.cluster.topology import Line, Mesh, Star, Topology
from edgeemu.links.netns.capabilities import probe_host
from edgeemu.links.netns.layout import NetworkLayout, Queue, network_layout
from edgeemu.links.netns.network import KernelNetwork

pytestmark = pytest.mark.netem

MESSAGE_BYTES = 1 << 20
SLEEP_S = 0.01
CALM_LATE_S = 0.2e-3  # timers of this kernel, where nothing else is at work
Joined = Callable[..., Hosts]


def cluster(n_devices: int, topology: Topology, nic_bps: float | None = None) -> Cluster:
    compute = Compute(1e9, 1e9, 0.0)
    devices = tuple(Device(i, f"d{i}", None, compute, None, 0.0, 2**30, nic_bps) for i in range(n_devices))
    return Cluster("netem", 0, devices, topology)


def pair(link: Link) -> NetworkLayout:
    return network_layout(cluster(2, Mesh(2, lambda *_: link)), delays=True)


def with_queues(wired: NetworkLayout, **values: Any) -> NetworkLayout:
    """A layout with other values in every queue of a device."""

    def other(queue: Queue) -> Queue:
        return msgspec.structs.replace(queue, **values)

    veths = tuple(
        msgspec.structs.replace(
            veth, far=msgspec.structs.replace(veth.far, queues=tuple(other(queue) for queue in veth.far.queues))
        )
        for veth in wired.veths
    )
    return msgspec.structs.replace(wired, veths=veths)


@pytest.fixture
def joined() -> Iterator[Joined]:
    """Starts hosts that are joined as a layout says, shaped; they are ended with the test."""
    open_hosts: list[Hosts] = []

    def start(wired: NetworkLayout, dilation: float = 1.0, *, rootless: bool = False) -> Hosts:
        hosts = Hosts(wired, rootless=rootless)
        open_hosts.append(hosts)
        hosts.shape(dilation)
        return hosts

    yield start
    for hosts in open_hosts:
        hosts.close()


def delay_s_of(hosts: Hosts, source: int, target: int, expected_s: float, tolerance_s: float = 0.5e-3) -> float:
    """The median delay of packets, the least of several if need be; without what a busy host makes timers later by."""
    found_s = float("inf")
    for _ in range(8):
        late_s = max(0.0, timers_late_s() - CALM_LATE_S)
        took_s = [took for _, took in hosts.packets(source, target, count=41, gap_s=0.01, at_most=41)]
        assert min(took_s) > expected_s - tolerance_s
        found_s = min(found_s, max(min(median(took_s), expected_s), median(took_s) - late_s))
        if abs(found_s - expected_s) <= tolerance_s:
            break
    return found_s


def timers_late_s() -> float:
    """By how much sleeps are too long in this kernel: the median."""
    began_s = [time.monotonic()]
    for _ in range(41):
        time.sleep(SLEEP_S)
        began_s.append(time.monotonic())
    return median(later - earlier for earlier, later in pairwise(began_s)) - SLEEP_S


def ideal_s(size_bytes: int, bandwidth_bps: float) -> float:
    """With the headers of Ethernet, IPv4 and TCP (with timestamps): 66 bytes to 1448 of payload."""
    packets = -(-(size_bytes + 8) // 1448)
    return (size_bytes + 8 + 66 * packets) * 8 / bandwidth_bps


def test_this_kernel_can_do_all_that_links_need() -> None:
    assert probe_host().why_not("kernel", shared_channel=True) == ""


@pytest.mark.parametrize("delay_s", [0.0, 0.002, 0.01, 0.04])
def test_a_delay_comes_out_within_half_a_millisecond(joined: Joined, delay_s: float) -> None:
    hosts = joined(pair(Link(100e6, delay_s)))
    for ends in ((0, 1), (1, 0)):
        assert delay_s_of(hosts, *ends, delay_s) == pytest.approx(delay_s, abs=0.5e-3)


def test_a_dilated_delay_is_longer_by_as_much(joined: Joined) -> None:
    hosts = joined(pair(Link(100e6, 0.004)), 5.0)
    assert delay_s_of(hosts, 0, 1, 0.02) == pytest.approx(0.02, abs=0.5e-3)


@pytest.mark.parametrize("bandwidth_bps", [10e6, 100e6])
def test_a_mebibyte_takes_what_its_bandwidth_says(joined: Joined, bandwidth_bps: float) -> None:
    hosts = joined(pair(Link(bandwidth_bps, 0.0)))
    ideal = pytest.approx(ideal_s(MESSAGE_BYTES, bandwidth_bps), rel=0.08)
    took_s: list[float] = []
    while not took_s or (min(took_s) != ideal and len(took_s) < 100):  # a host that is busy elsewhere makes it slower
        took_s += hosts.transfers(0, 1, MESSAGE_BYTES, messages=5)
    assert min(took_s) == ideal
    assert hosts.packets_dropped() == 0


def test_jitter_spreads_delays_evenly_round_the_delay(joined: Joined) -> None:
    """The least, the median, and the distance of the quarters. A host that is busy elsewhere gets more tries."""
    hosts = joined(pair(Link(100e6, 0.01, jitter_s=0.004)))
    asked = (
        pytest.approx(0.006, abs=0.6e-3),
        pytest.approx(0.01, abs=4 * 0.004 / sqrt(3 * 400) + 0.8e-3),
        pytest.approx(0.004, abs=1.2e-3),
    )
    found: tuple[float, ...] = ()
    for _ in range(20):
        took_s = sorted(took for _, took in hosts.packets(0, 1, count=400, gap_s=0.005, at_most=400))
        found = took_s[0], took_s[200], took_s[300] - took_s[100]
        if found == asked:
            break
    assert found == asked


def within(share: float, count: int) -> Any:
    """Four standard deviations of a binomial count: one right kernel in 16,000 is called wrong."""
    return pytest.approx(share * count, abs=4 * sqrt(count * share * (1 - share)))


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_packets_are_lost_as_asked(joined: Joined, loss: float) -> None:
    count = 10_000
    hosts = joined(pair(Link(1e9, 0.001, loss=loss)))
    came = hosts.packets(0, 1, count, gap_s=2e-4)
    assert count - len(came) == within(loss, count)
    assert hosts.packets_dropped() >= count - len(came)  # it is netem that lost them


def overtakers(numbers: list[int]) -> int:
    """Packets that came before one that was sent earlier."""
    found, least = 0, len(numbers)
    for number in reversed(numbers):
        found += number > least
        least = min(least, number)
    return found


def test_packets_are_doubled_and_overtaken_as_asked(joined: Joined) -> None:
    count = 5_000
    hosts = joined(with_queues(pair(Link(1e9, 0.0)), duplicate=0.1))
    came = [number for number, _ in hosts.packets(0, 1, count, gap_s=2e-4)]
    assert set(came) == set(range(count))
    assert len(came) - count == within(0.1, count)
    early = joined(with_queues(pair(Link(1e9, 0.02)), reorder=0.2))
    numbers = [number for number, _ in early.packets(0, 1, count, gap_s=2e-4, at_most=count)]
    assert sorted(numbers) == list(range(count))
    assert overtakers(numbers) == within(0.2, count)


def test_a_change_loses_nothing_that_waits(joined: Joined) -> None:
    count = 90  # no more than a socket takes at once
    before = pair(Link(400e3, 0.05))
    hosts = joined(before)
    hosts.call(1, listen_udp)
    hosts.start(1, receive_udp, 5.0, count)
    hosts.call(0, send_udp, before.address(1), count, 0.0, 1000)  # 1.9 s at that rate: nearly all wait
    hosts.on_network(KernelNetwork.change, pair(Link(8e6, 0.01)), 0.0)
    came = hosts.wait(1)
    assert sorted(number for number, _, _ in came) == list(range(count))
    assert hosts.packets_dropped() == 0
    assert delay_s_of(hosts, 0, 1, 0.01, 1e-3) == pytest.approx(0.01, abs=1e-3)


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_a_line_adds_up_its_delays(joined: Joined, rootless: bool) -> None:
    wired = network_layout(cluster(4, Line(4, lambda *_: Link(100e6, 0.005))), delays=True)
    hosts = joined(wired, rootless=rootless)
    assert delay_s_of(hosts, 0, 3, 0.015, 1e-3) == pytest.approx(0.015, abs=1e-3)


@pytest.mark.parametrize("shared", [False, True], ids=["wired", "shared channel"])
def test_a_star_delays_both_ways_and_a_shared_channel_is_crossed_twice(joined: Joined, shared: bool) -> None:
    link = Link(10e6, 0.005)
    shared_by = frozenset(range(3)) if shared else frozenset[int]()
    wired = network_layout(cluster(3, Star(3, lambda *_: link, on_channel=shared_by)), delays=True)
    hosts = joined(wired)
    assert delay_s_of(hosts, 0, 2, 0.01, 1e-3) == pytest.approx(0.01, abs=1e-3)
    size_bytes = 1 << 18
    crossed = 2 if shared else 1
    took_s = hosts.transfers(0, 2, size_bytes, messages=5)
    alone_s = ideal_s(size_bytes, 10e6) * crossed
    assert alone_s * 0.92 < median(took_s) < alone_s * 1.15 + 0.08  # slow start: some round trips of 20 ms
