"""The cluster of a run: devices, and the paths between them, with every random value sampled.

It is pure data, made from a scenario by `cluster.draw`; it knows no scenario and no catalog. What changes over time is
a `Variation`, a function of emulated time.

A *pipe* is a first-come-first-served resource (one direction of a link or of a network interface, or the shared
wireless channel of an access point), known by an integer. A *path* leads from device to device, end to end; its *hops*
are the pipes that a message passes, in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgeemu.cluster.devices import Device
from edgeemu.cluster.faults import NO_FAULTS, FaultPlan
from edgeemu.cluster.link_variation import Deliveries, LinkVariation
from edgeemu.cluster.links import MAX_LOSS, Change, Hop, HopEnergy, Link, LinkEnds, Outage, Path, TokenEvent
from edgeemu.cluster.topology import Arrays, IntArray, Topology
from edgeemu.cluster.variation import Faulted, faulted, scaled, with_level
from edgeemu.topologies import End

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
        "faults",
        "n_pipes",
        "name",
        "seed",
        "topology",
    )

    def __init__(
        self,
        name: str,
        seed: int,
        devices: tuple[Device, ...],
        topology: Topology,
        events: tuple[TokenEvent, ...] = (),
        faults: FaultPlan = NO_FAULTS,
    ) -> None:
        """`events` are those at a token; those at an instant are made by `changed`."""
        self.name = name
        self.seed = seed
        self.devices = devices
        self.topology = topology
        self.events = events
        self.faults = faults
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

    def facts_of(self, paths: Sequence[tuple[int, int]], t_s: float) -> list[PathFacts]:
        """`facts` of many paths at once."""
        known = map(self._steady.get, paths)
        return [found or self.facts(path[0], path[1], t_s) for found, path in zip(known, paths, strict=True)]

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
        other = Cluster(self.name, self.seed, tuple(devices), self.topology, self.events, self.faults)
        other._changes = changes
        links = frozenset(change.links)
        other._paths = {ends: path for ends, path in self._paths.items() if not self._is_over(*ends, links)}
        return other

    def still(self, at_s: float) -> "Cluster":
        """The cluster with its links as they are at an instant, for ever, and without load; its faults stay.

        No variation, no events.
        """
        devices = tuple(replace(device, availability=None, memory_availability=None) for device in self.devices)
        topology = self.topology.with_links(partial(_still_link, self, at_s))
        return Cluster(self.name, self.seed, devices, topology, faults=self.faults)

    def crosses(self, src: int, dst: int, change: Change) -> bool:
        """Whether the path from one device to another has a link that a change is about."""
        return self._is_over(src, dst, frozenset(change.links))

    def _is_over(self, src: int, dst: int, links: frozenset[LinkEnds]) -> bool:
        return bool(links) and any(ends in links for ends in pairwise(self.topology.route(src, dst)))

    def events_at(self, token: int) -> list[Change]:
        """The changes at the start of a token of the first sequence."""
        return [event.change for event in self.events if event.at_token == token]

    def __eq__(self, other: object) -> bool:
        """Equal devices, equal paths between all of them, equal events and faults."""
        if not isinstance(other, Cluster):
            return NotImplemented
        mine = (self.name, self.seed, self.devices, self.n_pipes, self.events, self.faults)
        if mine != (other.name, other.seed, other.devices, other.n_pipes, other.events, other.faults):
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
        aside: list[Hop] = []
        for source, target in pairwise(self.topology.route(src, dst)):
            link = self.link(source, target)
            links.append(link)
            hops += self._interface(source, 0)
            hop, waits = self._hops(source, target, link)
            hops.append(hop)
            aside += waits
            hops += self._interface(target, 1)
            paid = (source, link.send_j_per_bit), (target, link.receive_j_per_bit)
            energies += [HopEnergy(device, j_per_bit) for device, j_per_bit in paid if device is not None]
        loss = min(1 - prod(1 - link.loss for link in links), MAX_LOSS) if len(links) > 1 else links[0].loss
        return Path((*hops, *aside), sum(link.jitter_s for link in links), loss, tuple(energies))

    def _hops(self, source: End, target: End, link: Link) -> tuple[Hop, list[Hop]]:
        """The hop of a link and, if others share its pipe and it has outages, one aside where messages wait for these.

        The shared pipe is theirs only for as long as without an outage, so that it stays free for others.
        """
        pipe, aside = self.topology.pipe(source, target), self.topology.pipe_aside(source, target)
        varies = link.varies
        if varies is None or aside is None or not isinstance(varies.rate, Faulted):
            return Hop(pipe, link.bandwidth_bps, link.delay_s, varies), []
        waits = LinkVariation(varies.rate, deliveries=varies.deliveries, up=varies.up)
        passes = Hop(pipe, link.bandwidth_bps, link.delay_s, varies.without_outages())
        return passes, [Hop(aside, link.bandwidth_bps, 0.0, waits)]

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
    if change.outage is not None:
        availability = faulted(availability, at_s, change.outage.until_s)
    return replace(device, availability=availability, memory_availability=memory_availability)


def _still_link(cluster: Cluster, at_s: float, source: End, target: End) -> Link:
    """A link as it is at an instant."""
    link = cluster.link(source, target)
    if link.varies is None:
        return link
    hop = Hop(0, link.bandwidth_bps, link.delay_s, link.varies)
    loss = Path((hop,), 0.0, link.loss).loss_at(at_s)
    return replace(link, bandwidth_bps=hop.bandwidth_at(at_s), delay_s=hop.delay_at(at_s), loss=loss, varies=None)


def _changed_link(link: Link, varies: LinkVariation | None, change: Change, at_s: float) -> LinkVariation:
    """The variation of a link with another bandwidth or delay, or an outage; its own variation goes on with them."""
    now = varies or LinkVariation()
    rate, delay_s, deliveries = now.rate, now.delay_s, now.deliveries
    if change.bandwidth_bps is not None:
        factor = change.bandwidth_bps / link.bandwidth_bps
        rate = scaled(rate, at_s, factor)
        if deliveries is not None:
            deliveries = Deliveries(deliveries.instants_ms, scaled(deliveries.share, at_s, factor))
    if change.delay_s is not None:
        delay_s = with_level(delay_s, at_s, change.delay_s, link.delay_s)
    changed = LinkVariation(rate, delay_s, now.added_delay_s, deliveries, now.arriving, now.up)
    return changed if change.outage is None else _with_outage(changed, at_s, change.outage)


def _with_outage(varies: LinkVariation, at_s: float, outage: Outage) -> LinkVariation:
    until_s = outage.until_s
    if outage.loss < 1.0:
        arriving = faulted(varies.arriving, at_s, until_s, 1.0 - outage.loss)
        return msgspec.structs.replace(varies, arriving=arriving)
    deliveries = varies.deliveries
    if deliveries is not None:
        deliveries = Deliveries(deliveries.instants_ms, faulted(deliveries.share, at_s, until_s))
    up = faulted(varies.up, at_s, until_s) if outage.resent else varies.up
    return msgspec.structs.replace(varies, rate=faulted(varies.rate, at_s, until_s), deliveries=deliveries, up=up)
