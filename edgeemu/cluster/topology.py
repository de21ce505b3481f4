"""Topologies: which links there are, the route over them between two devices, and the pipe of each link.

One class for each kind. Another kind takes a rule in `edgeemu.topologies`, a class here, and its case in
`edgeemu.cluster.draw`: paths, policies and the kernel's network ask the class. Links are nominal, before any event.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import cache, cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.links import Link, LinkEnds
from edgeemu.topologies import LINK_RULES, End, TopologyKind

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Arrays = tuple[FloatArray, FloatArray]  # bit/s and seconds, both [n_sources, n_targets]
LinkArrays = Callable[[IntArray, IntArray], Arrays]
LinkBetween = Callable[[End, End], Link]  # called for joined ends only


class Topology(ABC):
    """The graph of a cluster's links. None as an end is the access point of a star."""

    kind: ClassVar[TopologyKind]

    def __init__(
        self, n_devices: int, link: LinkBetween, varying: frozenset[LinkEnds] | None = frozenset(), *, n_pipes: int
    ) -> None:
        """`varying`: the links that change over time by themselves; None: all. Pipes are 0 … n_pipes - 1."""
        self.n_devices = n_devices
        self._make_link = link
        self.link: LinkBetween = cache(link)
        self.varying = varying
        self.n_pipes = n_pipes

    def joined(self, a: End, b: End) -> bool:
        """Whether there is a link from a to b; then there is one from b to a too."""
        return LINK_RULES[self.kind].joined(a, b)

    def links(self) -> Iterator[LinkEnds]:
        """Every link, each direction by itself."""
        ends: list[End] = [*range(self.n_devices), None]
        return ((a, b) for a in ends for b in ends if self.joined(a, b))

    @abstractmethod
    def route(self, src: int, dst: int) -> Sequence[End]:
        """The ends that a message from one device to another passes, with both of these: two of them at least."""

    @abstractmethod
    def pipe(self, source: End, target: End) -> int:
        """The number of the pipe in which messages on this link queue."""

    def pipe_aside(self, source: End, target: End) -> int | None:  # noqa: ARG002  # a star's links have one
        """A pipe of this link alone, where its pipe is one that other links share: messages wait there. None: it is."""
        return None

    @abstractmethod
    def pairs_over(self, links: Iterable[LinkEnds]) -> set[tuple[int, int]]:
        """The pairs of devices (source, target) whose route takes any of these links."""

    @abstractmethod
    def veths(self) -> list[tuple[End, End]]:
        """The veth pairs that join network namespaces in the kernel, by their ends. None: a switch in the middle."""

    def arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:
        """Bandwidth and delay of the path from each source to each target, as `Path` has them, to the last bit.

        `nic_bps`, [n_devices], are the rates of the network interfaces, infinite where there is no limit. From a
        device to itself the bandwidth is infinite and the delay 0.
        """
        bps, delay_s = self._arrays(sources, targets, nic_bps)
        bps = np.minimum(bps, np.minimum(nic_bps[sources, None], nic_bps[None, targets]))
        itself = sources[:, None] == targets[None, :]
        return np.where(itself, np.inf, bps), np.where(itself, 0.0, delay_s)

    @abstractmethod
    def _arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:
        """`arrays` without the interfaces of source and target; of a device and itself, anything."""

    def with_links(self, link: Callable[[End, End], Link]) -> Self:
        """This topology with other links, which do not change over time."""
        other = copy(self)
        other._make_link = link
        other.link = cache(link)
        other.varying = frozenset()
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "link"}  # a cache cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.link = cache(self._make_link)


class Mesh(Topology):
    """A link between any two devices; each direction is a pipe."""

    kind = "mesh"

    def __init__(
        self,
        n_devices: int,
        link: LinkBetween,
        varying: frozenset[LinkEnds] | None = frozenset(),
        link_arrays: LinkArrays | None = None,
    ) -> None:
        """`link_arrays` gives bandwidths and delays of many links at once, where that is quicker than one by one."""
        super().__init__(n_devices, link, varying, n_pipes=n_devices * n_devices)
        self._link_arrays = link_arrays or self._one_by_one

    def route(self, src: int, dst: int) -> tuple[int, int]:
        return src, dst

    def pipe(self, source: End, target: End) -> int:
        assert source is not None
        assert target is not None
        return source * self.n_devices + target

    def pairs_over(self, links: Iterable[LinkEnds]) -> set[tuple[int, int]]:
        return {(a, b) for a, b in links if a is not None and b is not None}

    def veths(self) -> list[tuple[End, End]]:
        """A switch that joins all: it needs one interface for each device, and not one for each link."""
        return [(None, device) for device in range(self.n_devices)]

    def _arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:  # noqa: ARG002
        return self._link_arrays(sources, targets)

    def _one_by_one(self, sources: IntArray, targets: IntArray) -> Arrays:
        bps = np.full((len(sources), len(targets)), np.inf)  # [m, k]
        delay_s = np.zeros_like(bps)
        for i, source in enumerate(sources.tolist()):
            for j, target in enumerate(targets.tolist()):
                if source != target:
                    link = self.link(source, target)
                    bps[i, j], delay_s[i, j] = link.bandwidth_bps, link.delay_s
        return bps, delay_s


class Line(Topology):
    """Links between neighbours, each direction a pipe; the devices between source and target relay."""

    kind = "line"

    def __init__(self, n_devices: int, link: LinkBetween, varying: frozenset[LinkEnds] | None = frozenset()) -> None:
        super().__init__(n_devices, link, varying, n_pipes=2 * max(0, n_devices - 1))

    def route(self, src: int, dst: int) -> range:
        step = 1 if dst > src else -1
        return range(src, dst + step, step)

    def pipe(self, source: End, target: End) -> int:
        assert source is not None
        assert target is not None
        return 2 * min(source, target) + (target < source)

    def pairs_over(self, links: Iterable[LinkEnds]) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for a, b in links:
            assert a is not None
            assert b is not None
            before, behind = range(min(a, b) + 1), range(max(a, b), self.n_devices)
            found.update((i, j) if a < b else (j, i) for i in before for j in behind)
        return found

    def veths(self) -> list[tuple[End, End]]:
        return [(device, device + 1) for device in range(self.n_devices - 1)]

    def _arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:
        (right_bps, right_s), (left_bps, left_s) = self._right_and_left
        relayed = np.minimum(nic_bps[:-1], nic_bps[1:])  # [n - 1]
        right_bps, left_bps = np.minimum(right_bps, relayed), np.minimum(left_bps, relayed)
        bps = np.empty((len(sources), len(targets)))  # [m, k]
        delay_s = np.empty_like(bps)
        for row, source in enumerate(sources.tolist()):
            rates = np.full(self.n_devices, np.inf)
            delays = np.zeros(self.n_devices)
            rates[source + 1 :] = np.minimum.accumulate(right_bps[source:])
            delays[source + 1 :] = np.cumsum(right_s[source:])
            rates[:source] = np.minimum.accumulate(left_bps[:source][::-1])[::-1]
            delays[:source] = np.cumsum(left_s[:source][::-1])[::-1]
            bps[row], delay_s[row] = rates[targets], delays[targets]
        return bps, delay_s

    @cached_property
    def _right_and_left(self) -> tuple[Arrays, Arrays]:
        """Links from each device but the last to the next, and back: [n - 1] each."""
        pairs = self.veths()
        return _columns(self.link(a, b) for a, b in pairs), _columns(self.link(b, a) for a, b in pairs)


class Star(Topology):
    """A link between each device and one access point, which is not a device.

    The devices `on_channel` share the wireless channel of the access point: one pipe, half duplex. A message between
    two of them crosses it twice, at the sender's rate and then at the receiver's. Each other device has a pipe up and
    one down.
    """

    kind = "star"

    def __init__(
        self,
        n_devices: int,
        link: LinkBetween,
        varying: frozenset[LinkEnds] | None = frozenset(),
        on_channel: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(n_devices, link, varying, n_pipes=2 * n_devices + 1)
        self._on_channel = on_channel

    def route(self, src: int, dst: int) -> tuple[int, None, int]:
        return src, None, dst

    def pipe(self, source: End, target: End) -> int:
        device = target if source is None else source
        assert device is not None
        if device in self._on_channel:
            return 2 * self.n_devices
        return 2 * device + (source is None)

    def pipe_aside(self, source: End, target: End) -> int | None:
        device = target if source is None else source
        assert device is not None
        return 2 * device + (source is None) if device in self._on_channel else None

    def pairs_over(self, links: Iterable[LinkEnds]) -> set[tuple[int, int]]:
        everyone = range(self.n_devices)
        found: set[tuple[int, int]] = set()
        for a, b in links:
            if a is not None:
                found.update((a, other) for other in everyone if other != a)
            if b is not None:
                found.update((other, b) for other in everyone if other != b)
        return found

    def veths(self) -> list[tuple[End, End]]:
        return [(None, device) for device in range(self.n_devices)]

    def _arrays(self, sources: IntArray, targets: IntArray, nic_bps: FloatArray) -> Arrays:  # noqa: ARG002
        (up_bps, up_s), (down_bps, down_s) = self._up_and_down
        on_channel = np.array([device in self._on_channel for device in range(self.n_devices)], np.bool_)  # [n]
        up, down = up_bps[sources, None], down_bps[None, targets]
        shared = on_channel[sources, None] & on_channel[None, targets]
        bps = np.where(shared, 1 / (1 / up + 1 / down), np.minimum(up, down))  # [m, k]
        return bps, up_s[sources, None] + down_s[None, targets]

    @cached_property
    def _up_and_down(self) -> tuple[Arrays, Arrays]:
        """Links from each device to the access point, and back: [n] each."""
        everyone = range(self.n_devices)
        return _columns(self.link(device, None) for device in everyone), _columns(self.link(None, d) for d in everyone)


def _columns(links: Iterable[Link]) -> Arrays:
    """Bandwidths and delays, [n_links] each."""
    values = [(link.bandwidth_bps, link.delay_s) for link in links]
    bps = np.array([bandwidth_bps for bandwidth_bps, _ in values], np.float64)
    return bps, np.array([delay_s for _, delay_s in values], np.float64)
