"""Arrivals of messages on the timeline: queueing in pipes, delay, jitter, loss and retransmission."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np

from edgeemu.cluster.keyed_random import block
from edgeemu.cluster.links import Hop, Path
from edgeemu.placement.arrays import IntArray
from edgeemu.timeline.retransmission import PACKET_BYTES, resent_s, retransmission_s


class Instants(Protocol):
    """Instants at which pipes become free, by pipe number: a dictionary, or memory that devices share."""

    def __getitem__(self, pipe: int, /) -> float: ...
    def __setitem__(self, pipe: int, free_s: float, /) -> None: ...


def serialise(free_s: Instants, path: Path, size_bytes: int, departure_s: float) -> float:
    """Send a message through the pipes of a path. Books the pipes; returns the arrival of its last bit.

    A message claims every pipe of its path when it departs, first come first served, and books each only for its own
    transmission: neither a slower pipe nor a delay on the path keeps later messages from an idle pipe. It passes from
    pipe to pipe packet by packet (cut-through): a second pipe of the same rate adds its delay, but not the transmission
    time again, unless it is the same pipe. The delays of the path are added at its end.

    Where a link varies, its rate counts as it changes under way, and its delay as it is when the message begins there.
    What was lost because a link was down is sent again by a timer.
    """
    begin_s = end_s = departure_s
    bits = 8.0 * size_bytes
    delay_s = resent_late_s = 0.0
    for hop in path.hops:
        pipe, bandwidth_bps, hop_delay_s, varies = hop
        begin_s = max(begin_s, free_s[pipe])
        if varies is None:
            passed_s = begin_s + bits / bandwidth_bps
            delay_s += hop_delay_s
        else:
            passed_s = hop.passed_s(begin_s, bits)
            delay_s += hop.delay_at(begin_s)
            lost = varies.lost_s(departure_s, passed_s)
            if lost is not None:
                since_s, up_s = lost
                again_s = up_s + resent_s(up_s - since_s, 2.0 * path.delay_at(departure_s))
                resent_late_s = max(resent_late_s, again_s - max(up_s, begin_s))
        free_s[pipe] = passed_s
        end_s = max(end_s, passed_s)
    return end_s + delay_s + resent_late_s


class DrawKey(NamedTuple):
    """Names one message, so that its jitter and loss are the same draws wherever and whenever they are made."""

    source: int
    target: int
    sequence: int
    step: int
    kind: int
    layer: int


MessageKey = tuple[int, int, int, int, int, int]  # fields of a `DrawKey`, of which few messages need one


def uniforms(seed: int, key: DrawKey) -> tuple[float, ...]:
    """Eight independent numbers in [0, 1), a function of the seed and the key alone."""
    return tuple(word / 2**53 for word in block(seed, *key))


def disturbance_s(path: Path, size_bytes: int, seed: int, key: DrawKey, departure_s: float = 0.0) -> float:
    """Delay that jitter (uniform, as netem's default) and retransmission of lost packets add to a message.

    Jitter counts up to the delay, so that the mean stays the delay's. A link that varies counts as it is when the
    message departs.
    """
    loss = path.loss_at(departure_s)
    if not path.jitter_s and not loss:
        return 0.0
    delay_s = path.delay_at(departure_s)
    draws = _draws(seed, key)
    extra_s = (2.0 * next(draws) - 1.0) * min(path.jitter_s, delay_s)
    if not loss:
        return extra_s
    next(draws)
    bandwidth_bps = min(hop.bandwidth_when_up_at(departure_s) for hop in path.hops)
    packets = -(-size_bytes // PACKET_BYTES)
    return extra_s + retransmission_s(packets, loss, 2.0 * delay_s, 8.0 * PACKET_BYTES / bandwidth_bps, draws)


def _draws(seed: int, key: DrawKey) -> Iterator[float]:
    """Endless independent numbers in [0, 1), of which the first eight are `uniforms`."""
    yield from uniforms(seed, key)
    for more in count(1):
        yield from (word / 2**53 for word in block(seed, *key, more))


class Booking(NamedTuple):
    """A booked message: its arrival, and how long it waits on its way because pipes are taken by others."""

    arrival_s: float
    waited_s: float


class Transit(NamedTuple):
    """Messages of one size from one device to another: their number and their total time on the link, without waits."""

    source: int
    target: int
    size_bytes: int
    messages: int
    sum_s: float


class Transits:
    """Sums of messages' times by ends and size, as a link's receiver can measure them.

    A message that departed before its predecessor on the connection had arrived may have waited for it, and measures
    nothing of the link: it is left out. The time for which one waited for messages of other connections is not the
    link's, and is not counted, as far as it is known.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int, int], tuple[int, float]] = {}
        self._last_s: dict[tuple[int, int], float] = {}

    def passed(self, source: int, target: int, departure_s: float, arrival_s: float) -> bool:
        """Record an arrival on a connection, in order; returns whether it had the connection to itself."""
        alone = departure_s >= self._last_s.get((source, target), 0.0)
        self._last_s[source, target] = arrival_s
        return alone

    def add(
        self, source: int, target: int, size_bytes: int, departure_s: float, arrival_s: float, waited_s: float = 0.0
    ) -> None:
        """Record a message that has arrived or will arrive, and how long it waited for others in queues."""
        if not self.passed(source, target, departure_s, arrival_s):
            return
        took_s = arrival_s - departure_s - waited_s
        ends = source, target, size_bytes
        messages, sum_s = self._sums.get(ends, (0, 0.0))
        self._sums[ends] = messages + 1, sum_s + took_s

    def take(self) -> list[Transit]:
        """Sums since the last call."""
        taken = [Transit._make((*ends, *sums)) for ends, sums in self._sums.items()]
        self._sums.clear()
        return taken


@dataclass(slots=True)
class BookedConnection:
    """Connection from one device to another: its path, and when its last message has arrived."""

    source: int
    target: int
    number: int  # of the network's connections, in the order in which they were made
    last_arrival_s: float = 0.0
    path: Path | None = None  # None: not looked up yet
    pipe: Hop | None = None  # the path's only hop, if it never varies
    disturbed: bool = False  # the path has jitter or loss, at some time at least

    def follow(self, path: Path) -> None:
        """Take a path from now on."""
        first = path.hops[0]
        self.path = path
        self.pipe = first if len(path.hops) == 1 and first.varies is None else None  # most links: always the same
        self.disturbed = path.disturbs


class Network:
    """Network on the timeline: computes the arrival of messages, which are sent in the order of their departure.

    A pipe serves first come, first served, and messages of one connection (source to target) stay in order.
    """

    def __init__(self, path: Callable[[int, int], Path], seed: int, free_s: Instants | None = None) -> None:
        self._path = path
        self._seed = seed
        self._free_s: Instants = defaultdict(float) if free_s is None else free_s
        self._connections: dict[tuple[int, int], BookedConnection] = {}
        self._ends = np.empty((2, 0), np.int64)

    def follow(self, path: Callable[[int, int], Path]) -> None:
        """Take other paths from now on: the cluster has changed."""
        self._path = path
        for connection in self._connections.values():
            connection.path = None

    def connection(self, source: int, target: int) -> BookedConnection:
        """Return the connection from one device to another."""
        found = self._connections.get((source, target))
        if found is None:
            found = self._connections[source, target] = BookedConnection(source, target, len(self._connections))
        return found

    def ends(self) -> IntArray:
        """Sources and targets of connections, by their number: [2, n_connections]."""
        if self._ends.shape[1] < len(self._connections):
            self._ends = np.array(list(self._connections), np.int64).T
        return self._ends

    def arrival_s(self, key: MessageKey, size_bytes: int, departure_s: float) -> float:
        """Books a message of `size_bytes` that departs now; returns when it is wholly there."""
        return self.passage(key, size_bytes, departure_s).arrival_s

    def passage(self, key: MessageKey, size_bytes: int, departure_s: float) -> Booking:
        """Books a message of `size_bytes` that departs now; returns when it is wholly there, and how long it waited."""
        connection = self.connection(key[0], key[1])
        path = self._path(key[0], key[1])
        if path is not connection.path:
            connection.follow(path)
        return Booking(*self.book(connection, (key[2], key[3]), (key[4], key[5]), size_bytes, departure_s))

    def book(
        self,
        connection: BookedConnection,
        step: tuple[int, ...],
        slot: tuple[int, int],
        size_bytes: int,
        departure_s: float,
    ) -> tuple[float, float]:
        """Books a message on a connection: `passage` for who keeps the connections.

        `step` (first sequence and number) and `slot` (kind and place) name it: they are the rest of its `DrawKey`.
        """
        path, free_s = connection.path, self._free_s
        if path is None:
            path = self._path(connection.source, connection.target)
            connection.follow(path)
        if connection.pipe is not None:
            pipe, bandwidth_bps, delay_s, _ = connection.pipe
            begin_s, took_s = free_s[pipe], 8.0 * size_bytes / bandwidth_bps
            taken = begin_s > departure_s
            if not taken:
                begin_s = departure_s
            free_s[pipe] = passed_s = begin_s + took_s
            arrival_s = passed_s + delay_s
            waited_s = max(0.0, arrival_s - departure_s - (arrival_s - begin_s)) if taken else 0.0
        else:
            hops = path.hops
            begin_s, taken = max(departure_s, free_s[hops[0].pipe]), False
            for hop in hops:
                taken = taken or free_s[hop.pipe] > departure_s
            arrival_s, waited_s = serialise(free_s, path, size_bytes, departure_s), 0.0
            if taken:
                alone_s = serialise(defaultdict(float), path, size_bytes, begin_s) - begin_s
                waited_s = max(0.0, arrival_s - departure_s - alone_s)
        if connection.disturbed:
            key = DrawKey(connection.source, connection.target, step[0], step[1], *slot)
            arrival_s += disturbance_s(path, size_bytes, self._seed, key, departure_s)
        last_s = connection.last_arrival_s
        if arrival_s < last_s:
            arrival_s = last_s
        connection.last_arrival_s = arrival_s
        return arrival_s, waited_s

    def delay_s(self, source: int, target: int, departure_s: float) -> float:
        """Delay that a path adds to a message departing at an instant, besides the time in its pipes."""
        return self._path(source, target).delay_at(departure_s)
