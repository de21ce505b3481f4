"""Seconds per bit and delay of the links between all devices, as matrices.

Matrices can be pickled.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.link_factors import Factors, LinkFactors
from edgeemu.policies.view.pair_matrix import ComputedMatrix, DenseMatrix, PairMatrix, Pairwise, one_by_one
from edgeemu.policies.view.scaling import ALL_AT_ONCE, Scaling


@dataclass(frozen=True, slots=True)
class LinkMatrix:
    """Seconds per bit, and delay in seconds, of the link from every device to every other."""

    s_per_bit: PairMatrix
    delay_s: PairMatrix

    @property
    def wire(self) -> "LinkMatrix":
        """The links alone, where overheads of messages are in them (`view.message_prices`)."""
        return self

    @classmethod
    def of(cls, cluster: Cluster) -> "LinkMatrix":
        """The nominal links of a cluster: dense, or, above `ALL_AT_ONCE` devices, computed on demand."""
        n = len(cluster.devices)
        if n <= ALL_AT_ONCE:
            bps, delay_s = cluster.arrays(np.arange(n), np.arange(n))  # [n, n] each
            return cls(DenseMatrix(1.0 / bps), DenseMatrix(delay_s))
        return cls(
            ComputedMatrix(n, partial(_nominal_s_per_bit, cluster)),
            ComputedMatrix(n, partial(_nominal_delay_s, cluster)),
        )

    @classmethod
    def of_pairs(cls, n_devices: int, bandwidth_bps: Pairwise, delay_s: Pairwise) -> "LinkMatrix":
        """Dense matrices, from functions of (source, target), which are two devices."""
        everyone = np.arange(n_devices)
        return cls(
            DenseMatrix(one_by_one(lambda a, b: 1.0 / bandwidth_bps(a, b), everyone, everyone)),
            DenseMatrix(one_by_one(delay_s, everyone, everyone)),
        )

    def scaled(self, factors: Factors, scaling: Scaling | None = None) -> "LinkMatrix":
        """The links with measured factors applied. `scaling`: how to find them, if it is known already."""
        if not factors:
            return self
        measured = LinkFactors.of(factors)
        scaling = scaling or Scaling(self.delay_s.n_devices, measured.sources, measured.targets)
        s_per_bit = self.s_per_bit.scaled(scaling, measured.per_bit)
        return LinkMatrix(s_per_bit, self.delay_s.scaled(scaling, measured.delay))

    def row(self, source: int, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from `source`, alone on its path, is at each device: [n_devices]."""
        return self.s_per_bit.row(source) * bits + self.delay_s.row(source)

    def column(self, target: int, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from each device is at `target`: [n_devices]."""
        return self.s_per_bit.column(target) * bits + self.delay_s.column(target)

    def block(self, sources: IntArray, targets: IntArray, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from some devices is at others: [m], [k] -> [m, k]."""
        return self.s_per_bit.block(sources, targets) * bits + self.delay_s.block(sources, targets)

    def pairs(self, sources: IntArray, targets: IntArray, bits: NDArray[Any] | float) -> FloatArray:
        """Seconds until a message of `bits` from each of some devices is at each of others: [n_pairs] each."""
        s_per_bit, delay_s = self.pairs_in_both(sources, targets)
        return s_per_bit * bits + delay_s

    def pairs_in_both(self, sources: IntArray, targets: IntArray) -> tuple[FloatArray, FloatArray]:
        """Seconds per bit, and delays, from each of some devices to each of others: [n_pairs] each."""
        return self.s_per_bit.pairs_in_both(self.delay_s, sources, targets)

    def pair(self, source: int, target: int, bits: float) -> float:
        """Seconds until a message of `bits` from `source` is at `target`; 0 where they are one device."""
        return self.s_per_bit.pair(source, target) * bits + self.delay_s.pair(source, target)


# Functions of modules and not lambdas, so that a matrix can be pickled


def _nominal_s_per_bit(cluster: Cluster, sources: IntArray, targets: IntArray) -> FloatArray:
    return 1.0 / cluster.arrays(sources, targets)[0]


def _nominal_delay_s(cluster: Cluster, sources: IntArray, targets: IntArray) -> FloatArray:
    return cluster.arrays(sources, targets)[1]
