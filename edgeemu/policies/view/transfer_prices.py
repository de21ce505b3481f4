"""Links as policies price blocks that move: chunks keep the link and the processors at both ends busy, all at once.

While a link takes a chunk, its sender's processor handles the next and its receiver's takes in the one before. So the
slowest of the three sets the pace of many chunks, and the first and the last of them pass the other two alone. That is
exact for whole chunks of one connection. A processor's chunks of several connections add up: `processor_s_per_bit`.
"""

from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import FloatArray, LinkMatrix, PairMatrix


class TransferPrices(NamedTuple):
    """Prices of blocks that move: links, and time that a bit keeps each device's processor busy, [n_devices]."""

    links: LinkMatrix
    processor_s_per_bit: FloatArray
    chunks_cost: bool  # whether they keep any processor busy

    @classmethod
    def of(cls, view: ClusterView) -> "TransferPrices":
        """Price the transfers of a view; where messages cost nothing, the links are its own."""
        wire, chunk_bytes = view.links.wire, view.chunk_bytes
        if view.links is wire:
            return cls(wire, np.zeros(len(view.devices)), chunks_cost=False)
        computes = [device.compute for device in view.devices]
        per_bit_s = np.array([compute.message_s / chunk_bytes + compute.byte_s for compute in computes]) / 8.0
        pace = _PaceMatrix(wire.s_per_bit, per_bit_s)
        delay = _FirstChunkDelay(wire, pace, per_bit_s, 8.0 * chunk_bytes)
        return cls(LinkMatrix(pace, delay), per_bit_s, chunks_cost=True)


class _OfPairs(PairMatrix):
    """Matrix of which any pairs can be computed at once."""

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        columns = np.broadcast_to(sources[:, None], (len(sources), len(targets)))  # [m, k]
        rows = np.broadcast_to(targets, columns.shape)  # [m, k]
        return self.pairs(columns.ravel(), rows.ravel()).reshape(columns.shape)

    def _make_row(self, source: int) -> FloatArray:
        return self.pairs(np.full(self.n_devices, source), np.arange(self.n_devices))

    def _make_column(self, target: int) -> FloatArray:
        return self.pairs(np.arange(self.n_devices), np.full(self.n_devices, target))

    def _make_pair(self, source: int, target: int) -> float:
        return float(self.pairs(np.array([source]), np.array([target]))[0])


class _PaceMatrix(_OfPairs):
    """Time per bit of many chunks: that of the link, or of the slower processor."""

    def __init__(self, wire: PairMatrix, per_bit_s: FloatArray) -> None:
        super().__init__(wire.n_devices)
        self._wire, self._per_bit_s = wire, per_bit_s

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        processors_s = np.maximum(self._per_bit_s[sources], self._per_bit_s[targets])  # [n_pairs]
        return np.where(sources == targets, 0.0, np.maximum(self._wire.pairs(sources, targets), processors_s))


class _FirstChunkDelay(_OfPairs):
    """Delay, with the time of one chunk where it does not set the pace."""

    def __init__(self, wire: LinkMatrix, pace: _PaceMatrix, per_bit_s: FloatArray, chunk_bits: float) -> None:
        super().__init__(wire.delay_s.n_devices)
        self._wire, self._pace, self._per_bit_s, self._chunk_bits = wire, pace, per_bit_s, chunk_bits

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        ends_s = self._per_bit_s[sources] + self._per_bit_s[targets]  # [n_pairs]
        alone_s = self._wire.s_per_bit.pairs(sources, targets) + ends_s - self._pace.pairs(sources, targets)
        delay_s = self._wire.delay_s.pairs(sources, targets) + self._chunk_bits * alone_s
        return np.where(sources == targets, 0.0, delay_s)
