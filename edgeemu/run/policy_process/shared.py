"""Pickling of views one after the other: large parts that all of them have are sent once. Knows no processes."""

import copyreg
import io
import pickle
from typing import Any, NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.topology import Line, Mesh, Star
from edgeemu.policies.view.pair_matrix import ComputedMatrix, DenseMatrix

_SHARED = (Cluster, Mesh, Line, Star, ComputedMatrix, DenseMatrix)  # never changed once they are made


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

    def _pickled(self, value: object, new_parts: list[bytes]) -> bytes:
        def reduced(part: object) -> Any:
            if part is value:
                return part.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
            return shared_part, (self._number(part, new_parts),)

        file = io.BytesIO()
        pickler = pickle.Pickler(file, protocol=pickle.HIGHEST_PROTOCOL)
        # By type and not by `persistent_id`, which is called for every single number: ten times as fast
        pickler.dispatch_table = copyreg.dispatch_table | dict.fromkeys(_SHARED, reduced)
        pickler.dump(value)
        return file.getvalue()

    def _number(self, part: object, new_parts: list[bytes]) -> int:
        """Return the number of a shared part, which is added to the new parts if it was not sent before."""
        number = self._numbers.get(id(part))
        if number is None:
            pickled = self._pickled(part, new_parts)  # first, since it may have shared parts of its own
            number = self._numbers[id(part)] = len(self._parts)
            self._parts.append(part)
            new_parts.append(pickled)
        return number


def shared_part(number: int) -> object:
    """Stand in a pickle for a part that was sent before; only a `Receiver` knows which."""
    raise pickle.UnpicklingError(f"part {number} is known to a Receiver only")


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

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, shared_part.__name__):
            return self._parts.__getitem__
        return super().find_class(module, name)
