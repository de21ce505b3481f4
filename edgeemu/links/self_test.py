"""The links' self-test as arithmetic: which messages to send, and what their arrivals show. Knows no processes.

Every figure is of emulated time. What is expected of an idle link is what the timeline says of it, less the headers of
Ethernet, IP and TCP where packets are real.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from statistics import median
from typing import NamedTuple

from edgeemu.cluster.cluster import Cluster
from edgeemu.cluster.links import Path
from edgeemu.links.interface import ProbeRecord
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.timeline.network import serialise
from edgeemu.timeline.retransmission import PACKET_BYTES

MAX_LINKS = 8  # [D] measured in a run: at about half a second each, a user still waits for them
SMALL_BYTES = 4
SMALL_MESSAGES = 5  # one by one; the median counts
BULK_WALL_S = 0.25
BULK_ROUND_TRIPS = 8  # for slow start to end before the second half, which counts (10 packets doubled: 3.7 MB)
MAX_BULK_WALL_S = 1.5
BULK_MESSAGES = 32
MAX_BULK_BYTES = 4 << 20  # all of it passes through the memory of a device that may have little left
MIN_STREAM_WALL_S = 0.02  # [D] a shorter one shows the scheduler more than the link
FRAME_BYTES = 1514  # of Ethernet with IP and TCP with timestamps (1448 + 32 + 20 + 14), as htb counts it


class Burst(NamedTuple):
    """Messages to send at once: their number, and the size of their payload."""

    messages: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class LinkTest:
    """One path between two devices: asked and measured. `stands_for` paths have the same parameters.

    `late_s` is how long after its arrival on the timeline a message was let through, by the clock.
    """

    source: str
    target: str
    stands_for: int
    size_bytes: int  # of the run's own messages
    loss: float
    jitter_s: float
    asked_delay_s: float
    delay_s: float
    asked_bps: float
    bps: float
    asked_round_trip_s: float
    round_trip_s: float
    late_s: float
    streamed_s: float  # duration of the half of the stream that counts

    @property
    def delay_off_s(self) -> float:
        return self.delay_s - self.asked_delay_s

    @property
    def rate_off(self) -> float:
        """Deviation of the rate, as a share of what was asked."""
        return self.bps / self.asked_bps - 1.0

    @property
    def round_trip_off_s(self) -> float:
        return self.round_trip_s - self.asked_round_trip_s


def distinct_pairs(cluster: Cluster, pairs: Iterable[tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    """One pair of each kind among `pairs`, with how many it stands for; of many kinds some, from slowest to fastest."""
    kinds: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for pair in sorted(pairs):
        path = cluster.path(*pair)
        hops = tuple((hop.bandwidth_bps, hop.delay_s, hop.varies) for hop in path.hops)
        kinds[hops, path.jitter_s, path.loss].append(pair)
    found = sorted((alike[0] for alike in kinds.values()), key=lambda pair: cluster.bandwidth_bps(*pair))
    if len(found) > MAX_LINKS:
        found = [found[round(n * (len(found) - 1) / (MAX_LINKS - 1))] for n in range(MAX_LINKS)]
    number = {alike[0]: len(alike) for alike in kinds.values()}
    return [(pair, number[pair]) for pair in found]


def bulk(path: Path, dilation: float) -> Burst:
    """A transfer that fills a link for so long that its second half shows the rate."""
    wall_s = min(MAX_BULK_WALL_S, max(BULK_WALL_S, BULK_ROUND_TRIPS * 2.0 * path.delay_at(0.0) * dilation))
    total_bytes = min(MAX_BULK_BYTES, path.bandwidth_at(0.0) / dilation * wall_s / 8.0)
    return Burst(BULK_MESSAGES, max(256, ceil(total_bytes / BULK_MESSAGES) - MESSAGE_HEADER_BYTES))


def measured(
    names: tuple[str, str],
    stands_for: int,
    there: Path,
    back: Path,
    size_bytes: int,
    *,
    real_packets: bool,
    small: Sequence[ProbeRecord],
    stream: Sequence[ProbeRecord],
    own_there: Sequence[ProbeRecord],
    own_back: Sequence[ProbeRecord],
) -> LinkTest:
    """Compares bursts over a path with what the timeline expects of an idle one."""
    share = PACKET_BYTES / FRAME_BYTES if real_packets else 1.0
    there, back = (path.averaged() if real_packets else path for path in (there, back))
    at_s = min(record.departure_s for record in small)
    middle = stream[len(stream) // 2 - 1]
    streamed_bytes = sum(record.size_bytes for record in stream[len(stream) // 2 :])
    streamed_s = stream[-1].arrival_s - middle.arrival_s
    arrivals = (*small, *own_there, *own_back)
    return LinkTest(
        *names,
        stands_for,
        size_bytes,
        loss=there.loss,
        jitter_s=there.jitter_s,
        asked_delay_s=_idle_s(there, small[0].size_bytes, at_s, 1.0),
        delay_s=median(record.arrival_s - record.departure_s for record in small),
        asked_bps=there.bandwidth_at(at_s) * share,
        bps=8.0 * streamed_bytes / streamed_s if streamed_s > 0 else float("inf"),
        asked_round_trip_s=_idle_s(there, size_bytes, at_s, share) + _idle_s(back, size_bytes, at_s, share),
        round_trip_s=sum(median(r.arrival_s - r.departure_s for r in own) for own in (own_there, own_back)),
        late_s=max(record.released_s - record.arrival_s for record in arrivals),
        streamed_s=streamed_s,
    )


def _idle_s(path: Path, size_bytes: int, at_s: float, share: float) -> float:
    """Time of a message on an idle path, if payload has that share of what is sent.

    `at_s` can be negative: a device that is told early sends its first test messages before the timeline's 0.
    """
    free_s: defaultdict[int, float] = defaultdict(lambda: -inf)
    return serialise(free_s, path, ceil(size_bytes / share), at_s) - at_s
