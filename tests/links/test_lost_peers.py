"""Messages for a device that is gone, at one that goes on without it."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
import zmq
from support.builders import even_cluster

from edgeemu.cluster.links import Link
from edgeemu.links.interface import LinkLostError, Peer
from edgeemu.links.kernel import BULK_MESSAGES, PATIENT_HIGH_WATER, KernelLinks
from edgeemu.links.messages import ChunkHeader, Data, ShipmentChunk
from edgeemu.links.receiver_thread import StampingInbox
from edgeemu.links.stamped import SharedPipes, StampedLinks, create_shared_pipes
from edgeemu.links.unix_sockets import HIGH_WATER, UnixSockets
from edgeemu.placement.blocks import ffn
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment

CHUNK = ShipmentChunk(ChunkHeader(1, 0, Shipment(ffn(0), 0, 1, 0, 0, 0, True), 0, 1, 0), b"x")


def data(rows: int) -> Data:
    return Data(MessageKind.HIDDEN, 0, 0, 0, 0, 1, 0, 0.0, 0.0, np.zeros((rows, 9), "f4"))


def test_a_device_that_survives_drops_what_it_has_for_one_that_is_gone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also while it waits for room, and chunks; the process in its place is sent to once it is connected."""
    cluster, address = even_cluster(2, Link(1e9, 0.0)), f"ipc://{tmp_path_factory.mktemp('s')}/there"
    own = f"{address}-not"
    peer = Peer(1, address, cluster.path(0, 1))
    large, small, chunk = data(90_000), data(1), CHUNK
    fd = create_shared_pipes(cluster.n_pipes)
    with closing(StampedLinks(UnixSockets(own), 1, SharedPipes(fd, cluster.n_pipes), survives=True)) as links:
        os.close(fd)
        links.connect([peer])
        gone = UnixSockets(address)
        for _ in range(HIGH_WATER):
            links.send(large, 1)
        ending = threading.Timer(0.05, gone.close)
        ending.start()
        links.send(large, 1)  # there is room for no more, until nobody is there
        links.send(large, 1)
        ending.join()
        links.send(small, 1)
        assert links.send_chunk(chunk, 0, 1, 0.5) == 0.5
        with closing(UnixSockets(address)) as back:
            links.send(small, 1)
            assert not back.has_some
            links.connect([peer])
            links.send(small, 1)
            assert back.has_some


ANYWHERE = "tcp://127.0.0.1:*"


@contextmanager
def over_tcp(*, survives: bool) -> Iterator[KernelLinks]:
    """Kernel links without namespaces: no queue shapes them."""
    with zmq.Context() as context:
        inbox = StampingInbox(context, ANYWHERE, lambda: 0.0)
        with closing(KernelLinks(context, inbox, 1, lambda: 0.0, hybrid=True, survives=survives)) as links:
            yield links


@contextmanager
def listening() -> Iterator[tuple[StampingInbox, Peer]]:
    """A receiver over TCP, at a port that nobody had."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    with zmq.Context() as context:
        inbox = StampingInbox(context, address, lambda: 0.0)
        yield inbox, Peer(1, address, even_cluster(2, Link(1e9, 0.0)).path(0, 1))


def test_over_tcp_messages_for_a_device_that_is_gone_are_dropped_and_those_for_its_successor_arrive() -> None:
    with over_tcp(survives=True) as links:
        for _ in range(3):
            with listening() as (inbox, peer):
                links.connect([peer])
                links.send(data(1), 1)
                assert links.send_chunk(CHUNK, 0, 1, 0.5) == 0.5
                assert len(taken(inbox, 2)) == 2
                inbox.close()
                for _ in range(2 * PATIENT_HIGH_WATER):  # more than there is room for
                    links.send(data(1), 1)
                assert [links.send_chunk(CHUNK, 0, 1, 0.5) for _ in range(3 * BULK_MESSAGES)][-1] == 0.5


def test_over_tcp_a_device_that_cannot_survive_learns_of_the_loss_each_time() -> None:
    with over_tcp(survives=False) as links, listening() as (inbox, peer):
        links.connect([peer])
        links.send(data(1), 1)
        assert links.send_chunk(CHUNK, 0, 1, 0.5) == 0.5
        assert len(taken(inbox, 2)) == 2
        inbox.close()
        for _ in range(2):
            with pytest.raises(LinkLostError):
                send_many(links, 2 * HIGH_WATER)
            with pytest.raises(LinkLostError):
                send_chunks(links)


def send_many(links: KernelLinks, number: int) -> None:
    for _ in range(number):
        links.send(data(90_000), 1)


def send_chunks(links: KernelLinks) -> None:
    while True:
        links.send_chunk(CHUNK, 0, 1, 0.5)
        time.sleep(0.001)


def taken(inbox: StampingInbox, number: int) -> list[object]:
    found: list[object] = []
    while len(found) < number:
        select.select([inbox], [], [], 10.0)
        found += inbox.take()
    return found
