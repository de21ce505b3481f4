"""Frames between the controller and the fork server."""

import struct
from collections.abc import Iterator

import msgspec

_LENGTH = struct.Struct("!I")


class Config(msgspec.Struct):
    """The server's only argument, as JSON."""

    control_fd: int
    entry: str  # "module:function", called in each device with its spec
    directory: str
    user_namespace: bool = False  # become root of a user namespace of its own, so that devices can make networks


class Fork(msgspec.Struct, tag="fork"):
    """Controller to server: start a device. The only request; closing the socket is the other."""

    name: str
    spec: bytes
    entry: str = ""  # another function than the devices'


class ServerReady(msgspec.Struct, tag="ready"):
    """Everything is imported; devices can be forked."""


class Forked(msgspec.Struct, tag="forked"):
    name: str
    pid: int


class Refused(msgspec.Struct, tag="refused"):
    """The device could not be forked."""

    name: str
    reason: str


class Exited(msgspec.Struct, tag="exited"):
    """A device is gone and reaped. `status` is its exit status, or minus the signal that killed it."""

    name: str
    pid: int
    status: int


Event = ServerReady | Forked | Refused | Exited


def frame(message: Fork | Event) -> bytes:
    """One message as it goes over the socket: length, then MessagePack."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Frames that are complete with `data`; the rest is kept."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body
