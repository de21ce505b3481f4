"""Matrices of seconds per bit and delay between all devices, dense or computed by row on demand."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeemu.cluster.cluster import Cluster

ALL_AT_ONCE = 2000  # devices up to which all links are drawn before the first decision: 64 MB
FloatArray = NDArray[np.float64]
Pairwise = Callable[[int, int], float]
Row = Callable[[int], FloatArray]  # of one device and all: [n_devices]


class Rows:
    """A time per pair of devices as vectors, each worked out when first asked for. A device reaches itself at once."""

    def __init__(self, n_devices: int, pair: Pairwise, row: Row | None = None, column: Row | None = None) -> None:
        """`row` and `column`, where they are given, make whole vectors; else they are made of `pair`."""
        self.n_devices = n_devices
        self._pair = pair
        self._row = row or self._row_of_pairs
        self._column = column or self._column_of_pairs
        self._out_of: dict[int, FloatArray] = {}
        self._into: dict[int, FloatArray] = {}
        self._least_out_of: dict[int, float] = {}

    def out_of(self, source: int) -> FloatArray:
        """From `source` to every device: [n_devices]."""
        row = self._out_of.get(source)
        if row is None:
            row = self._out_of[source] = self._row(source)
        return row

    def into(self, target: int) -> FloatArray:
        """From every device to `target`: [n_devices]."""
        column = self._into.get(target)
        if column is None:
            column = self._into[target] = self._column(target)
        return column

    def least_out_of(self, source: int) -> float:
        """The least from `source` to another device; infinite where there is none."""
        least = self._least_out_of.get(source)
        if least is None:
            others = np.delete(self.out_of(source), source)
            least = self._least_out_of[source] = float(others.min(initial=np.inf))
        return least

    def between(self, source: int, target: int) -> float:
        if source == target:
            return 0.0
        row = self._out_of.get(source)
        return self._pair(source, target) if row is None else float(row[target])

    def _row_of_pairs(self, source: int) -> FloatArray:
        values = (0.0 if d == source else self._pair(source, d) for d in range(self.n_devices))
        return np.fromiter(values, np.float64, self.n_devices)

    def _column_of_pairs(self, target: int) -> FloatArray:
        values = (0.0 if d == target else self._pair(d, target) for d in range(self.n_devices))
        return np.fromiter(values, np.float64, self.n_devices)


class Links:
    """Every pair's seconds per bit, and delay. Keep one for as long as the links do, and decisions share its rows."""

    def __init__(self, n_devices: int, bandwidth_bps: Pairwise, delay_s: Pairwise) -> None:
        self.n_devices = n_devices
        self.s_per_bit = Rows(n_devices, lambda a, b: 1.0 / bandwidth_bps(a, b))
        self.delay_s = Rows(n_devices, delay_s)

    @classmethod
    def of(cls, cluster: Cluster) -> "Links":
        """Those of a cluster by themselves: all now, or, of very many devices, each row when it is asked for."""
        made = cls(len(cluster.devices), cluster.bandwidth_bps, cluster.delay_s)
        everyone = np.arange(made.n_devices)
        if made.n_devices <= ALL_AT_ONCE:
            bps, delay_s = cluster.arrays(everyone, everyone)  # [n_devices, n_devices] each
            made.s_per_bit, made.delay_s = _rows_of(1.0 / bps), _rows_of(delay_s)
            return made

        def row(source: int) -> tuple[FloatArray, FloatArray]:
            bps, delay_s = cluster.arrays(everyone[source, None], everyone)
            return 1.0 / bps[0], delay_s[0]

        def column(target: int) -> tuple[FloatArray, FloatArray]:
            bps, delay_s = cluster.arrays(everyone, everyone[target, None])
            return 1.0 / bps[:, 0], delay_s[:, 0]

        n, s_per_bit, delay = made.n_devices, made.s_per_bit.between, cluster.delay_s
        made.s_per_bit = Rows(n, s_per_bit, lambda source: row(source)[0], lambda target: column(target)[0])
        made.delay_s = Rows(n, delay, lambda source: row(source)[1], lambda target: column(target)[1])
        return made

    def at(self, cluster: Cluster, at_s: float) -> "Links":
        """These, of a cluster by itself, as they are at an instant: what does not vary is taken as it is."""
        ways = cluster.varying_pairs()
        bandwidth_bps, delay_s = at(cluster, at_s)
        if ways is None:
            return Links(self.n_devices, bandwidth_bps, delay_s)
        made = Links(self.n_devices, bandwidth_bps, delay_s)
        made.s_per_bit = _patched(self.s_per_bit, made.s_per_bit.between, ways)
        made.delay_s = _patched(self.delay_s, made.delay_s.between, ways)
        return made

    def out_of(self, source: int, bits: float) -> FloatArray:
        """When a message of `bits` from `source` is wholly at each device, alone on its way: [n_devices], seconds."""
        return self.s_per_bit.out_of(source) * bits + self.delay_s.out_of(source)

    def into(self, target: int, bits: float) -> FloatArray:
        """When a message of `bits` from each device is wholly at `target`: [n_devices], seconds."""
        return self.s_per_bit.into(target) * bits + self.delay_s.into(target)

    def between(self, source: int, target: int, bits: float) -> float:
        return self.s_per_bit.between(source, target) * bits + self.delay_s.between(source, target)


def at(cluster: Cluster, at_s: float) -> tuple[Pairwise, Pairwise]:
    """Bandwidth and delay at an instant."""
    return (
        lambda a, b: cluster.path(a, b).bandwidth_at(at_s),
        lambda a, b: cluster.path(a, b).delay_at(at_s),
    )


def _rows_of(matrix: FloatArray) -> Rows:
    """Of all pairs, [n_devices, n_devices]. Nobody may write into the rows."""
    matrix.flags.writeable = False

    def column(target: int) -> FloatArray:
        found = matrix[:, target].copy()  # in one piece, which is quicker to read again and again
        found.flags.writeable = False
        return found

    return Rows(len(matrix), lambda a, b: float(matrix[a, b]), matrix.__getitem__, column)


def _patched(rows: Rows, pair: Pairwise, ways: set[tuple[int, int]]) -> Rows:
    """The same rows but for some ways, whose values are `pair`'s."""
    targets: dict[int, list[int]] = defaultdict(list)
    sources: dict[int, list[int]] = defaultdict(list)
    for source, target in ways:
        targets[source].append(target)
        sources[target].append(source)

    def row(source: int) -> FloatArray:
        found = rows.out_of(source)
        if source in targets:
            found = found.copy()
            found[targets[source]] = [pair(source, target) for target in targets[source]]
        return found

    def column(target: int) -> FloatArray:
        found = rows.into(target)
        if target in sources:
            found = found.copy()
            found[sources[target]] = [pair(source, target) for source in sources[target]]
        return found

    def value(source: int, target: int) -> float:
        return pair(source, target) if (source, target) in ways else rows.between(source, target)

    return Rows(rows.n_devices, value, row, column)


class Patched(Rows):
    """The data sheet's rows, with factors where something was observed: a decision copies only rows that it reads."""

    def __init__(self, sheet: Rows, factors: dict[tuple[int, int], float]) -> None:
        super().__init__(0, lambda a, b: sheet.between(a, b) * factors.get((a, b), 1.0))
        self._sheet = sheet
        self._from: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self._to: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for (source, target), factor in factors.items():
            self._from[source].append((target, factor))
            self._to[target].append((source, factor))

    def out_of(self, source: int) -> FloatArray:
        if source not in self._out_of:
            self._out_of[source] = _scaled(self._sheet.out_of(source), self._from.get(source, []))
        return self._out_of[source]

    def into(self, target: int) -> FloatArray:
        if target not in self._into:
            self._into[target] = _scaled(self._sheet.into(target), self._to.get(target, []))
        return self._into[target]


def _scaled(row: FloatArray, factors: list[tuple[int, float]]) -> FloatArray:
    if not factors:
        return row
    scaled = row.copy()
    for index, factor in factors:
        scaled[index] *= factor
    return scaled
