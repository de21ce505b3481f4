"""Frames between the controller and the fork server."""

import struct
from collections.abc import Iterator

import msgspec

_LENGTH = struct.Struct("!I")


class Config(msgspec.Struct):
    """Configuration of the fork server, as its only argument in JSON."""

    control_fd: int
    entry: str  # "module:function", called in each device with its spec
    directory: str
    prepare: str = ""  # "module:function", called once with `prepared`, before any device is forked
    prepared: str = ""
    user_namespace: bool = False  # become root of a user namespace of its own, so that devices can make networks


class Fork(msgspec.Struct, tag="fork"):
    """Request to the server: fork a device. Closing the socket is the only other request."""

    name: str
    spec: bytes
    entry: str = ""  # another function than the devices'


class ServerReady(msgspec.Struct, tag="ready"):
    """Event: all imports are done, devices can be forked."""


class Forked(msgspec.Struct, tag="forked"):
    name: str
    pid: int


class Refused(msgspec.Struct, tag="refused"):
    """Event: the device could not be forked."""

    name: str
    reason: str


class Exited(msgspec.Struct, tag="exited"):
    """Event: a device has ended and is reaped. `status` is its exit status, or minus the signal that killed it."""

    name: str
    pid: int
    status: int


Event = ServerReady | Forked | Refused | Exited


def frame(message: Fork | Event) -> bytes:
    """Encode one message for the socket: its length, then MessagePack."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Decoder from received bytes to complete frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Frames that are complete after `data`; an incomplete one is kept for later."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body
