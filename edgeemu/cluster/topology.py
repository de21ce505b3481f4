"""Bandwidths and delays of many ways at once, as arrays: what a `Path` says of each, to the last bit.

Of the links as they are by themselves, without variation and before any event. Knows links and interfaces; no scenario.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.links import End, Leg, Legs, Link, LinkBetween


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


FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Arrays = tuple[FloatArray, FloatArray]  # bit/s and seconds, both [n_sources, n_targets]
LinkArrays = Callable[[IntArray, IntArray], Arrays]


class MeshWays:
    """A link between any two devices."""

    def __init__(self, links: LinkArrays, nic_bps: Sequence[float | None]) -> None:
        """`links` gives those from some devices to others; what it says of a device and itself is not used."""
        self._links = links
        self._nic_bps = _limits(nic_bps)

    def between(self, sources: IntArray, targets: IntArray) -> Arrays:
        bps, delay_s = self._links(sources, targets)
        return _at_home(_limited(bps, self._nic_bps, sources, targets), delay_s, sources, targets)

    def over(self, ends: Iterable[tuple[End, End]]) -> set[tuple[int, int]]:
        """The ways that go over any of these links."""
        return {(a, b) for a, b in ends if a is not None and b is not None}


class StarWays:
    """An access point between any two; those on the air share one pipe."""

    def __init__(
        self, up: Sequence[Link], down: Sequence[Link], on_the_air: frozenset[int], nic_bps: Sequence[float | None]
    ) -> None:
        self._up_bps, self._up_s = _columns(up)  # [n] each
        self._down_bps, self._down_s = _columns(down)
        self._on_the_air = np.array([device in on_the_air for device in range(len(up))], np.bool_)  # [n]
        self._nic_bps = _limits(nic_bps)

    def between(self, sources: IntArray, targets: IntArray) -> Arrays:
        up, down = self._up_bps[sources, None], self._down_bps[None, targets]
        shared = self._on_the_air[sources, None] & self._on_the_air[None, targets]
        bps = np.where(shared, 1 / (1 / up + 1 / down), np.minimum(up, down))  # [m, k]
        delay_s = self._up_s[sources, None] + self._down_s[None, targets]
        return _at_home(_limited(bps, self._nic_bps, sources, targets), delay_s, sources, targets)

    def over(self, ends: Iterable[tuple[End, End]]) -> set[tuple[int, int]]:
        everyone = range(len(self._up_bps))
        found: set[tuple[int, int]] = set()
        for a, b in ends:
            if a is not None:
                found.update((a, other) for other in everyone if other != a)
            if b is not None:
                found.update((other, b) for other in everyone if other != b)
        return found


class LineWays:
    """Neighbours are joined, and relay for the others."""

    def __init__(self, right: Sequence[Link], left: Sequence[Link], nic_bps: Sequence[float | None]) -> None:
        """`right[i]` is from device i to i + 1, `left[i]` back."""
        nic = _limits(nic_bps)
        relayed = np.minimum(nic[:-1], nic[1:])  # [n - 1]
        (right_bps, self._right_s), (left_bps, self._left_s) = _columns(right), _columns(left)
        self._right_bps, self._left_bps = np.minimum(right_bps, relayed), np.minimum(left_bps, relayed)
        self._n_devices = len(nic)

    def between(self, sources: IntArray, targets: IntArray) -> Arrays:
        bps = np.empty((len(sources), len(targets)))  # [m, k]
        delay_s = np.empty_like(bps)
        for row, source in enumerate(sources.tolist()):
            rates = np.full(self._n_devices, np.inf)
            delays = np.zeros(self._n_devices)
            rates[source + 1 :] = np.minimum.accumulate(self._right_bps[source:])
            delays[source + 1 :] = np.cumsum(self._right_s[source:])
            rates[:source] = np.minimum.accumulate(self._left_bps[:source][::-1])[::-1]
            delays[:source] = np.cumsum(self._left_s[:source][::-1])[::-1]
            bps[row], delay_s[row] = rates[targets], delays[targets]
        return bps, delay_s

    def over(self, ends: Iterable[tuple[End, End]]) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for a, b in ends:
            assert a is not None
            assert b is not None
            before, behind = range(min(a, b) + 1), range(max(a, b), self._n_devices)
            found.update((i, j) if a < b else (j, i) for i in before for j in behind)
        return found


def _columns(links: Sequence[Link]) -> tuple[FloatArray, FloatArray]:
    bps = np.array([link.bandwidth_bps for link in links], np.float64)
    return bps, np.array([link.delay_s for link in links], np.float64)


def _limits(nic_bps: Sequence[float | None]) -> FloatArray:
    return np.array([np.inf if rate is None else rate for rate in nic_bps], np.float64)


def _limited(bps: FloatArray, nic_bps: FloatArray, sources: IntArray, targets: IntArray) -> FloatArray:
    found: FloatArray = np.minimum(bps, np.minimum(nic_bps[sources, None], nic_bps[None, targets]))
    return found


def _at_home(bps: FloatArray, delay_s: FloatArray, sources: IntArray, targets: IntArray) -> Arrays:
    """A device reaches itself at once."""
    itself = sources[:, None] == targets[None, :]
    return np.where(itself, np.inf, bps), np.where(itself, 0.0, delay_s)
