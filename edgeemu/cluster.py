"""The cluster of a run: devices, and the paths between them, with every random draw made.

Pure data, and small: device processes import it, so it knows no scenario, no catalog and no pydantic. It is
made from a scenario by `edgeemu.sampling.draw`. What changes over time is a `Variation`, a function of emulated time.

A *pipe* is a first-come-first-served resource (one direction of a cable or of a network interface, the air
around an access point), known by an integer. A path is the pipes that a message passes, in order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgeemu.variation import LinkVariation, Variation, finish, reset, share_at, steered, value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Compute:
    """The speed of a device in absolute terms: the two roofs of the roofline model, and a fixed cost."""

    flops_per_s: float
    mem_bytes_per_s: float
    overhead_s: float  # for each block that is executed


@dataclass(frozen=True, slots=True)
class Device:
    """One device. Either `compute` is given, or `host_fraction`: its speed as a share of one host core's."""

    index: int
    name: str
    profile: str | None
    compute: Compute | None
    host_fraction: float | None
    overhead_s: float
    memory_bytes: int
    nic_bps: float | None  # full duplex, shared by all the device's links; None: no limit of its own
    availability: Variation | None = None  # the share of its compute that is left to us; None: all, always
    memory_availability: Variation | None = None  # the share of its memory
    idle_w: float | None = None  # what it draws when it waits; None: not known
    busy_w: float | None = None  # … and when it computes for us

    def slowdown_at(self, t_s: float) -> float:
        """How much longer everything takes at an instant than with nothing else on the device."""
        return 1.0 / share_at(self.availability, t_s)

    def memory_at(self, t_s: float) -> int:
        """Bytes that are there for us at an instant."""
        return memory_left_bytes(self.memory_bytes, self.memory_availability, t_s)


def memory_left_bytes(memory_bytes: int, availability: Variation | None, t_s: float) -> int:
    """What is left of a device's memory at an instant: never more than it has."""
    return round(memory_bytes * min(1.0, max(0.0, value(availability, t_s))))


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


class Toll(NamedTuple):
    """What a bit that passes costs a device on its way: one that sends it, relays it or receives it."""

    device: int
    j_per_bit: float | None  # None: not known


@dataclass(frozen=True, slots=True)
class Path:
    """All that a message meets between two devices. Jitters of several links add up; losses compound."""

    hops: tuple[Hop, ...]
    jitter_s: float
    loss: float
    tolls: tuple[Toll, ...] = ()  # an access point pays, but is no device: its part is not among them

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
    """Many ways at once, as arrays; see `edgeemu.ways`."""

    def between(
        self, sources: "NDArray[np.int64]", targets: "NDArray[np.int64]", /
    ) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        """Bandwidths in bit/s and delays in seconds, by themselves: [n_sources, n_targets] each."""

    def over(self, ends: Iterable[tuple[End, End]], /) -> set[tuple[int, int]]:
        """The ways that go over any of these links."""


Legs = Callable[[int, int], tuple[Leg, ...]]
LinkBetween = Callable[[int, int], Link]


class Cluster:
    """Devices, and the path between any two, worked out when first asked for: 1,000 have 999,000."""

    __slots__ = (
        "_changes",
        "_legs",
        "_n_link_pipes",
        "_nic_pipes",
        "_paths",
        "_varying",
        "devices",
        "events",
        "n_pipes",
        "name",
        "seed",
        "ways",
    )

    def __init__(
        self,
        name: str,
        seed: int,
        devices: tuple[Device, ...],
        legs: Legs,
        n_link_pipes: int,
        events: tuple[TokenEvent, ...] = (),
        changes: Mapping[tuple[End, End], tuple[tuple[float, Change], ...]] | None = None,
        varying: frozenset[tuple[End, End]] | None = frozenset(),
        ways: Ways | None = None,
    ) -> None:
        """`legs` gives the links of a way, whose pipes are 0 … n_link_pipes - 1. The interfaces' follow.

        `changes` are what events make of links, by their ends; devices have theirs in their availability.
        `varying` are the links that change over time by themselves; None: all. `ways` says of many ways at once
        what `path` says of each, where there is something that can.
        """
        self.name = name
        self.seed = seed
        self.devices = devices
        self.events = events
        self._legs = legs
        self._n_link_pipes = n_link_pipes
        self._changes = changes or {}
        self._varying = varying
        self.ways = ways
        self._paths: dict[tuple[int, int], Path] = {}
        with_nic = [device.index for device in devices if device.nic_bps is not None]
        self._nic_pipes = {index: n_link_pipes + 2 * n for n, index in enumerate(with_nic)}  # egress; ingress + 1
        self.n_pipes = n_link_pipes + 2 * len(with_nic)

    def path(self, src: int, dst: int) -> Path:
        """The way from device `src` to device `dst`, which must be another."""
        found = self._paths.get((src, dst))
        if found is None:
            found = self._paths[src, dst] = self._work_out(src, dst)
        return found

    def bandwidth_bps(self, src: int, dst: int) -> float:
        return self.path(src, dst).bandwidth_bps

    def delay_s(self, src: int, dst: int) -> float:
        return self.path(src, dst).delay_s

    def j_per_bit(self, src: int, dst: int) -> float | None:
        """What a bit from one device to another costs all devices on its way together; None: not known."""
        costs = [toll.j_per_bit for toll in self.path(src, dst).tolls]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if costs and len(known) == len(costs) else None

    @property
    def links_vary(self) -> bool:
        """Whether any link changes over time, by itself or by events at instants that are known."""
        return self._varying is None or bool(self._varying or self._changes)

    def varying_ways(self) -> set[tuple[int, int]] | None:
        """The ways that go over links which change over time; None: maybe all."""
        if not self.links_vary:
            return set()
        if self._varying is None or self.ways is None:
            return None
        return self.ways.over(self._varying | self._changes.keys())

    def changed(self, change: Change, at_s: float) -> "Cluster":
        """The cluster whose devices and links change from an instant on. What was before that instant stays."""
        devices = list(self.devices)
        for index in change.devices:
            devices[index] = _changed_device(devices[index], change, at_s)
        changes = dict(self._changes)
        for ends in change.links:
            changes[ends] = (*changes.get(ends, ()), (at_s, change))
        same = self._legs, self._n_link_pipes, self.events
        other = Cluster(self.name, self.seed, tuple(devices), *same, changes, self._varying, self.ways)
        other._paths = {ends: path for ends, path in self._paths.items() if not self.crosses(*ends, change)}
        return other

    def still(self) -> "Cluster":
        """The cluster without what happens to it: no loads, no variation, no events."""
        devices = tuple(replace(device, availability=None, memory_availability=None) for device in self.devices)

        def legs(src: int, dst: int) -> tuple[Leg, ...]:
            return tuple(leg._replace(link=replace(leg.link, varies=None)) for leg in self._legs(src, dst))

        return Cluster(self.name, self.seed, devices, legs, self._n_link_pipes)

    def crosses(self, src: int, dst: int, change: Change) -> bool:
        """Whether the way from one device to another goes over a link that a change is of."""
        links = set(change.links)
        return bool(links) and any((leg.source, leg.target) in links for leg in self._legs(src, dst))

    def events_at(self, token: int) -> list[Change]:
        """What happens when that token of the first sequence is begun."""
        return [event.change for event in self.events if event.at_token == token]

    def __eq__(self, other: object) -> bool:
        """Same devices, same paths between all of them, and the same events."""
        if not isinstance(other, Cluster):
            return NotImplemented
        mine = (self.name, self.seed, self.devices, self.n_pipes, self.events)
        if mine != (other.name, other.seed, other.devices, other.n_pipes, other.events):
            return False
        everyone = range(len(self.devices))
        return all(self.path(a, b) == other.path(a, b) for a in everyone for b in everyone if a != b)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and the content is worked out lazily

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, seed={self.seed}, {len(self.devices)} devices, {self.n_pipes} pipes)"

    def legs(self, src: int, dst: int) -> tuple[Leg, ...]:
        """The links on the way from one device to another, with what events make of them."""
        return tuple(self._as_changed(leg) for leg in self._legs(src, dst))

    def _as_changed(self, leg: Leg) -> Leg:
        changes = self._changes.get((leg.source, leg.target), ())
        varies = leg.link.varies
        for at_s, change in changes:
            varies = _changed_link(leg.link, varies, change, at_s)
        return leg._replace(link=replace(leg.link, varies=varies)) if changes else leg

    def _work_out(self, src: int, dst: int) -> Path:
        if src == dst or not (0 <= src < len(self.devices) and 0 <= dst < len(self.devices)):
            raise ValueError(f"no path from device {src} to device {dst}")
        legs = self.legs(src, dst)
        hops: list[Hop] = []
        tolls: list[Toll] = []
        for leg in legs:
            hops += self._interface(leg.source, 0)
            hops.append(Hop(leg.pipe, leg.link.bandwidth_bps, leg.link.delay_s, leg.link.varies))
            hops += self._interface(leg.target, 1)
            paid = (leg.source, leg.link.send_j_per_bit), (leg.target, leg.link.receive_j_per_bit)
            tolls += [Toll(device, j_per_bit) for device, j_per_bit in paid if device is not None]
        kept = 1 - prod(1 - leg.link.loss for leg in legs) if len(legs) > 1 else legs[0].link.loss
        return Path(tuple(hops), sum(leg.link.jitter_s for leg in legs), kept, tuple(tolls))

    def _interface(self, device: int | None, direction: int) -> tuple[Hop, ...]:
        if device is None or device not in self._nic_pipes:
            return ()
        rate = self.devices[device].nic_bps
        assert rate is not None
        return (Hop(self._nic_pipes[device] + direction, rate, 0.0),)


def _changed_device(device: Device, change: Change, at_s: float) -> Device:
    availability, memory_availability = device.availability, device.memory_availability
    if change.speed is not None:
        availability = steered(availability, at_s, change.speed)
    if change.memory_bytes is not None:
        memory_availability = steered(memory_availability, at_s, change.memory_bytes / device.memory_bytes)
    return replace(device, availability=availability, memory_availability=memory_availability)


def _changed_link(link: Link, varies: LinkVariation | None, change: Change, at_s: float) -> LinkVariation:
    """The variation of a link that gets another bandwidth or delay. What varies beside goes on, on the new ones."""
    now = varies or LinkVariation()
    rate, delay_s = now.rate, now.delay_s
    if change.bandwidth_bps is not None:
        rate = steered(rate, at_s, change.bandwidth_bps / link.bandwidth_bps)
    if change.delay_s is not None:
        delay_s = reset(delay_s, at_s, change.delay_s, link.delay_s)
    return LinkVariation(rate, delay_s, now.added_delay_s)


def mesh(n_devices: int, link: LinkBetween) -> tuple[Legs, int]:
    """Every ordered pair has a pipe of its own."""

    def legs(src: int, dst: int) -> tuple[Leg, ...]:
        return (Leg(src, dst, src * n_devices + dst, link(src, dst)),)

    return legs, n_devices * n_devices


def line(n_devices: int, link: LinkBetween) -> tuple[Legs, int]:
    """Neighbours are joined, one pipe each way; what goes further is relayed by all devices between."""

    def legs(src: int, dst: int) -> tuple[Leg, ...]:
        step = 1 if dst > src else -1
        return tuple(
            Leg(at, at + step, 2 * min(at, at + step) + (step < 0), link(at, at + step)) for at in range(src, dst, step)
        )

    return legs, 2 * max(0, n_devices - 1)


def star(
    n_devices: int, up: Callable[[int], Link], down: Callable[[int], Link], on_the_air: frozenset[int]
) -> tuple[Legs, int]:
    """Every device is joined to one access point, which is not a device.

    Those `on_the_air` share one pipe, half duplex: from one of them to another a message crosses it twice, at
    the sender's rate and then at the receiver's. The others have a pipe up and a pipe down each.
    """
    air = 2 * n_devices

    def legs(src: int, dst: int) -> tuple[Leg, ...]:
        up_pipe = air if src in on_the_air else 2 * src
        down_pipe = air if dst in on_the_air else 2 * dst + 1
        return Leg(src, None, up_pipe, up(src)), Leg(None, dst, down_pipe, down(dst))

    return legs, 2 * n_devices + 1
