"""Links at an instant of a cluster whose links vary: the nominal ones, and over them those that vary. Pure."""

from collections import defaultdict
from collections.abc import Collection
from functools import partial

from edgeemu.cluster.cluster import Cluster
from edgeemu.policies.view.link_factors import Pair
from edgeemu.policies.view.link_matrix import (
    ComputedMatrix,
    FloatArray,
    LinkMatrix,
    PairMatrix,
    Pairwise,
    one_by_one,
)


def links_at(nominal: LinkMatrix, cluster: Cluster, at_s: float) -> LinkMatrix:
    """The links of a cluster at an instant, from its nominal ones."""
    n, varying = len(cluster.devices), cluster.varying_pairs()
    s_per_bit, delay_s = partial(_s_per_bit_at, cluster, at_s), partial(_delay_s_at, cluster, at_s)
    if varying is None:
        return LinkMatrix(*(ComputedMatrix(n, partial(one_by_one, value)) for value in (s_per_bit, delay_s)))
    return LinkMatrix(_Overlay(nominal.s_per_bit, s_per_bit, varying), _Overlay(nominal.delay_s, delay_s, varying))


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


# Functions of the module and not lambdas, so that a matrix can be pickled


def _s_per_bit_at(cluster: Cluster, at_s: float, source: int, target: int) -> float:
    return 1.0 / cluster.path(source, target).bandwidth_at(at_s)


def _delay_s_at(cluster: Cluster, at_s: float, source: int, target: int) -> float:
    return cluster.path(source, target).delay_at(at_s)
