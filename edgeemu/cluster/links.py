"""Links of a cluster and the paths made of them, and changes of either at an instant or a token."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgeemu.cluster.variation import LinkVariation, finish, share_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a direct connection, as the scenario gives it."""

    bandwidth_bps: float
    delay_s: float
    jitter_s: float = 0.0
    loss: float = 0.0
    varies: LinkVariation | None = None  # None: never
    send_j_per_bit: float | None = None  # what a bit costs the device that sends it; None: not known
    receive_j_per_bit: float | None = None
    reorder: float = 0.0  # shares of packets: what real TCP is given to put right, and nothing else feels
    duplicate: float = 0.0


class Hop(NamedTuple):
    """One stage of a path: queue for the pipe, pass it at its rate, then take the delay to arrive."""

    pipe: int
    bandwidth_bps: float
    delay_s: float
    varies: LinkVariation | None = None

    def passed_s(self, begin_s: float, bits: float) -> float:
        """When the last bit of a message is through, whose first enters at `begin_s`."""
        if self.varies is None:
            return begin_s + bits / self.bandwidth_bps
        return finish(self.varies.rate, begin_s, bits / self.bandwidth_bps)

    def bandwidth_at(self, t_s: float) -> float:
        return self.bandwidth_bps if self.varies is None else self.bandwidth_bps * share_at(self.varies.rate, t_s)

    def delay_at(self, t_s: float) -> float:
        return self.delay_s if self.varies is None else self.varies.delay_at(t_s, self.delay_s)


class HopEnergy(NamedTuple):
    """What a bit that passes costs a device on its way: one that sends it, relays it or receives it."""

    device: int
    j_per_bit: float | None  # None: not known


@dataclass(frozen=True, slots=True)
class Path:
    """All that a message meets between two devices. Jitters of several links add up; losses compound."""

    hops: tuple[Hop, ...]
    jitter_s: float
    loss: float
    tolls: tuple[HopEnergy, ...] = ()  # an access point pays, but is no device: its part is not among them

    @property
    def delay_s(self) -> float:
        """Of the links as they are by themselves: without variation, and before any event."""
        return sum(hop.delay_s for hop in self.hops)

    @property
    def bandwidth_bps(self) -> float:
        """The rate that a long stream gets alone: that of its slowest pipe (crossed twice, it gives half).

        Of the links as they are by themselves: without variation, and before any event.
        """
        return _stream_bps([(hop.pipe, hop.bandwidth_bps) for hop in self.hops])

    @property
    def varies(self) -> bool:
        return any(hop.varies is not None for hop in self.hops)

    def delay_at(self, t_s: float) -> float:
        """The delay of a message that sets out at an instant and waits nowhere."""
        return sum(hop.delay_at(t_s) for hop in self.hops)

    def bandwidth_at(self, t_s: float) -> float:
        """`bandwidth_bps` as it is at an instant."""
        return _stream_bps([(hop.pipe, hop.bandwidth_at(t_s)) for hop in self.hops])


def _stream_bps(hops: list[tuple[int, float]]) -> float:
    rates: dict[int, float] = {}
    for pipe, rate_bps in hops:
        before = rates.get(pipe)
        rates[pipe] = rate_bps if before is None else 1 / (1 / before + 1 / rate_bps)
    return min(rates.values())


class Leg(NamedTuple):
    """One link on the way, the pipe that it occupies, and the devices at its ends (None: not a device)."""

    source: int | None
    target: int | None
    pipe: int
    link: Link


End = int | None  # of a link: a device, or the access point


class Change(NamedTuple):
    """What an event changes, and to what. Links are directed pairs of ends, as legs have them."""

    devices: tuple[int, ...] = ()
    speed: float | None = None  # the share of its own speed that a device has from then on
    memory_bytes: int | None = None  # what there is of its memory
    links: tuple[tuple[End, End], ...] = ()
    bandwidth_bps: float | None = None
    delay_s: float | None = None


class TokenEvent(NamedTuple):
    """A change that comes when a token of the first sequence is begun: at an instant that only the run knows."""

    at_token: int
    change: Change


class Ways(Protocol):
    """Many ways at once, as arrays; see `edgeemu.cluster.topology`."""

    def between(
        self, sources: "NDArray[np.int64]", targets: "NDArray[np.int64]", /
    ) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Bandwidths in bit/s and delays in seconds, by themselves: [n_sources, n_targets] each."""

    def over(self, ends: Iterable[tuple[End, End]], /) -> set[tuple[int, int]]:
        """The ways that go over any of these links."""


Legs = Callable[[int, int], tuple[Leg, ...]]
LinkBetween = Callable[[int, int], Link]
