"""Emulated time: pure arithmetic on seconds since the start of the run. Knows no clock, no process and no socket.

Devices and simulator share it, so a run and its prediction differ only by what was measured.
"""

from dataclasses import dataclass
from hashlib import blake2b
from struct import pack, unpack_from
from typing import Generic, NamedTuple, Protocol, TypeVar

from edgeemu.blocks import Work
from edgeemu.cluster import Compute, Path
from edgeemu.variation import Variation, finish

ItemT = TypeVar("ItemT")

PACKET_BYTES = 1448  # TCP payload of one Ethernet frame with timestamps (RFC 7323)
MIN_RTO_S = 0.2  # Linux TCP_RTO_MIN: what a loss costs when too few packets follow to notice it (RFC 5681, 3.2)
FAST_RETRANSMIT_PACKETS = 4  # a loss among fewer cannot cause three duplicate acknowledgements


class Occupation(NamedTuple):
    """One execution on a device: it became ready, started and ended at these instants."""

    ready_s: float
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class WallClock:
    """wall = start + dilation * emulated, on the host's monotonic clock."""

    start_s: float
    dilation: float

    def wall_s(self, emulated_s: float) -> float:
        return self.start_s + self.dilation * emulated_s

    def emulated_s(self, wall_s: float) -> float:
        return (wall_s - self.start_s) / self.dilation


def occupy(
    device_free_s: float, ready_s: float, duration_s: float, availability: Variation | None = None
) -> Occupation:
    """A device computes one block at a time, in the order in which they became ready.

    `duration_s` is what the block takes on the whole device; other work on it leaves the share `availability`.
    """
    start_s = max(device_free_s, ready_s)
    return Occupation(ready_s, start_s, finish(availability, start_s, duration_s))


class Waiting(NamedTuple):
    """An operation that is ready: since when, of which sequence and step, and its place in the program."""

    ready_s: float
    sequence: int
    step: int
    place: int


class ReadyQueue(Generic[ItemT]):
    """What a device could run. It goes on with the step that it ran last, as long as that has something ready.

    Else first come, first served. So a stage of a pipeline is computed at one go, and passed on before the next
    sequence's: if operations of two took turns, both would leave late, together, and the pipeline would never fill.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Waiting, ItemT]] = []
        self._last = (-1, -1)  # sequence and step

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, waiting: Waiting, item: ItemT) -> None:
        self._waiting.append((waiting, item))

    def pop(self) -> tuple[Waiting, ItemT]:
        number = 0
        if len(self._waiting) > 1:
            number = min(range(len(self._waiting)), key=lambda n: self._rank(self._waiting[n][0]))
        waiting, item = self._waiting.pop(number)
        self._last = waiting.sequence, waiting.step
        return waiting, item

    def _rank(self, waiting: Waiting) -> tuple[bool, Waiting]:
        return (waiting.sequence, waiting.step) != self._last, waiting


def roofline_s(compute: Compute, work: Work) -> float:
    """Duration on an absolute device: bound by arithmetic or by memory, plus a fixed cost per block.

    Source: the roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009).
    """
    return max(work.flops / compute.flops_per_s, work.bytes_read / compute.mem_bytes_per_s) + compute.overhead_s


class Instants(Protocol):
    """For each pipe, by its number, the instant at which it is free: a dictionary, or memory that devices share."""

    def __getitem__(self, pipe: int, /) -> float: ...
    def __setitem__(self, pipe: int, free_s: float, /) -> None: ...


def serialise(free_s: Instants, path: Path, size_bytes: int, departure_s: float) -> float:
    """Sends a message through the pipes of a path; returns when its last bit is there, and books the pipes.

    A message claims every pipe of its path when it departs, first come first served, and books each for its own
    transmission only: neither a slower pipe nor a delay on the way keeps later messages from a pipe that is idle.
    Between pipes it is cut through, as packets are: a second pipe of the same rate adds its delay but not the
    transmission time again, unless it is the same pipe. The delays of the way are added at its end.

    Where a link varies, its rate counts as it changes under way, and its delay as it is when the message begins there.
    """
    begin_s = end_s = departure_s
    bits = 8.0 * size_bytes
    delay_s = 0.0
    for hop in path.hops:
        begin_s = max(begin_s, free_s[hop.pipe])
        passed_s = free_s[hop.pipe] = hop.passed_s(begin_s, bits)
        end_s = max(end_s, passed_s)
        delay_s += hop.delay_at(begin_s)
    return end_s + delay_s


class DrawKey(NamedTuple):
    """Names one message, so that its jitter and loss are the same draws wherever and whenever they are made."""

    source: int
    target: int
    sequence: int
    step: int
    stage: int
    layer: int


def uniforms(seed: int, key: DrawKey) -> tuple[float, ...]:
    """Eight independent numbers in [0, 1), a function of seed and key alone (BLAKE2b as a counter-based generator)."""
    digest = blake2b(pack("<6q", *key), digest_size=64, key=pack("<q", seed)).digest()
    return tuple((word >> 11) / 2**53 for word in unpack_from("<8Q", digest))


def lost_packets(packets: int, loss: float, uniform: float) -> int:
    """How many of `packets` are lost: the binomial distribution's quantile at `uniform`.

    With hundreds of losses to be expected, their number is as good as certain, and the mean is returned.
    """
    if loss > 0.5:  # count those that get through: the sum below needs a chance that none is lost
        return packets - lost_packets(packets, 1.0 - loss, 1.0 - uniform)
    if packets * loss > 200.0:
        return round(packets * loss)
    probability = (1.0 - loss) ** packets
    cumulative, lost = probability, 0
    while uniform >= cumulative and lost < packets:
        probability *= (packets - lost) / (lost + 1) * loss / (1.0 - loss)
        lost += 1
        cumulative += probability
    return lost


def disturbance_s(path: Path, size_bytes: int, seed: int, key: DrawKey, departure_s: float = 0.0) -> float:
    """Jitter (uniform, as netem's default) and what retransmission of lost packets adds to a message's delay.

    A round in which packets are lost costs a round trip, or the minimum retransmission timeout where too few packets
    follow for a fast retransmit, and the lost packets' transmission. At most six rounds, each with a fresh draw. A link
    that varies counts as it is when the message departs.
    """
    if not path.jitter_s and not path.loss:
        return 0.0
    draws = uniforms(seed, key)
    delay_s = path.delay_at(departure_s)
    extra_s = max((2.0 * draws[0] - 1.0) * path.jitter_s, -delay_s)
    bandwidth_bps = min(hop.bandwidth_at(departure_s) for hop in path.hops)
    outstanding = -(-size_bytes // PACKET_BYTES)
    for uniform in draws[2:]:
        lost = lost_packets(outstanding, path.loss, uniform) if path.loss else 0
        if not lost:
            break
        wait_s = 2.0 * delay_s if outstanding >= FAST_RETRANSMIT_PACKETS else max(MIN_RTO_S, 2.0 * delay_s)
        extra_s += wait_s + 8.0 * lost * PACKET_BYTES / bandwidth_bps
        outstanding = lost
    return extra_s
