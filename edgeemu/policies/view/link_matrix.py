"""Seconds per bit and delay between all devices, as matrices: dense, or computed by row and column on demand.

Rows and columns that were read are kept, and the views of a run share them. Nobody can write into them. Matrices can
be pickled; kept rows and columns stay behind.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_factors import Factors, LinkFactors, Pair

ALL_AT_ONCE = 2000  # devices up to which a cluster's matrices are dense: 64 MB
COPIED = 200  # devices up to which a dense matrix is copied to change some pairs; of larger ones, what is read
FloatArray = NDArray[np.float64]
Pairwise = Callable[[int, int], float]


class PairMatrix(ABC):
    """A duration for every source and target; 0 from a device to itself."""

    def __init__(self, n_devices: int) -> None:
        self.n_devices = n_devices
        self._rows: dict[int, FloatArray] = {}
        self._columns: dict[int, FloatArray] = {}
        self._least: dict[int, float] = {}

    def row(self, source: int) -> FloatArray:
        """From `source` to every device: [n_devices]."""
        row = self._rows.get(source)
        if row is None:
            row = self._rows[source] = self._make_row(source)
            row.setflags(write=False)
        return row

    def column(self, target: int) -> FloatArray:
        """From every device to `target`: [n_devices]."""
        column = self._columns.get(target)
        if column is None:
            column = self._columns[target] = self._make_column(target)
            column.setflags(write=False)
        return column

    def pair(self, source: int, target: int) -> float:
        if source == target:
            return 0.0
        row = self._rows.get(source)
        return self._make_pair(source, target) if row is None else float(row[target])

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """From some devices to others, each once: [m], [k] -> [m, k]."""
        return np.array([[self.pair(a, b) for b in targets.tolist()] for a in sources.tolist()], np.float64)

    def least_in_row(self, source: int) -> float:
        """The least duration from `source` to another device; infinite where there is none."""
        least = self._least.get(source)
        if least is None:
            others = np.delete(self.row(source), source)
            least = self._least[source] = float(others.min(initial=np.inf))
        return least

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Durations of some pairs: [n_pairs], [n_pairs] -> [n_pairs]."""
        found = [self.pair(a, b) for a, b in zip(sources.tolist(), targets.tolist(), strict=True)]
        return np.array(found, np.float64)

    def scaled(self, sources: IntArray, targets: IntArray, factors: FloatArray) -> "PairMatrix":
        """A copy with the durations of some pairs multiplied: [n_pairs] each, no pair twice."""
        return _ScaledRows(self, sources, targets, factors)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": {}, "_columns": {}}

    @abstractmethod
    def _make_row(self, source: int) -> FloatArray: ...

    @abstractmethod
    def _make_column(self, target: int) -> FloatArray: ...

    @abstractmethod
    def _make_pair(self, source: int, target: int) -> float: ...


class DenseMatrix(PairMatrix):
    """All pairs in one array."""

    def __init__(self, values: FloatArray) -> None:
        """`values`: [n_devices, n_devices], 0 on the diagonal."""
        super().__init__(len(values))
        self._values = values
        self._values.setflags(write=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._values.setflags(write=False)  # which NumPy does not pickle

    def _make_row(self, source: int) -> FloatArray:
        row: FloatArray = self._values[source]
        return row

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        block: FloatArray = self._values[np.ix_(sources, targets)]
        return block

    def _make_column(self, target: int) -> FloatArray:
        return self._values[:, target].copy()  # contiguous, which is quicker to read again and again

    def _make_pair(self, source: int, target: int) -> float:
        return float(self._values[source, target])

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        found: FloatArray = self._values[sources, targets]
        return found

    def scaled(self, sources: IntArray, targets: IntArray, factors: FloatArray) -> "PairMatrix":
        if self.n_devices > COPIED:
            return super().scaled(sources, targets, factors)
        return _ScaledMatrix(self, sources, targets, factors)


class _ScaledMatrix(DenseMatrix):
    """A dense matrix with the durations of some pairs multiplied. A pickle has the original and the factors."""

    def __init__(self, base: DenseMatrix, sources: IntArray, targets: IntArray, factors: FloatArray) -> None:
        values = base._values.copy()
        values[sources, targets] *= factors
        super().__init__(values)
        self._made_of = base, sources, targets, factors

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of


class ComputedMatrix(PairMatrix):
    """Rows and columns that are computed when they are first read."""

    def __init__(self, n_devices: int, block: Callable[[IntArray, IntArray], FloatArray]) -> None:
        """`block` gives the durations from some devices to others: [m], [k] -> [m, k]."""
        super().__init__(n_devices)
        self._block = block
        self._everyone = np.arange(n_devices)

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        return self._block(sources, targets)

    def _make_row(self, source: int) -> FloatArray:
        row: FloatArray = self._block(np.array([source]), self._everyone)[0]
        return row

    def _make_column(self, target: int) -> FloatArray:
        return self._block(self._everyone, np.array([target]))[:, 0]

    def _make_pair(self, source: int, target: int) -> float:
        return float(self._block(np.array([source]), np.array([target]))[0, 0])


class _Overlay(PairMatrix):
    """Another matrix with other durations for some pairs. Only rows and columns that are read are copied."""

    def __init__(self, base: PairMatrix, value: Pairwise, pairs: Collection[Pair]) -> None:
        super().__init__(base.n_devices)
        self._base = base
        self._value = value
        self._pairs = pairs
        self._targets: dict[int, list[int]] = defaultdict(list)  # by source
        self._sources: dict[int, list[int]] = defaultdict(list)  # by target
        for source, target in pairs:
            self._targets[source].append(target)
            self._sources[target].append(source)

    def _make_row(self, source: int) -> FloatArray:
        row, targets = self._base.row(source), self._targets.get(source)
        if not targets:
            return row
        row = row.copy()
        row[targets] = [self._value(source, target) for target in targets]
        return row

    def _make_column(self, target: int) -> FloatArray:
        column, sources = self._base.column(target), self._sources.get(target)
        if not sources:
            return column
        column = column.copy()
        column[sources] = [self._value(source, target) for source in sources]
        return column

    def _make_pair(self, source: int, target: int) -> float:
        if (source, target) in self._pairs:
            return self._value(source, target)
        return self._base.pair(source, target)


class _ScaledRows(PairMatrix):
    """Another matrix with the durations of some pairs multiplied. Only rows and columns that are read are copied."""

    def __init__(self, base: PairMatrix, sources: IntArray, targets: IntArray, factors: FloatArray) -> None:
        """`sources`, `targets`, `factors`: [n_pairs] each."""
        super().__init__(base.n_devices)
        self._base, self._sources, self._targets, self._factors = base, sources, targets, factors
        self._by_target: dict[int, dict[int, float]] = {}  # factors from each source of which a single pair was read

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        places = np.full((2, self.n_devices), -1)  # of each device in `sources` and `targets`
        places[0, sources], places[1, targets] = np.arange(len(sources)), np.arange(len(targets))
        a, b = places[0, self._sources], places[1, self._targets]  # [n_pairs] each
        inside = (a >= 0) & (b >= 0)
        block = self._base.block(sources, targets).copy()
        block[a[inside], b[inside]] *= self._factors[inside]
        return block

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        pairs = zip(sources.tolist(), targets.tolist(), strict=True)
        return np.array([self.row(source)[target] for source, target in pairs], np.float64)

    def _make_row(self, source: int) -> FloatArray:
        here = (self._sources == source).nonzero()[0]
        row = self._base.row(source).copy()
        row[self._targets[here]] *= self._factors[here]
        return row

    def _make_column(self, target: int) -> FloatArray:
        here = (self._targets == target).nonzero()[0]
        column = self._base.column(target).copy()
        column[self._sources[here]] *= self._factors[here]
        return column

    def _make_pair(self, source: int, target: int) -> float:
        factors = self._by_target.get(source)
        if factors is None:
            here = (self._sources == source).nonzero()[0]
            by_target = zip(self._targets[here].tolist(), self._factors[here].tolist(), strict=True)
            factors = self._by_target[source] = dict(by_target)
        return self._base.pair(source, target) * factors.get(target, 1.0)


@dataclass(frozen=True, slots=True)
class LinkMatrix:
    """Seconds per bit, and delay in seconds, of the link from every device to every other."""

    s_per_bit: PairMatrix
    delay_s: PairMatrix

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
            DenseMatrix(_one_by_one(lambda a, b: 1.0 / bandwidth_bps(a, b), everyone, everyone)),
            DenseMatrix(_one_by_one(delay_s, everyone, everyone)),
        )

    def at(self, cluster: Cluster, at_s: float) -> "LinkMatrix":
        """The links at an instant. `self` has the nominal links of `cluster`."""
        n, varying = len(cluster.devices), cluster.varying_pairs()
        s_per_bit, delay_s = partial(_s_per_bit_at, cluster, at_s), partial(_delay_s_at, cluster, at_s)
        if varying is None:
            return LinkMatrix(*(ComputedMatrix(n, partial(_one_by_one, value)) for value in (s_per_bit, delay_s)))
        return LinkMatrix(_Overlay(self.s_per_bit, s_per_bit, varying), _Overlay(self.delay_s, delay_s, varying))

    def scaled(self, factors: Factors) -> "LinkMatrix":
        """The links with measured factors applied."""
        if not factors:
            return self
        measured = LinkFactors.of(factors)
        pairs = measured.sources, measured.targets
        return LinkMatrix(self.s_per_bit.scaled(*pairs, measured.per_bit), self.delay_s.scaled(*pairs, measured.delay))

    def row(self, source: int, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from `source`, alone on its path, is at each device: [n_devices]."""
        return self.s_per_bit.row(source) * bits + self.delay_s.row(source)

    def column(self, target: int, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from each device is at `target`: [n_devices]."""
        return self.s_per_bit.column(target) * bits + self.delay_s.column(target)

    def block(self, sources: IntArray, targets: IntArray, bits: float) -> FloatArray:
        """Seconds until a message of `bits` from some devices is at others: [m], [k] -> [m, k]."""
        return self.s_per_bit.block(sources, targets) * bits + self.delay_s.block(sources, targets)

    def pair(self, source: int, target: int, bits: float) -> float:
        """Seconds until a message of `bits` from `source` is at `target`; 0 where they are one device."""
        return self.s_per_bit.pair(source, target) * bits + self.delay_s.pair(source, target)


# Functions of modules and not lambdas, so that a matrix can be pickled


def _nominal_s_per_bit(cluster: Cluster, sources: IntArray, targets: IntArray) -> FloatArray:
    return 1.0 / cluster.arrays(sources, targets)[0]


def _nominal_delay_s(cluster: Cluster, sources: IntArray, targets: IntArray) -> FloatArray:
    return cluster.arrays(sources, targets)[1]


def _s_per_bit_at(cluster: Cluster, at_s: float, source: int, target: int) -> float:
    return 1.0 / cluster.path(source, target).bandwidth_at(at_s)


def _delay_s_at(cluster: Cluster, at_s: float, source: int, target: int) -> float:
    return cluster.path(source, target).delay_at(at_s)


def _one_by_one(value: Pairwise, sources: IntArray, targets: IntArray) -> FloatArray:
    """Durations as an array, [m, k], from a function of (source, target)."""
    rows = [[0.0 if a == b else value(a, b) for b in targets.tolist()] for a in sources.tolist()]
    return np.array(rows, np.float64).reshape(len(sources), len(targets))
