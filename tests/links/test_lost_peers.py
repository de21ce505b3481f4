"""Messages for a device that is gone, at one that goes on without it."""

import os
import threading
from contextlib import closing

import numpy as np
import pytest
from support.builders import even_cluster

from edgeemu.cluster.links import Link
from edgeemu.links.interface import Peer
from edgeemu.links.messages import ChunkHeader, Data, ShipmentChunk
from edgeemu.links.stamped import SharedPipes, StampedLinks, create_shared_pipes
from edgeemu.links.unix_sockets import HIGH_WATER, UnixSockets
from edgeemu.placement.blocks import ffn
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment


def test_a_device_that_survives_drops_what_it_has_for_one_that_is_gone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also while it waits for room, and chunks; the process in its place is sent to once it is connected."""
    cluster, address = even_cluster(2, Link(1e9, 0.0)), f"ipc://{tmp_path_factory.mktemp('s')}/there"
    own = f"{address}-not"
    peer = Peer(1, address, cluster.path(0, 1))
    large, small = (Data(MessageKind.HIDDEN, 0, 0, 0, 0, 1, 0, 0.0, 0.0, np.zeros((n, 9), "f4")) for n in (90_000, 1))
    chunk = ShipmentChunk(ChunkHeader(1, 0, Shipment(ffn(0), 0, 1, 0, 0, 0, True), 0, 1, 0), b"x")
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
