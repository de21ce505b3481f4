"""Links of a cluster and the paths made of them, and changes of either at an instant or a token."""

from dataclasses import dataclass, replace
from math import nextafter, prod
from typing import NamedTuple

from edgeemu.cluster.link_variation import LinkVariation
from edgeemu.cluster.variation import finish, share_at, value, without_faults
from edgeemu.topologies import End

MAX_LOSS = nextafter(1.0, 0.0)  # of a path of links that each lose nearly all: its product would be rounded to 1
LinkEnds = tuple[End, End]  # one direction of a link: where it starts, where it ends


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a direct connection, as the scenario gives it."""

    bandwidth_bps: float
    delay_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    varies: LinkVariation | None = None  # None: never
    send_j_per_bit: float | None = None  # energy of the device that sends a bit; None: not known
    receive_j_per_bit: float | None = None
    reorder: float = 0.0  # shares of packets: real TCP has to put them right, and nothing else is affected
    duplicate: float = 0.0


class Hop(NamedTuple):
    """One stage of a path: queue for the pipe, pass it at its rate, then take the delay to arrive."""

    pipe: int
    bandwidth_bps: float
    delay_s: float
    varies: LinkVariation | None = None

    def passed_s(self, begin_s: float, bits: float) -> float:
        """When the last bit of a message has passed the pipe, if its first one enters at `begin_s`."""
        if self.varies is None:
            return begin_s + bits / self.bandwidth_bps
        if self.varies.deliveries is not None:
            return self.varies.deliveries.passed_s(begin_s, bits)
        return finish(self.varies.rate, begin_s, bits / self.bandwidth_bps)

    def bandwidth_at(self, t_s: float) -> float:
        """The rate of the pipe at an instant, in bit/s."""
        return self.bandwidth_bps if self.varies is None else self.bandwidth_bps * share_at(self.varies.rate, t_s)

    def bandwidth_when_up_at(self, t_s: float) -> float:
        """The rate of the pipe at an instant as if there was no outage then, in bit/s."""
        varies = self.varies
        return self.bandwidth_bps if varies is None else self.bandwidth_bps * share_at(without_faults(varies.rate), t_s)

    def arriving_at(self, t_s: float) -> float:
        """The share of packets that faults leave at an instant."""
        return 1.0 if self.varies is None else value(self.varies.arriving, t_s)

    def delay_at(self, t_s: float) -> float:
        """The delay of a message that begins to pass at an instant."""
        return self.delay_s if self.varies is None else self.varies.delay_at(t_s, self.delay_s)


class HopEnergy(NamedTuple):
    """Energy per bit that one device on the path pays to send, relay or receive."""

    device: int
    j_per_bit: float | None  # None: not known


@dataclass(frozen=True, slots=True)
class Path:
    """The hops between two devices, end to end. Jitters of several links add up; losses compound."""

    hops: tuple[Hop, ...]
    jitter_s: float
    loss: float
    energies: tuple[HopEnergy, ...] = ()  # of devices only: an access point pays too, and is not counted

    @property
    def delay_s(self) -> float:
        """Nominal delay, ignoring variation and events."""
        return sum(hop.delay_s for hop in self.hops)

    @property
    def bandwidth_bps(self) -> float:
        """Nominal rate of a long stream alone, ignoring variation and events.

        That of its slowest pipe; a pipe that is crossed twice gives half.
        """
        return _stream_bps([(hop.pipe, hop.bandwidth_bps) for hop in self.hops])

    def averaged(self) -> "Path":
        """The path with mean rates in place of a trace's deliveries, as the kernel's queues follow it."""
        hops = (hop if hop.varies is None else hop._replace(varies=hop.varies.averaged()) for hop in self.hops)
        return replace(self, hops=tuple(hops))

    @property
    def varies(self) -> bool:
        return any(hop.varies is not None for hop in self.hops)

    @property
    def disturbs(self) -> bool:
        """Whether messages have jitter, or can lose packets."""
        return bool(self.jitter_s or self.loss) or any(hop.varies and hop.varies.arriving for hop in self.hops)

    def loss_at(self, t_s: float) -> float:
        """The share of packets that are lost of a message that departs at an instant."""
        arriving = prod([hop.arriving_at(t_s) for hop in self.hops])
        return self.loss if arriving == 1.0 else min(1.0 - (1.0 - self.loss) * arriving, MAX_LOSS)

    def delay_at(self, t_s: float) -> float:
        """The delay of a message that departs at an instant and queues nowhere."""
        return sum(hop.delay_at(t_s) for hop in self.hops)

    def bandwidth_at(self, t_s: float) -> float:
        """The rate of a long stream alone at an instant."""
        return _stream_bps([(hop.pipe, hop.bandwidth_at(t_s)) for hop in self.hops])

    def bandwidth_when_up_at(self, t_s: float) -> float:
        """The rate of a long stream alone at an instant as if there was no outage then."""
        return _stream_bps([(hop.pipe, hop.bandwidth_when_up_at(t_s)) for hop in self.hops])


def _stream_bps(hops: list[tuple[int, float]]) -> float:
    rates: dict[int, float] = {}
    for pipe, rate_bps in hops:
        before = rates.get(pipe)
        rates[pipe] = rate_bps if before is None else 1 / (1 / before + 1 / rate_bps)
    return min(rates.values())


class Outage(NamedTuple):
    """Time for which devices stand still, and links let nothing pass or lose packets, whatever else changes."""

    until_s: float  # infinite: for good
    loss: float = 1.0  # share of packets that links lose; 1: nothing passes
    resent: bool = False  # what was sent meanwhile is lost, and sent again by a timer; else it waits


class Change(NamedTuple):
    """New values that an event gives to devices or links, or a fault's outage; None: that value stays."""

    devices: tuple[int, ...] = ()
    speed: float | None = None  # the share of its own speed that a device has from then on
    memory_bytes: int | None = None  # the memory that it has left
    links: tuple[LinkEnds, ...] = ()
    bandwidth_bps: float | None = None
    delay_s: float | None = None
    outage: Outage | None = None


class TokenEvent(NamedTuple):
    """A change at a token of the first sequence: at an instant that only the run knows."""

    at_token: int
    change: Change
