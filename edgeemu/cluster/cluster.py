"""The cluster of a run: devices, and the paths between them, with every random draw made.

Pure data, and small: device processes import it, so it knows no scenario, no catalog and no pydantic. It is
made from a scenario by `cluster.draw`. What changes over time is a `Variation`, a function of emulated time.

A *pipe* is a first-come-first-served resource (one direction of a cable or of a network interface, the air
around an access point), known by an integer. A path is the pipes that a message passes, in order.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from edgeemu.cluster.devices import Device
from edgeemu.cluster.links import Change, End, Hop, HopEnergy, Leg, Legs, Link, Path, TokenEvent, Ways
from edgeemu.cluster.variation import LinkVariation, reset, steered


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
        tolls: list[HopEnergy] = []
        for leg in legs:
            hops += self._interface(leg.source, 0)
            hops.append(Hop(leg.pipe, leg.link.bandwidth_bps, leg.link.delay_s, leg.link.varies))
            hops += self._interface(leg.target, 1)
            paid = (leg.source, leg.link.send_j_per_bit), (leg.target, leg.link.receive_j_per_bit)
            tolls += [HopEnergy(device, j_per_bit) for device, j_per_bit in paid if device is not None]
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
