"""When a message arrives: the state of every pipe and connection on the timeline. Knows no sockets and no clock."""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from edgeemu.cluster import Path
from edgeemu.timeline import DrawKey, Instants, disturbance_s, serialise


class Transit(NamedTuple):
    """How long messages of one size took from one device to another, from departure to arrival, all together."""

    source: int
    target: int
    size_bytes: int
    messages: int
    sum_s: float


class Transits:
    """Sums of what messages took, by ends and size: what a link's receiver can say of it.

    A message that departed before the one before it had come, on the same connection, may have waited for that one, and
    says nothing of the link: it is left out. What waited for others' messages counts as it came.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int, int], tuple[int, float]] = {}
        self._last_s: dict[tuple[int, int], float] = {}

    def passed(self, source: int, target: int, departure_s: float, arrival_s: float) -> bool:
        """Something has come on a connection, in its order; whether it had the connection for itself."""
        alone = departure_s >= self._last_s.get((source, target), 0.0)
        self._last_s[source, target] = arrival_s
        return alone

    def add(self, source: int, target: int, size_bytes: int, departure_s: float, arrival_s: float) -> None:
        """A message that has come, or will."""
        if not self.passed(source, target, departure_s, arrival_s):
            return
        took_s = arrival_s - departure_s
        ends = source, target, size_bytes
        messages, sum_s = self._sums.get(ends, (0, 0.0))
        self._sums[ends] = messages + 1, sum_s + took_s

    def take(self) -> list[Transit]:
        """The sums since the last call."""
        taken = [Transit(*ends, *sums) for ends, sums in self._sums.items()]
        self._sums.clear()
        return taken


class Network:
    """Messages sent in the order of their departure, each given its arrival.

    A pipe serves first come, first served, and messages of one connection (source to target) stay in order.
    """

    def __init__(self, path: Callable[[int, int], Path], seed: int, free_s: Instants | None = None) -> None:
        self._path = path
        self._seed = seed
        self._free_s: Instants = defaultdict(float) if free_s is None else free_s
        self._last_arrival_s: dict[tuple[int, int], float] = defaultdict(float)

    def arrival_s(self, key: DrawKey, size_bytes: int, departure_s: float) -> float:
        """Books a message of `size_bytes` that departs now; returns when it is wholly there."""
        path = self._path(key.source, key.target)
        through_s = serialise(self._free_s, path, size_bytes, departure_s)
        arrival_s = through_s + disturbance_s(path, size_bytes, self._seed, key, departure_s)
        connection = key.source, key.target
        arrival_s = max(arrival_s, self._last_arrival_s[connection])
        self._last_arrival_s[connection] = arrival_s
        return arrival_s

    def delay_s(self, source: int, target: int, departure_s: float) -> float:
        """What the way adds to a message that departs at an instant, beside the time that its pipes take."""
        return self._path(source, target).delay_at(departure_s)
