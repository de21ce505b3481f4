"""Going back: placements that the run has left, as proposals for later decisions. Pure.

What was best in one state of a cluster was reached over states that are gone, or by the long search before the run;
single moves that each have to pay do not find the way back when that state returns.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.shape import ModelShape


def earlier_layouts(view: ClusterView) -> Iterator[PlacementArrays]:
    """Undivided placements that the run has left."""
    for placement in view.earlier:
        if not is_divided(placement, view.costs.shape.n_layers):
            yield PlacementArrays.of(placement, view.costs.shape)


def from_now(view: ClusterView, old: PlacementArrays, earlier: PlacementArrays) -> PlacementArrays | None:
    """An earlier placement in which as many groups as possible stay as in `old`; None: it no longer fits."""
    layout = replace(earlier, heads=old.heads_by(earlier.counts(view.n_devices)))
    return layout if MemoryHeadroom.of(view, layout).fits() else None


def earlier_shares(view: ClusterView, devices: IntArray) -> ShareArrays:
    """Placements that the run has left, of those on `devices` [n], ascending."""
    return _shares_of(tuple(map(_Itself, view.earlier)), view.costs.shape, tuple(devices.tolist()))


def placed_on(placement: Placement, shape: ModelShape, devices: IntArray) -> "Placed | None":
    """A placement on `devices` [n], ascending; None: it is on others too, or a projection is not with its heads."""
    return _placed(_Itself(placement), shape, tuple(devices.tolist()))


class Placed(NamedTuple):
    """A placement as arrays."""

    owners: BlockOwners
    shares: ShareArrays


class _Itself:
    """A placement as the key of a cache, by which object it is: nobody changes those that a run has, or has left."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement

    def __hash__(self) -> int:
        return id(self.placement)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.placement is self.placement


@lru_cache(maxsize=4)
def _shares_of(known: tuple[_Itself, ...], shape: ModelShape, devices: tuple[int, ...]) -> ShareArrays:
    """Earlier placements as shares on some devices, ascending, but for those that are on others too."""
    none = np.empty((0, shape.n_layers, len(devices)), np.int64)
    found = [ShareArrays(none[:, 0, 0], none[:, 0, 0], none, none[:, :, 0], none)]
    for each in known:
        placed = _placed(each, shape, devices)
        found += [] if placed is None else [placed.shares]
    return ShareArrays.joined(found)


@lru_cache(maxsize=16)
def _placed(known: _Itself, shape: ModelShape, devices: tuple[int, ...]) -> Placed | None:
    if not set(devices).issuperset(known.placement.owner.values()):
        return None
    owners = BlockOwners.of(known.placement, shape, np.array(devices))
    return None if owners is None else Placed(owners, ShareArrays.owned(owners, len(devices)))
