"""Requests to the kernel's network configuration, in batches, and its answers. Knows no cluster.

pyroute2 encodes and decodes; the socket is our own, because then a batch of hundreds of requests is one system call,
and because a socket stays in the namespace in which it was opened.
"""

import errno
import os
import socket
from collections.abc import Sequence
from struct import pack_into, unpack_from
from typing import Any, NamedTuple

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST

from edgeemu.errors import RunError

CREATE = NLM_F_CREATE | NLM_F_EXCL
CREATE_OR_REPLACE = NLM_F_CREATE | NLM_F_REPLACE
CHANGE = 0

_BATCH_BYTES = 1 << 15  # of requests in one system call; the socket's default buffer takes 200 KiB
_DUMP_BYTES = 1 << 17
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10  # linux/netlink.h
_ERROR, _DONE = 2, 3
_HEADER_BYTES = 16  # struct nlmsghdr
_ACK_TLVS, _CAPPED = 0x200, 0x100


class KernelRefusalError(RunError):
    """The kernel refused a request. `number` is its errno."""

    def __init__(self, what: str, number: int, text: str) -> None:
        super().__init__(f"the kernel refused {what}: {os.strerror(number)}{f' ({text})' if text else ''}")
        self.number = number


class NetlinkRequest(NamedTuple):
    """A message to the kernel, and its purpose, in words for an error."""

    data: bytes
    what: str


class Netlink:
    """A netlink socket in the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, requests: Sequence[NetlinkRequest]) -> None:
        """Sends requests, in this order, and waits for the kernel. Those after a refused one may be done or not.

        Raises: KernelRefusalError, for the first that is refused.
        """
        batch: list[NetlinkRequest] = []
        size = 0
        for request in requests:
            if batch and size + len(request.data) > _BATCH_BYTES:
                self._do(batch)
                batch, size = [], 0
            batch.append(request)
            size += len(request.data)
        if batch:
            self._do(batch)

    def dump(self, message: bytes, as_type: type[Any]) -> list[Any]:
        """Requests a list of objects, and decodes them with pyroute2's class `as_type`."""
        self._sequence += 1
        request = bytearray(message)
        pack_into("=HI", request, 6, NLM_F_REQUEST | NLM_F_DUMP, self._sequence)
        self._socket.send(request)
        found: list[Any] = []
        while True:
            for kind, data in _messages(self._socket.recv(_DUMP_BYTES)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise KernelRefusalError(f"a list of {as_type.__name__}", *_error(data))
                decoded = as_type(data)
                decoded.decode()
                found.append(decoded)

    def _do(self, batch: list[NetlinkRequest]) -> None:
        """Sends a batch in one system call. Only its last request is acknowledged; refusals of others precede that."""
        first = self._sequence + 1
        buffer = bytearray()
        for n, request in enumerate(batch):
            at = len(buffer)
            buffer += request.data
            flags = unpack_from("=H", buffer, at + 6)[0] | NLM_F_REQUEST | (NLM_F_ACK if n == len(batch) - 1 else 0)
            pack_into("=HI", buffer, at + 6, flags, first + n)
        self._sequence += len(batch)
        self._socket.send(buffer)
        refusal: KernelRefusalError | None = None
        while True:
            for kind, data in _messages(self._socket.recv(_DUMP_BYTES)):
                if kind != _ERROR:
                    continue  # a notification
                number, text = _error(data)
                n = unpack_from("=I", data, 8)[0] - first
                if number and refusal is None:
                    refusal = KernelRefusalError(batch[n].what, number, text)
                if n == len(batch) - 1:
                    if refusal is not None:
                        raise refusal
                    return


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + _HEADER_BYTES <= len(data):
        length, kind = unpack_from("=IH", data, at)
        found.append((kind, data[at : at + length]))
        at += (length + 3) & ~3
    return found


def _error(data: bytes) -> tuple[int, str]:
    """The errno of an error message, and the kernel's text for it (NLMSGERR_ATTR_MSG), maybe empty."""
    length, _, flags = unpack_from("=IHH", data)
    number = -unpack_from("=i", data, _HEADER_BYTES)[0]
    if not flags & _ACK_TLVS:
        return number, ""
    inner = unpack_from("=I", data, _HEADER_BYTES + 4)[0]
    at = _HEADER_BYTES + 4 + (_HEADER_BYTES if flags & _CAPPED else inner)
    while at + 4 <= length:
        size, kind = unpack_from("=HH", data, at)
        if kind == 1:
            return number, data[at + 4 : at + size].rstrip(b"\0").decode(errors="replace")
        at += (size + 3) & ~3
    return number, ""


def encoded(message: Any, message_type: int, flags: int) -> bytes:
    """The bytes of a message of pyroute2; `Netlink` fills in the sequence number."""
    message["header"]["type"] = message_type
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


def is_missing(error: KernelRefusalError) -> bool:
    """Whether the kernel lacks the feature of the refused request."""
    return error.number in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV)
