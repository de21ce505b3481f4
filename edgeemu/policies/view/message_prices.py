"""Links as policies price them: what a message costs on the wire, and what it costs the processors at both ends.

In a message's time the overheads of sender and receiver stand beside the wire's, so they are added to the delay of a
link and to its time per bit. That is exact where one message follows from another. Where a device sends or takes in
several at once, they wait for each other: see `view.message_times`.
"""

from dataclasses import dataclass

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.link_factors import Factors
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.pair_matrix import PairMatrix
from edgeemu.policies.view.scaling import Scaling


def priced(links: LinkMatrix, ends: FloatArray) -> LinkMatrix:
    """Links with the overheads of devices at their speeds under load; the links alone where messages cost nothing.

    `ends`: seconds per message and per byte of each device, [2, n_devices].
    """
    if not ends.any():
        return links.wire
    if isinstance(links, _PricedLinks) and np.array_equal(links.ends, ends):
        return links
    return _with_ends(links.wire, ends)


@dataclass(frozen=True, slots=True)
class _PricedLinks(LinkMatrix):
    """Links with overheads. `ends`: seconds per message and per byte of each device, [2, n_devices]."""

    alone: LinkMatrix
    ends: FloatArray

    @property
    def wire(self) -> LinkMatrix:
        return self.alone

    def scaled(self, factors: Factors, scaling: Scaling | None = None) -> LinkMatrix:
        """The links with measured factors applied to the wire, which is what is measured."""
        return _with_ends(self.alone.scaled(factors, scaling), self.ends) if factors else self


def _with_ends(wire: LinkMatrix, ends: FloatArray) -> _PricedLinks:
    message_s, byte_s = ends  # [n_devices] each
    return _PricedLinks(_WithEnds(wire.s_per_bit, byte_s / 8.0), _WithEnds(wire.delay_s, message_s), wire, ends)


class _WithEnds(PairMatrix):
    """Another matrix with a duration of each device added to all that leaves it and to all that comes to it."""

    def __init__(self, base: PairMatrix, end_s: FloatArray) -> None:
        """`end_s`: [n_devices]."""
        super().__init__(base.n_devices)
        self._base, self._end_s = base, end_s

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        ends_s = self._end_s[sources][:, None] + self._end_s[targets]  # [m, k]
        return self._base.block(sources, targets) + np.where(sources[:, None] == targets, 0.0, ends_s)

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        ends_s = np.where(sources == targets, 0.0, self._end_s[sources] + self._end_s[targets])  # [n_pairs]
        return self._base.pairs(sources, targets) + ends_s

    def _make_row(self, source: int) -> FloatArray:
        return self._around(self._base.row(source), source)

    def _make_column(self, target: int) -> FloatArray:
        return self._around(self._base.column(target), target)

    def _around(self, durations_s: FloatArray, device: int) -> FloatArray:
        """Add ends to the durations between one device and every other: [n_devices]."""
        found: FloatArray = durations_s + (self._end_s + self._end_s[device])
        found[device] = durations_s[device]
        return found

    def _make_pair(self, source: int, target: int) -> float:
        return self._base.pair(source, target) + float(self._end_s[source] + self._end_s[target])
