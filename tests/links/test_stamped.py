"""Devices in processes of their own meet in the same pipes, and give messages the arrivals that one network would."""

import fcntl
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK, clusters, even_cluster

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Hop, Link
from edgeemu.cluster.links import Path as LinkPath
from edgeemu.links.interface import Peer
from edgeemu.links.messages import Data, data_bytes
from edgeemu.links.stamped import SharedPipes, StampedLinks, create_shared_pipes
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.placement.program import MessageKind
from edgeemu.timeline.clock import WallClock
from edgeemu.timeline.network import DrawKey, Network

N_DEVICES = 3
NUMBERS = count()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sockets are: their paths must be short (unix(7))."""
    return tmp_path_factory.mktemp("s")


@contextmanager
def shared(n_pipes: int) -> Iterator[int]:
    """The descriptor of a run's pipes."""
    fd = create_shared_pipes(n_pipes)
    try:
        yield fd
    finally:
        os.close(fd)


def links_of(cluster: Cluster, device: int, pipes: SharedPipes, directory: Path) -> StampedLinks:
    """One device's links, with pipes that it has mapped by itself; the connections lead nowhere."""
    links = StampedLinks(UnixSockets(f"ipc://{directory}/{os.getpid()}-{next(NUMBERS)}"), cluster.seed, pipes)
    links.connect(
        [
            Peer(target, f"ipc:///dev/null/{target}", cluster.path(device, target))
            for target in range(len(cluster.devices))
            if target != device
        ]
    )
    return links


def in_child(act: Callable[[], None]) -> int:
    """The process id of a copy of this process that does one thing, and nothing of pytest's afterwards."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return pid


def exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@QUICK
@given(clusters(N_DEVICES), st.integers(0, 10_000))
def test_devices_with_shared_pipes_agree_with_one_network(directory: Path, cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    network = Network(cluster.path, cluster.seed)
    departures = sorted(chance.uniform(0, 0.2) for _ in range(30))
    with shared(cluster.n_pipes) as fd:
        devices = [links_of(cluster, at, SharedPipes(fd, cluster.n_pipes), directory) for at in range(N_DEVICES)]
        for step, departure_s in enumerate(departures):
            source, target = chance.sample(range(N_DEVICES), 2)
            key = DrawKey(source, target, 0, step, 2, 1)
            size_bytes = chance.choice([72, 3000, 20_000])
            expected_s = network.arrival_s(key, size_bytes, departure_s)
            assert devices[source].arrival_s(key, size_bytes, departure_s) == expected_s
        assert [links.reordered for links in devices] == [0] * N_DEVICES
        for links in devices:
            links.close()


def test_processes_share_what_they_map() -> None:
    with shared(3) as fd:
        pipes = SharedPipes(fd, 3)

        def book() -> None:
            child = SharedPipes(fd, 3)
            with child.locked():
                child.free_s[2] = 1.5
                child.last_departure_s[0] = 0.25

        assert exit_status(in_child(book)) == 0
        assert list(pipes.free_s) == [0.0, 0.0, 1.5]
        assert list(pipes.last_departure_s) == [0.25, 0.0, 0.0]
        pipes.reset()
        assert list(pipes.free_s) == list(pipes.last_departure_s) == [0.0] * 3


class Hesitant:
    """Pipes that leave others the time to meddle, between the reading and the writing of a booking."""

    def __init__(self, free_s: memoryview) -> None:
        self._free_s = free_s

    def __getitem__(self, pipe: int) -> float:
        found: float = self._free_s[pipe]
        time.sleep(1e-4)
        return found

    def __setitem__(self, pipe: int, free_s: float) -> None:
        self._free_s[pipe] = free_s


def test_no_booking_of_processes_that_meet_in_one_pipe_is_lost(directory: Path) -> None:
    """Three processes at once send 50 messages of a second each to a fourth device: its interface takes 150 s."""
    cluster = even_cluster(4, Link(1e12, 0.0), nic_bps=8e3)
    with shared(cluster.n_pipes) as fd:

        def send_all(source: int) -> Callable[[], None]:
            def send() -> None:
                pipes = SharedPipes(fd, cluster.n_pipes)
                pipes.free_s = Hesitant(pipes.free_s)  # type: ignore[assignment]
                links = links_of(cluster, source, pipes, directory)
                for step in range(50):
                    links.arrival_s(DrawKey(source, 3, 0, step, 2, 0), 1000, 0.0)
                links.close()

            return send

        children = [in_child(send_all(source)) for source in range(3)]
        assert [exit_status(pid) for pid in children] == [0, 0, 0]
        free_s = SharedPipes(fd, cluster.n_pipes).free_s
        ingress = cluster.path(0, 3).hops[-1].pipe
        assert free_s[ingress] == pytest.approx(150.0)
        for source in range(3):
            assert free_s[cluster.path(source, 3).hops[0].pipe] == pytest.approx(50.0)


def test_the_lock_excludes_others_and_ends_with_its_holder() -> None:
    with shared(1) as fd:
        pipes = SharedPipes(fd, 1)
        held, tell = os.pipe()

        def hold_for_ever() -> None:
            with SharedPipes(fd, 1).locked():
                os.write(tell, b"!")
                signal.pause()

        pid = in_child(hold_for_ever)
        try:
            assert os.read(held, 1) == b"!"
            with pytest.raises(BlockingIOError):
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(pid, signal.SIGKILL)
            assert exit_status(pid) == -signal.SIGKILL
            os.close(held)
            os.close(tell)
        with pipes.locked():
            pipes.free_s[0] = 1.0


def test_the_lock_is_released_when_a_booking_fails(directory: Path) -> None:
    cluster = even_cluster(2, Link(1e6, 0.0))
    with shared(cluster.n_pipes) as fd:
        links = links_of(cluster, 0, SharedPipes(fd, cluster.n_pipes), directory)
        with pytest.raises(KeyError):
            links.arrival_s(DrawKey(0, 5, 0, 0, 2, 0), 100, 0.0)
        links.close()
        assert exit_status(in_child(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))) == 0


def test_messages_out_of_the_order_of_departure_are_counted_once_each(directory: Path) -> None:
    """Device 0 and 1 both send to device 2, whose interface sees what departed at 1, 3, 2, 3 and 4 s."""
    cluster = even_cluster(3, Link(1e6, 0.0), nic_bps=1e6)
    with shared(cluster.n_pipes) as fd:
        first, second = (links_of(cluster, d, SharedPipes(fd, cluster.n_pipes), directory) for d in (0, 1))
        sent = [(first, 0, 1.0), (first, 0, 3.0), (second, 1, 2.0), (second, 1, 3.0), (first, 0, 4.0)]
        for step, (links, source, departure_s) in enumerate(sent):
            links.arrival_s(DrawKey(source, 2, 0, step, 2, 0), 100, departure_s)
        assert (first.reordered, second.reordered) == (0, 1)
        first.arrival_s(DrawKey(0, 2, 0, 9, 2, 0), 100, 0.5)  # late at three pipes: still one message
        assert first.reordered == 1
        for links in (first, second):
            links.begin(None)
            assert links.reordered == 0
            links.close()


def test_a_new_timeline_forgets_what_was_sent(directory: Path) -> None:
    cluster = even_cluster(2, Link(8_000, 0.5, jitter_s=0.4), seed=3)
    with shared(cluster.n_pipes) as fd:
        pipes = SharedPipes(fd, cluster.n_pipes)
        links = links_of(cluster, 0, pipes, directory)
        key = DrawKey(0, 1, 0, 0, 2, 0)
        before_s = links.arrival_s(key, 1000, 0.0)
        assert links.arrival_s(key, 1000, 0.0) > before_s
        pipes.reset()
        links.begin(None)
        assert links.arrival_s(key, 1000, 0.0) == before_s
        links.close()


def test_what_is_sent_arrives_whole_and_in_order(directory: Path) -> None:
    with shared(1) as fd:
        pipes = SharedPipes(fd, 1)
        receiver = StampedLinks(UnixSockets(address := f"ipc://{directory}/receiver"), 0, pipes)
        links = StampedLinks(UnixSockets(f"ipc://{directory}/sender"), 0, pipes)
        peer = Peer(1, address, LinkPath((Hop(0, 8e6, 0.01),), 0.0, 0.0))
        links.connect([peer])
        links.connect([peer])  # known already: no second connection
        links.begin(WallClock(0.0, 1.0))
        payloads = [np.full((2, 3), step, np.float32) for step in range(5)]  # [2, 3] each
        for step, payload in enumerate(payloads):
            links.send(Data(MessageKind.HIDDEN, 0, 0, 0, step, 1, step, 0.0, 0.0, payload), 1)
        received = [message for _ in range(2) for message in receiver.receive()]  # first, a connection
        assert [message.step for message in received if isinstance(message, Data)] == [0, 1, 2, 3, 4]
        for step, message in enumerate(received):
            assert isinstance(message, Data)
            assert message.arrival_s == pytest.approx((step + 1) * data_bytes(message.payload) / 1e6 + 0.01)
            np.testing.assert_array_equal(message.payload, payloads[step])
        links.close()
        receiver.close()


@pytest.fixture
def joined(directory: Path) -> Iterator[tuple[StampedLinks, StampedLinks]]:
    """A sender (0) and a receiver (1), unpaced."""
    with shared(1) as fd:
        pipes, number = SharedPipes(fd, 1), next(NUMBERS)
        receiver = StampedLinks(UnixSockets(address := f"ipc://{directory}/r{number}"), 0, pipes)
        sender = StampedLinks(UnixSockets(f"ipc://{directory}/s{number}"), 0, pipes)
        sender.connect([Peer(1, address, LinkPath((Hop(0, 8e6, 0.01),), 0.0, 0.0))])
        yield sender, receiver
        sender.close()
        receiver.close()


def test_one_message_to_several_is_sent_as_it_is_to_each(joined: tuple[StampedLinks, StampedLinks]) -> None:
    """It is encoded once; another that follows it, even in the same memory, is not taken for it."""
    sender, receiver = joined
    payload = np.zeros((1, 2), np.float32)
    for value in range(3):
        payload[:] = value
        message = Data(MessageKind.HIDDEN, 0, 0, 0, value, 1, value, 0.0, 0.0, payload)
        sender.send(message, 1)
        sender.send(message, 1)
    received = [message for _ in range(2) for message in receiver.receive()]  # first, a connection
    assert [message.payload.tolist() for message in received] == [[[n, n]] for n in (0, 0, 1, 1, 2, 2)]


def test_the_shared_memory_has_no_name() -> None:
    with shared(100) as fd:
        assert str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("/memfd:")
        assert os.fstat(fd).st_size == SharedPipes.size_bytes(100) == 1600
    with shared(0) as fd:  # a cluster of one device has no links
        assert len(SharedPipes(fd, 0).free_s) == 0
