"""Links at an instant of a cluster whose links vary: the nominal ones, and over them those that vary. Pure."""

from collections import defaultdict
from collections.abc import Collection
from functools import partial

from edgeemu.cluster.cluster import Cluster
from edgeemu.placement.arrays import FloatArray
from edgeemu.policies.view.link_factors import LinkFactors, Pair
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.pair_matrix import ComputedMatrix, PairMatrix, Pairwise, one_by_one

FOLLOWED = 64  # devices up to which every link is looked at of a cluster whose links all vary
LEAST_S = 1e-9  # a delay that is as good as none


def links_at(nominal: LinkMatrix, cluster: Cluster, at_s: float) -> LinkMatrix:
    """The links of a cluster at an instant, from its nominal ones."""
    n, varying = len(cluster.devices), cluster.varying_pairs()
    s_per_bit, delay_s = partial(_s_per_bit_at, cluster, at_s), partial(_delay_s_at, cluster, at_s)
    if varying is None:
        return LinkMatrix(*(ComputedMatrix(n, partial(one_by_one, value)) for value in (s_per_bit, delay_s)))
    return LinkMatrix(_Overlay(nominal.s_per_bit, s_per_bit, varying), _Overlay(nominal.delay_s, delay_s, varying))


def link_factors_at(nominal: LinkMatrix, cluster: Cluster, at_s: float) -> LinkFactors:
    """Delay, and time per bit, of the links that vary: multiples of the nominal ones, at an instant."""
    pairs, n = cluster.varying_pairs(), len(cluster.devices)
    if pairs is None:
        pairs = {(a, b) for a in range(n) for b in range(n) if a != b} if n <= FOLLOWED else set()
    found = {}
    for a, b in pairs:
        path = cluster.path(a, b)
        delay = max(LEAST_S, path.delay_at(at_s)) / max(LEAST_S, nominal.delay_s.pair(a, b))
        found[a, b] = delay, 1.0 / (path.bandwidth_at(at_s) * nominal.s_per_bit.pair(a, b))
    return LinkFactors.of(found)


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
