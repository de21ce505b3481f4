"""ZeroMQ connections between devices: messages in order, bounded memory, a lost peer is noticed. Knows no time.

A connection that breaks is not made again: what was on its way would be lost, and nobody would know.
"""

import struct
from typing import Protocol

import zmq

from edgeemu.links.interface import LinkLostError
from edgeemu.links.messages import Frames

HIGH_WATER = 64  # messages that wait at either end of a connection; a sender blocks above it
_LOST = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
_MONITOR_EVENT = struct.Struct("=Hi")  # event and value (zmq_socket_monitor(3)); zmq.utils.monitor needs asyncio


class Inbox(Protocol):
    """The receiving end of all connections to a device. `pollable` is a socket or a descriptor."""

    @property
    def pollable(self) -> "zmq.Socket[bytes] | int": ...
    def fileno(self) -> int: ...
    @property
    def waiting(self) -> bool: ...
    def take(self) -> list[tuple[float, list[bytes]]]:
        """Messages that have arrived, each with its instant of arrival on the wall clock (0: not measured)."""
        ...

    def close(self) -> None: ...


def receiver(context: "zmq.Context[zmq.Socket[bytes]]", address: str) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = context.socket(zmq.PULL)
    socket.set_hwm(HIGH_WATER)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 0)  # as senders
    socket.bind(address)
    return socket


class Connection:
    """The sending end of a connection to one device."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        *,
        high_water: int = HIGH_WATER,
        buffer_bytes: int = 0,
    ) -> None:
        """`buffer_bytes` is the size of the kernel's send buffer; 0: the kernel chooses."""
        self._address = address
        self._lost = False
        self._socket: zmq.Socket[bytes] = context.socket(zmq.PUSH)
        self._socket.set_hwm(high_water)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, 0)  # without a limit: the link may be down meanwhile
        if buffer_bytes:
            self._socket.setsockopt(zmq.SNDBUF, buffer_bytes)
        self._monitor = self._socket.get_monitor_socket(_LOST)
        self._socket.connect(address)

    def offer(self, frames: Frames) -> bool:
        """Sends a message, if there is room.

        Raises:
            LinkLostError: there is none, and there will be none.
        """
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            self._check()
            return False
        return True

    @property
    def has_room(self) -> bool:
        """Raises: LinkLostError, as `offer`."""
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
            return True
        self._check()
        return False

    def push(self, frames: Frames, inbox: Inbox) -> list[tuple[float, list[bytes]]]:
        """Sends a message, and waits for room if there is none.

        Messages that arrive meanwhile are taken in and returned: else two devices could wait for each other for ever.
        """
        received: list[tuple[float, list[bytes]]] = []
        if self.offer(frames):
            return received
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLOUT)
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(inbox.pollable, zmq.POLLIN)
        while not self.offer(frames):
            poller.poll()
            received += inbox.take()
        return received

    @property
    def is_lost(self) -> bool:
        """Whether nothing that is sent from now on will arrive, as far as that has been noticed."""
        while not self._lost and self._monitor.poll(0):
            event, _ = _MONITOR_EVENT.unpack(self._monitor.recv_multipart()[0])
            self._lost = bool(event & _LOST)
        return self._lost

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _check(self) -> None:
        if self.is_lost:
            raise LinkLostError(f"the connection to {self._address} is lost")
