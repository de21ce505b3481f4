"""Links as policies price blocks that move: chunks keep the link and the processors at both ends busy, all at once.

While a link takes a chunk, its sender's processor handles the next and its receiver's takes in the one before. So the
slowest of the three sets the pace of many chunks, and the first and the last of them pass the other two alone. That is
exact for equal chunks of one connection. A processor's chunks of several connections add up.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.pair_matrix import PairMatrix


class TransferPrices(NamedTuple):
    """Prices of blocks that move. `links` and `processor_s_per_bit`, [n_devices], take all chunks for equally large."""

    wire: LinkMatrix
    links: LinkMatrix
    processor_s_per_bit: FloatArray
    message_s: FloatArray  # [n_devices] that a chunk keeps a processor busy
    byte_s: FloatArray  # [n_devices] the same for each byte
    chunks_cost: bool  # whether they keep any processor busy

    @classmethod
    def of(cls, view: ClusterView, chunk_bytes: float) -> "TransferPrices":
        """Price the transfers of a view, in chunks of so many bytes; where they cost nothing, the links are its own."""
        wire = view.links.wire
        if view.links is wire:
            none = _no_times(len(view.memory_bytes))
            return cls(wire, wire, none, none, none, chunks_cost=False)
        message_s, byte_s = view.message_ends
        per_bit_s = (message_s / chunk_bytes + byte_s) / 8.0
        pace = _PaceMatrix(wire.s_per_bit, per_bit_s)
        delay = _FirstChunkDelay(wire, pace, per_bit_s, 8.0 * chunk_bytes)
        return cls(wire, LinkMatrix(pace, delay), per_bit_s, message_s, byte_s, chunks_cost=True)

    def slowest_s(self, sources: IntArray, targets: IntArray, bits: FloatArray, chunks: FloatArray) -> float:
        """When the last of some connections has sent so many bits in so many chunks: [n_pairs] each, at least one."""
        n, size_bytes = len(self.message_s), bits / 8.0 + MESSAGE_HEADER_BYTES * chunks
        wire_s = 8.0 * size_bytes * self.wire.s_per_bit.pairs(sources, targets)  # [n_pairs]
        ends_s = [chunks * self.message_s[ends] + size_bytes * self.byte_s[ends] for ends in (sources, targets)]
        paces_s = np.stack([wire_s, *ends_s])  # [3, n_pairs]
        alone_s = (paces_s.sum(0) - paces_s.max(0)) / chunks  # one chunk where it does not set the pace
        delay_s = self.wire.delay_s.pairs(sources, targets)
        longest_s = float((paces_s.max(0) + alone_s + delay_s).max())
        handled_s = np.bincount(sources, ends_s[0], n) + np.bincount(targets, ends_s[1], n)  # [n_devices]
        for ends, other_s in ((sources, ends_s[1]), (targets, ends_s[0])):  # one chunk is on its way besides
            rest_s = np.full(n, np.inf)
            np.minimum.at(rest_s, ends, (wire_s + other_s) / chunks + delay_s)
            longest_s = max(longest_s, float((handled_s + rest_s)[ends].max()))
        return longest_s


@lru_cache(maxsize=4)
def _no_times(n_devices: int) -> FloatArray:
    none = np.zeros(n_devices)
    none.setflags(write=False)
    return none


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
