"""Durations between all devices, as matrices: dense, or computed by row and column on demand.

Rows and columns that were read are kept, and the views of a run share them. Nobody can write into them. Matrices can
be pickled; kept rows and columns stay behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.scaling import Scaling

COPIED = 200  # devices up to which a dense matrix is copied to change some pairs; of larger ones, what is read
MANY_PAIRS, KEPT = 1000, 4  # from so many pairs that are asked for at once, the last few are kept
Pairwise = Callable[[int, int], float]


class PairMatrix(ABC):
    """A duration for every source and target; 0 from a device to itself."""

    values: FloatArray | None = None  # [n_devices, n_devices] if they are all in one array

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

    def to_some(self, source: int, targets: IntArray) -> FloatArray:
        """From `source` to some devices: [m]."""
        return self.row(source)[targets]

    def from_some(self, sources: IntArray, target: int) -> FloatArray:
        """From some devices to `target`: [m]."""
        return self.column(target)[sources]

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
            others = self.row(source).copy()
            others[source] = np.inf
            least = self._least[source] = float(others.min())
        return least

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        """Durations of some pairs: [n_pairs], [n_pairs] -> [n_pairs]."""
        found = [self.pair(a, b) for a, b in zip(sources.tolist(), targets.tolist(), strict=True)]
        return np.array(found, np.float64)

    def pairs_in_both(self, other: "PairMatrix", sources: IntArray, targets: IntArray) -> tuple[FloatArray, FloatArray]:
        """`pairs` of this matrix and of another: [n_pairs], [n_pairs] -> [n_pairs] each."""
        return self.pairs(sources, targets), other.pairs(sources, targets)

    def scaled(self, scaling: "Scaling", factors: FloatArray) -> "PairMatrix":
        """A copy with the durations of some pairs multiplied: [n_pairs]."""
        return _ScaledRows(self, scaling, factors)

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
        self.values: FloatArray = values
        self.values.setflags(write=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.values.setflags(write=False)  # which NumPy does not pickle

    def _make_row(self, source: int) -> FloatArray:
        row: FloatArray = self.values[source]
        return row

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        block: FloatArray = self.values[sources[:, None], targets]
        return block

    def _make_column(self, target: int) -> FloatArray:
        return self.values[:, target].copy()  # contiguous, which is quicker to read again and again

    def _make_pair(self, source: int, target: int) -> float:
        return float(self.values[source, target])

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        found: FloatArray = self.values[sources, targets]
        return found

    def scaled(self, scaling: "Scaling", factors: FloatArray) -> "PairMatrix":
        if self.n_devices > COPIED:
            return super().scaled(scaling, factors)
        return ScaledMatrix(self, scaling, factors)


class ScaledMatrix(DenseMatrix):
    """A dense matrix with the durations of some pairs multiplied. A pickle has the original and the factors."""

    def __init__(
        self, base: DenseMatrix, scaling: Scaling, factors: FloatArray, values: FloatArray | None = None
    ) -> None:
        """`values`: those of the matrix, if they are known already."""
        if values is None:
            values = base.values.copy()
            values.reshape(-1)[scaling.places] *= factors
        super().__init__(values)
        self._made_of = base, scaling, factors

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


class _ManyPairs(NamedTuple):
    """Pairs of devices that were asked for, and their durations in two matrices: [n_pairs] each."""

    other: PairMatrix
    sources: IntArray
    targets: IntArray
    found: tuple[FloatArray, FloatArray]


class _ScaledRows(PairMatrix):
    """Another matrix with the durations of some pairs multiplied. Only rows and columns that are read are copied."""

    def __init__(self, base: PairMatrix, scaling: Scaling, factors: FloatArray) -> None:
        """`factors`: [n_pairs]."""
        super().__init__(base.n_devices)
        self._base, self._scaling, self._factors = base, scaling, np.append(factors, 1.0)
        self._asked: list[_ManyPairs] = []  # the last few: prospects ask for the same ones

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_asked": []}

    def scaled(self, scaling: Scaling, factors: FloatArray) -> PairMatrix:
        which = self._scaling.find(scaling.sources, scaling.targets)  # [n_pairs]
        if (which == len(self._scaling.sources)).any():
            return super().scaled(scaling, factors)
        both = self._factors[:-1].copy()
        both[which] *= factors
        return _ScaledRows(self._base, self._scaling, both)

    def block(self, sources: IntArray, targets: IntArray) -> FloatArray:
        which = self._scaling.find(sources[:, None], targets)  # [m, k]
        block: FloatArray = self._base.block(sources, targets) * self._factors[which]
        return block

    def pairs(self, sources: IntArray, targets: IntArray) -> FloatArray:
        found: FloatArray = self._base.pairs(sources, targets) * self._factors[self._scaling.find(sources, targets)]
        return found

    def to_some(self, source: int, targets: IntArray) -> FloatArray:
        row = self._rows.get(source)
        return self.pairs(np.full_like(targets, source), targets) if row is None else row[targets]

    def from_some(self, sources: IntArray, target: int) -> FloatArray:
        column = self._columns.get(target)
        return self.pairs(sources, np.full_like(sources, target)) if column is None else column[sources]

    def pairs_in_both(self, other: PairMatrix, sources: IntArray, targets: IntArray) -> tuple[FloatArray, FloatArray]:
        if not isinstance(other, _ScaledRows) or other._scaling is not self._scaling:
            return super().pairs_in_both(other, sources, targets)
        for known in self._asked:
            same = known.other is other and np.array_equal(known.sources, sources)
            if same and np.array_equal(known.targets, targets):
                return known.found
        mine, others = self._base.pairs_in_both(other._base, sources, targets)
        which = self._scaling.find(sources, targets)  # [n_pairs]
        found = mine * self._factors[which], others * other._factors[which]
        if len(sources) >= MANY_PAIRS:
            self._asked = [*self._asked[1 - KEPT :], _ManyPairs(other, sources.copy(), targets.copy(), found)]
        return found

    def _make_row(self, source: int) -> FloatArray:
        row: FloatArray = self._base.row(source) * self._factors.take(self._scaling.from_source(source))
        return row

    def _make_column(self, target: int) -> FloatArray:
        column: FloatArray = self._base.column(target) * self._factors.take(self._scaling.to_target(target))
        return column

    def _make_pair(self, source: int, target: int) -> float:
        return self._base.pair(source, target) * float(self._factors[self._scaling.find_one(source, target)])


def one_by_one(value: Pairwise, sources: IntArray, targets: IntArray) -> FloatArray:
    """Durations as an array, [m, k], from a function of (source, target)."""
    rows = [[0.0 if a == b else value(a, b) for b in targets.tolist()] for a in sources.tolist()]
    return np.array(rows, np.float64).reshape(len(sources), len(targets))
