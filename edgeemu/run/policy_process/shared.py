"""Pickling of views one after the other: large parts that all of them have are sent once. Knows no processes."""

import io
import pickle
from typing import Any, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.topology import Topology
from edgeemu.policies.view.link_matrix import ComputedMatrix, DenseMatrix

_SHARED = (Cluster, Topology, ComputedMatrix, DenseMatrix)  # never changed once they are made


class _Sent(NamedTuple):
    """A pickled object, after the shared parts that it is the first to have. Their numbers go up from 0."""

    parts: list[bytes]
    body: bytes


class Sender:
    """The sending side of objects with shared parts."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of each shared part that was sent, by its identity
        self._parts: list[object] = []  # in the order of their numbers: kept, so that no identity is used again

    def dumps(self, value: object) -> bytes:
        """Pickle an object. Everything that is pickled here must be read by one `Receiver`, in the same order."""
        parts: list[bytes] = []
        return pickle.dumps(tuple(_Sent(parts, self._pickled(value, parts))))

    def _pickled(self, value: object, parts: list[bytes]) -> bytes:
        file = io.BytesIO()
        _Pickler(file, self, value, parts).dump(value)
        return file.getvalue()

    def number(self, part: object, parts: list[bytes]) -> int:
        """Return the number of a shared part, which is added to `parts` if it was not sent before."""
        number = self._numbers.get(id(part))
        if number is None:
            pickled = self._pickled(part, parts)  # first, since it may have shared parts of its own
            number = self._numbers[id(part)] = len(self._parts)
            self._parts.append(part)
            parts.append(pickled)
        return number


class _Pickler(pickle.Pickler):
    """Pickler that writes numbers in place of shared parts, but for the object itself."""

    def __init__(self, file: io.BytesIO, sender: Sender, itself: object, parts: list[bytes]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._sender = sender
        self._itself = itself
        self._new_parts = parts

    def persistent_id(self, part: Any) -> int | None:
        if isinstance(part, _SHARED) and part is not self._itself:
            return self._sender.number(part, self._new_parts)
        return None


class Receiver:
    """The receiving side of objects with shared parts."""

    def __init__(self) -> None:
        self._parts: list[object] = []

    def loads(self, sent: bytes) -> Any:
        """Return the object that was pickled."""
        parts, body = pickle.loads(sent)
        for part in parts:
            self._parts.append(self._unpickled(part))
        return self._unpickled(body)

    def _unpickled(self, pickled: bytes) -> Any:
        return _Unpickler(io.BytesIO(pickled), self._parts).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, parts: list[object]) -> None:
        super().__init__(file)
        self._parts = parts

    def persistent_load(self, number: Any) -> Any:
        return self._parts[number]
