"""The cluster of a run: devices, and the paths between them, with every random value sampled.

It is pure data, made from a scenario by `cluster.draw`; it knows no scenario and no catalog. What changes over time is
a `Variation`, a function of emulated time.

A *pipe* is a first-come-first-served resource (one direction of a link or of a network interface, or the shared
wireless channel of an access point), known by an integer. A *path* leads from device to device, end to end; its *hops*
are the pipes that a message passes, in order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import nextafter, prod
from typing import Any, NamedTuple

import numpy as np

from edgeemu.cluster.devices import Device
from edgeemu.cluster.link_variation import Deliveries, LinkVariation
from edgeemu.cluster.links import Change, Hop, HopEnergy, Link, LinkEnds, Path, TokenEvent
from edgeemu.cluster.topology import Arrays, IntArray, Topology
from edgeemu.cluster.variation import scaled, with_level
from edgeemu.topologies import End

MAX_LOSS = nextafter(1.0, 0.0)  # of a path of links that each lose nearly all: its product would be rounded to 1
LinkChanges = Mapping[LinkEnds, tuple[tuple[float, Change], ...]]  # by link: instants and events, in their order


class PathFacts(NamedTuple):
    """Rate of a long stream alone on a path, delay, and energy of all its devices (None: not known)."""

    bandwidth_bps: float
    delay_s: float
    j_per_bit: float | None


class Cluster:
    """Devices, and the path between any two, made when it is first asked for: 1,000 devices have 999,000."""

    __slots__ = (
        "_changes",
        "_nic_bps",
        "_nic_pipes",
        "_paths",
        "_steady",
        "devices",
        "events",
        "n_pipes",
        "name",
        "seed",
        "topology",
    )

    def __init__(
        self, name: str, seed: int, devices: tuple[Device, ...], topology: Topology, events: tuple[TokenEvent, ...] = ()
    ) -> None:
        """`events` are those at a token; those at an instant are made by `changed`."""
        self.name = name
        self.seed = seed
        self.devices = devices
        self.topology = topology
        self.events = events
        self._changes: LinkChanges = {}  # of links only: those of devices are in their availability
        self._paths: dict[tuple[int, int], Path] = {}
        self._steady: dict[tuple[int, int], PathFacts] = {}
        with_nic = [device.index for device in devices if device.nic_bps is not None]
        self._nic_pipes = {index: topology.n_pipes + 2 * n for n, index in enumerate(with_nic)}  # egress; ingress + 1
        self.n_pipes = topology.n_pipes + 2 * len(with_nic)
        rates = [np.inf if device.nic_bps is None else device.nic_bps for device in devices]
        self._nic_bps = np.array(rates, np.float64)  # [n_devices]

    def path(self, src: int, dst: int) -> Path:
        """The path from one device to another. Raises: ValueError, where there is none."""
        found = self._paths.get((src, dst))
        if found is None:
            found = self._paths[src, dst] = self._make_path(src, dst)
        return found

    def bandwidth_bps(self, src: int, dst: int) -> float:
        return self.path(src, dst).bandwidth_bps

    def delay_s(self, src: int, dst: int) -> float:
        return self.path(src, dst).delay_s

    def arrays(self, sources: IntArray, targets: IntArray) -> Arrays:
        """Nominal bandwidths in bit/s and delays in seconds of many paths at once: [n_sources, n_targets] each."""
        return self.topology.arrays(sources, targets, self._nic_bps)

    def j_per_bit(self, src: int, dst: int) -> float | None:
        """Energy per bit of all devices on a path together; None: not known."""
        costs = [energy.j_per_bit for energy in self.path(src, dst).energies]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if costs and len(known) == len(costs) else None

    def facts(self, src: int, dst: int, t_s: float) -> PathFacts:
        """Rate, delay and energy of a path at an instant; kept for the next call where nothing of it varies."""
        found = self._steady.get((src, dst))
        if found is None:
            path = self.path(src, dst)
            found = PathFacts(path.bandwidth_at(t_s), path.delay_at(t_s), self.j_per_bit(src, dst))
            if not path.varies:
                self._steady[src, dst] = found
        return found

    def link(self, source: End, target: End) -> Link:
        """The link between two ends that are joined, with the events that change it as part of its variation."""
        link = self.topology.link(source, target)
        changes = self._changes.get((source, target))
        if changes is None:
            return link
        varies = link.varies
        for at_s, change in changes:
            varies = _changed_link(link, varies, change, at_s)
        return replace(link, varies=varies)

    def links(self) -> Iterator[Link]:
        """Every link, each direction by itself."""
        return (self.link(*ends) for ends in self.topology.links())

    @property
    def links_vary(self) -> bool:
        """Whether any link changes over time, by itself or by events at known instants."""
        return self.topology.varying is None or bool(self.topology.varying or self._changes)

    def varying_pairs(self) -> set[tuple[int, int]] | None:
        """The pairs (source, target) whose path has links that change over time; None: possibly all."""
        if not self.links_vary:
            return set()
        if self.topology.varying is None:
            return None
        return self.topology.pairs_over(self.topology.varying | self._changes.keys())

    def changed(self, change: Change, at_s: float) -> "Cluster":
        """A cluster whose devices and links change at an instant. Before that instant nothing is different."""
        devices = list(self.devices)
        for index in change.devices:
            devices[index] = _changed_device(devices[index], change, at_s)
        changes = dict(self._changes)
        for ends in change.links:
            changes[ends] = (*changes.get(ends, ()), (at_s, change))
        other = Cluster(self.name, self.seed, tuple(devices), self.topology, self.events)
        other._changes = changes
        other._paths = {ends: path for ends, path in self._paths.items() if not self.crosses(*ends, change)}
        return other

    def still(self, at_s: float) -> "Cluster":
        """The cluster with its links as they are at an instant, for ever, and without load: no variation, no events."""
        devices = tuple(replace(device, availability=None, memory_availability=None) for device in self.devices)
        return Cluster(self.name, self.seed, devices, self.topology.with_links(partial(_still_link, self, at_s)))

    def crosses(self, src: int, dst: int, change: Change) -> bool:
        """Whether the path from one device to another has a link that a change is about."""
        links = set(change.links)
        return bool(links) and any(ends in links for ends in pairwise(self.topology.route(src, dst)))

    def events_at(self, token: int) -> list[Change]:
        """The changes at the start of a token of the first sequence."""
        return [event.change for event in self.events if event.at_token == token]

    def __eq__(self, other: object) -> bool:
        """Equal devices, equal paths between all of them, and equal events."""
        if not isinstance(other, Cluster):
            return NotImplemented
        mine = (self.name, self.seed, self.devices, self.n_pipes, self.events)
        if mine != (other.name, other.seed, other.devices, other.n_pipes, other.events):
            return False
        everyone = range(len(self.devices))
        return all(self.path(a, b) == other.path(a, b) for a in everyone for b in everyone if a != b)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and the content is made lazily

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "_paths"}  # made again when needed

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._paths = {}

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, seed={self.seed}, {len(self.devices)} devices, {self.n_pipes} pipes)"

    def _make_path(self, src: int, dst: int) -> Path:
        if src == dst or not (0 <= src < len(self.devices) and 0 <= dst < len(self.devices)):
            raise ValueError(f"no path from device {src} to device {dst}")
        hops: list[Hop] = []
        energies: list[HopEnergy] = []
        links: list[Link] = []
        for source, target in pairwise(self.topology.route(src, dst)):
            link = self.link(source, target)
            links.append(link)
            hops += self._interface(source, 0)
            hops.append(Hop(self.topology.pipe(source, target), link.bandwidth_bps, link.delay_s, link.varies))
            hops += self._interface(target, 1)
            paid = (source, link.send_j_per_bit), (target, link.receive_j_per_bit)
            energies += [HopEnergy(device, j_per_bit) for device, j_per_bit in paid if device is not None]
        loss = min(1 - prod(1 - link.loss for link in links), MAX_LOSS) if len(links) > 1 else links[0].loss
        return Path(tuple(hops), sum(link.jitter_s for link in links), loss, tuple(energies))

    def _interface(self, device: End, direction: int) -> tuple[Hop, ...]:
        if device is None or device not in self._nic_pipes:
            return ()
        rate = self.devices[device].nic_bps
        assert rate is not None
        return (Hop(self._nic_pipes[device] + direction, rate, 0.0),)


def _changed_device(device: Device, change: Change, at_s: float) -> Device:
    availability, memory_availability = device.availability, device.memory_availability
    if change.speed is not None:
        availability = scaled(availability, at_s, change.speed)
    if change.memory_bytes is not None:
        memory_availability = scaled(memory_availability, at_s, change.memory_bytes / device.memory_bytes)
    return replace(device, availability=availability, memory_availability=memory_availability)


def _still_link(cluster: Cluster, at_s: float, source: End, target: End) -> Link:
    """A link as it is at an instant."""
    link = cluster.link(source, target)
    if link.varies is None:
        return link
    hop = Hop(0, link.bandwidth_bps, link.delay_s, link.varies)
    return replace(link, bandwidth_bps=hop.bandwidth_at(at_s), delay_s=hop.delay_at(at_s), varies=None)


def _changed_link(link: Link, varies: LinkVariation | None, change: Change, at_s: float) -> LinkVariation:
    """The variation of a link with another bandwidth or delay; its own variation goes on, relative to the new ones."""
    now = varies or LinkVariation()
    rate, delay_s, deliveries = now.rate, now.delay_s, now.deliveries
    if change.bandwidth_bps is not None:
        factor = change.bandwidth_bps / link.bandwidth_bps
        rate = scaled(rate, at_s, factor)
        if deliveries is not None:
            deliveries = Deliveries(deliveries.instants_ms, scaled(deliveries.share, at_s, factor))
    if change.delay_s is not None:
        delay_s = with_level(delay_s, at_s, change.delay_s, link.delay_s)
    return LinkVariation(rate, delay_s, now.added_delay_s, deliveries)
