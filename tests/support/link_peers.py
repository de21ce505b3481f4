"""Processes with links and nothing else, for the contract of links: each does what its test tells it.

Run by the fork server as devices are, in network namespaces of their own where the links are the kernel's.
"""

import asyncio
import os
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
import zmq.asyncio

from edgeemu.cluster.cluster import Cluster
from edgeemu.device import protocol_in
from edgeemu.device.make_links import make_links
from edgeemu.host.fleet import Fleet
from edgeemu.host.namespaces import own_network_namespace
from edgeemu.links import interface, messages
from edgeemu.links.framing import framed
from edgeemu.links.interface import LinkLostError, Links
from edgeemu.links.netns import protocol
from edgeemu.links.stamped import create_shared_pipes
from edgeemu.links.unix_sockets import UnixSockets
from edgeemu.placement.blocks import ffn
from edgeemu.placement.program import MessageKind
from edgeemu.placement.shipments import Shipment
from edgeemu.run.choose_links import LinkChoice
from edgeemu.run.processes.link_setup import LinkSetup
from edgeemu.timeline.clock import WallClock

# -- in a process of its own ----------------------------------------------------------------------------------------


class Spec(msgspec.Struct):
    device: protocol_in.DeviceConfig
    peers: list[interface.Peer]
    start_s: float


def run_peer(spec_bytes: bytes) -> None:
    spec = msgspec.msgpack.decode(spec_bytes, type=Spec)
    if spec.device.links != "stamped":
        own_network_namespace()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    told = context.socket(zmq.DEALER)
    told.setsockopt(zmq.IDENTITY, str(spec.device.index).encode())
    told.connect(spec.device.control)
    peer = Peer(spec, make_links(spec.device), told)
    told.send(b"")
    while (command := msgspec.msgpack.decode(told.recv()))[0] != "end":
        try:
            answer = {"is": getattr(peer, command[0])(*command[1:])}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to say it
            answer = {"error": f"{type(error).__name__}: {error}"}
        told.send(msgspec.msgpack.encode(answer))
    with suppress(OSError):
        peer.links.close()
    told.close(linger=0)
    context.term()


def payload_of(step: int, size_bytes: int) -> Any:
    """Told from all others of its size: [1, n] float32."""
    return np.full((1, size_bytes // 4), step, np.float32)


class Peer:
    """Requests that a test can make of a process, by name."""

    def __init__(self, spec: Spec, links: Links, told: "zmq.Socket[bytes]") -> None:
        self.index, self.peers, self.links = spec.device.index, spec.peers, links
        self.clock = WallClock(spec.start_s, 1.0)
        self._told = told

    def connect(self) -> None:
        self.links.connect(self.peers)
        self.links.begin(self.clock)

    def send(self, targets: list[int], sizes: list[int], count_up: bool = False) -> str:
        """One message to each target of each size; with `count_up` the test is told before each. What went wrong."""
        try:
            for step, size_bytes in enumerate(sizes):
                for target in targets:
                    if count_up:
                        self._told.send(msgspec.msgpack.encode({"is": step}))
                    departure_s = self.clock.emulated_s(time.monotonic())
                    args = (self.index, 0, step, 1, step, departure_s, departure_s, payload_of(step, size_bytes))
                    self.links.send(messages.Data(MessageKind.HIDDEN, 0, *args), target)
        except LinkLostError as error:
            return f"lost: {error}"
        return ""

    def offer_chunks(self, target: int, number: int, size_bytes: int) -> int:
        """How many of so many chunks a link takes at once."""
        shipment = Shipment(ffn(0, 0), self.index, target, 0, 0, 0, with_weights=False)
        for n in range(number):
            header = messages.ChunkHeader(1, 1, shipment, offset=n, total=number, crc=0)
            if self.links.send_chunk(messages.ShipmentChunk(header, bytes(size_bytes)), n, target, 0.0) is None:
                return n
        return number

    def receive(self, number: int) -> list[tuple[int, int, int, float, float]]:
        """So many messages: source, step (-1: a chunk), checksum of the payload, departure, arrival."""
        came: list[tuple[int, int, int, float, float]] = []
        while len(came) < number:
            for message in self.links.receive():
                if isinstance(message, messages.ShipmentChunk):
                    came.append((message.header.shipment.source, -1, 0, 0.0, message.header.arrival_s))
                    continue
                crc = zlib.crc32(message.payload.tobytes())
                came.append((message.source, message.step, crc, message.departure_s, message.arrival_s))
            time.sleep(0.001)
        return came

    def nothing_more(self) -> bool:
        return not self.links.receive()

    def resident_bytes(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        self.links.close()


# -- in the test's process ------------------------------------------------------------------------------------------


class Peers:
    """The processes of a cluster, joined by links of a kind. Also what `LinkSetup` needs of a session."""

    def __init__(self, cluster: Cluster, kind: LinkChoice, fleet: Fleet) -> None:
        self.cluster, self.kind, self.fleet = cluster, kind, fleet
        self.pids: list[int] = []
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(self._told_address)
        self._network = UnixSockets(self.control_address)  # the other end of the network process's
        self._waiting: list[tuple[bytes, bytes]] = []

    @property
    def _told_address(self) -> str:
        """Where peers are told what to do."""
        return f"ipc://{self.fleet.directory}/told"

    @property
    def control_address(self) -> str:
        return f"ipc://{self.fleet.directory}/control"

    @property
    def orders_address(self) -> str:
        return f"ipc://{self.fleet.directory}/orders"

    def address(self, device: int) -> str:
        return f"ipc://{self.fleet.directory}/d{device}"

    async def send_to_network_process(self, request: bytes) -> None:
        assert self._network.offer(self.orders_address, framed([b"", request]))

    async def receive(self, kind: type[protocol.Answer]) -> protocol.Answer:
        while not (received := self._network.take()):
            await asyncio.sleep(0.001)
        ((_, frame),) = received
        answer = protocol.decode_answer(frame)
        assert isinstance(answer, kind), answer
        return answer

    async def start(self, pipes_fd: int) -> None:
        self.cabling = LinkSetup(self.kind, self.cluster, self.fleet, self)  # type: ignore[arg-type]
        everyone = range(len(self.cluster.devices))
        start_s = time.monotonic()
        for i in everyone:
            device = self.cluster.devices[i]
            spec = protocol_in.DeviceConfig(
                i, device.name, self._told_address, "", self.cabling.listens_at(i), 1 << 30, 1e9, 1e9, 0.0, None, 0,
                pipes_fd, self.cluster.n_pipes, self.kind.kind,
            )  # fmt: skip
            peers = [self._peer(i, j) for j in everyone if j != i]
            self.pids.append(await self.fleet.fork(device.name, msgspec.msgpack.encode(Spec(spec, peers, start_s))))
        for i in everyone:
            await self._from(str(i).encode())
        await self.cabling.build(1.0, dict(enumerate(self.pids)))
        await self.cabling.shape(1.0)
        for i in everyone:
            await self.ask(i, "connect")

    async def tell(self, peer: int, *command: Any) -> None:
        await self._router.send_multipart([str(peer).encode(), msgspec.msgpack.encode(command)])

    async def answer(self, peer: int) -> Any:
        answer = msgspec.msgpack.decode(await self._from(str(peer).encode()))
        assert "error" not in answer, answer["error"]
        return answer["is"]

    async def ask(self, peer: int, *command: Any) -> Any:
        await self.tell(peer, *command)
        return await self.answer(peer)

    async def end(self) -> None:
        for i in range(len(self.pids)):
            await self.tell(i, "end")
        await self.cabling.end()

    def close(self) -> None:
        self._network.close()
        self._router.close(linger=0)
        self._context.term()

    async def _from(self, identity: bytes) -> bytes:
        """The next message of one; those of others wait."""
        while True:
            for n, (sender, frame) in enumerate(self._waiting):
                if sender == identity:
                    del self._waiting[n]
                    return frame
            sender, frame = await self._router.recv_multipart()
            self._waiting.append((sender, frame))

    def _peer(self, source: int, target: int) -> interface.Peer:
        return interface.Peer(target, self.cabling.address(target), self.cluster.path(source, target))


@asynccontextmanager
async def joined(cluster: Cluster, kind: LinkChoice) -> AsyncIterator[Peers]:
    """Peers that reach each other; nothing of them is left afterwards."""
    pipes_fd = create_shared_pipes(cluster.n_pipes)
    try:
        async with Fleet("support.link_peers:run_peer", (pipes_fd,), user_namespace=kind.rootless) as fleet:
            peers = Peers(cluster, kind, fleet)
            try:
                await peers.start(pipes_fd)
                yield peers
                await peers.end()
            finally:
                peers.close()
    finally:
        os.close(pipes_fd)


def in_order(rows: list[Any], source: int) -> Iterator[Any]:
    return (row for row in rows if row[0] == source)
