"""Arrival of messages by the wall clock: a thread takes them from the socket while the device computes.

It holds so many bytes and no more: then it stops reading, and TCP holds the senders back.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import zmq

from edgeemu.links.connections import receiver
from edgeemu.links.interface import LinkLostError
from edgeemu.links.stalls import BEAT_MS, Stalls

LIMIT_BYTES = 16 << 20  # received, but not yet taken by the device; one message more than that at most


class StampingInbox:
    """An inbox that stamps each message with the instant at which this process received it. `now` is the wall clock."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        address: str,
        now: Callable[[], float],
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.stalls = Stalls()
        self._socket = receiver(context, address)
        self._now = now
        self._limit_bytes = limit_bytes
        self._queue: deque[tuple[float, list[bytes]]] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._ended = ""
        self._closing = False
        self.pollable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._close_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self.pollable

    @property
    def waiting(self) -> bool:
        return bool(self._queue or self._ended)

    def take(self) -> list[tuple[float, list[bytes]]]:
        """Raises: LinkLostError, when nothing will arrive any more."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.pollable)
        with self._room:
            taken = list(self._queue)
            self._queue.clear()
            self._bytes = 0
            self._room.notify()
        if self._ended and not taken:
            raise LinkLostError(f"messages can no longer be received: {self._ended}")
        return taken

    def close(self) -> None:
        with self._room:
            self._closing = True
            self._room.notify()
        os.eventfd_write(self._close_fd, 1)
        self._thread.join()
        self._socket.close(linger=0)
        os.close(self.pollable)
        os.close(self._close_fd)

    def _run(self) -> None:
        try:
            self._receive()
        except zmq.ZMQError as error:
            self._ended = str(error)
            os.eventfd_write(self.pollable, 1)

    def _receive(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._close_fd, zmq.POLLIN)
        while not self._closing:
            poller.poll(BEAT_MS)
            self.stalls.beat(self._now())  # before messages are stamped: a stall has ended by then
            with suppress(zmq.Again):
                while not self._closing:
                    frames = self._socket.recv_multipart(zmq.NOBLOCK)
                    stamp_s = self._now()
                    self.stalls.beat(stamp_s)
                    self._put(stamp_s, frames)

    def _put(self, stamp_s: float, frames: list[bytes]) -> None:
        with self._room:
            self._queue.append((stamp_s, frames))
            self._bytes += sum(map(len, frames))
            os.eventfd_write(self.pollable, 1)
            while self._bytes >= self._limit_bytes and not self._closing:
                self._room.wait()
                self.stalls.pause()
