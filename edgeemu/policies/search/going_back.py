"""Going back: placements that the run has left, as proposals for later decisions. Pure.

What was best in one state of a cluster was reached over states that are gone, or by the long search before the run;
single moves that each have to pay do not find the way back when that state returns.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.placement import Placement, is_divided
from edgeemu.policies.compiled.search_room import layouts_of
from edgeemu.policies.view.block_owners import BlockOwners
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.same import Same, layout_of
from edgeemu.policies.view.shares import ShareArrays
from edgeemu_kernels.packed_tuples import Packed
from edgeemu_kernels.shape import ModelShape


def earlier_layouts(view: ClusterView) -> Iterator[PlacementArrays]:
    """Undivided placements that the run has left."""
    for placement in view.earlier:
        if not is_divided(placement, view.costs.shape.n_layers):
            yield layout_of(placement, view.costs.shape)


class EarlierLayouts:
    """Undivided placements that the run has left, read when somebody asks for them."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view

    def __call__(self) -> list[PlacementArrays]:
        return self._found

    @cached_property
    def _found(self) -> list[PlacementArrays]:
        return list(earlier_layouts(self._view))


def from_now(view: ClusterView, old: PlacementArrays, earlier: PlacementArrays) -> PlacementArrays | None:
    """An earlier placement in which as many groups as possible stay as in `old`; None: it no longer fits."""
    layout = replace(earlier, heads=old.heads_by(earlier.counts(view.n_devices)))
    return layout if MemoryHeadroom.of(view, layout).fits() else None


def earlier_shares(view: ClusterView, devices: IntArray) -> ShareArrays:
    """Placements that the run has left, of those on `devices` [n], ascending."""
    return _shares_of(Same(view.earlier), view.costs.shape, tuple(devices.tolist()))


def known_layouts(view: ClusterView, current: Placement) -> Packed:
    """The current placement, then those that the run has left, as machine code reads them.

    Without those that divide a projection otherwise than with its heads, as the current one does not.
    """
    return _known_layouts(Same(current), Same(view.earlier), view.costs.shape, view.n_devices)


def owners_of(placement: Placement, shape: ModelShape) -> BlockOwners | None:
    """Devices of a placement's blocks; None: a projection is not with its heads."""
    return _looked_up(Same(placement), shape).owners


def note_owners(placement: Placement, owners: BlockOwners) -> None:
    """Note the devices of the blocks of a placement that was made of them."""
    _looked_up(Same(placement), owners.shape).owners = owners


def placed_on(placement: Placement, shape: ModelShape, devices: IntArray) -> "Placed | None":
    """A placement on `devices` [n], ascending; None: it is on others too, or a projection is not with its heads."""
    return _placed(Same(placement), shape, tuple(devices.tolist()))


class Placed(NamedTuple):
    """A placement as arrays."""

    owners: BlockOwners  # as places among the devices
    shares: ShareArrays


class _LookedUp:
    """Owners of a placement's blocks, looked up when somebody asks for them, if nobody has noted them."""

    def __init__(self, placement: Placement, shape: ModelShape) -> None:
        self._placement, self._shape = placement, shape

    @cached_property
    def owners(self) -> BlockOwners | None:
        return BlockOwners.of(self._placement, self._shape)


@lru_cache(maxsize=16)
def _looked_up(known: Same[Placement], shape: ModelShape) -> _LookedUp:
    return _LookedUp(known.kept, shape)


@lru_cache(maxsize=4)
def _known_layouts(
    current: Same[Placement], earlier: Same[tuple[Placement, ...]], shape: ModelShape, n_devices: int
) -> Packed:
    found = [owners_of(each, shape) for each in (current.kept, *earlier.kept)]
    return layouts_of([owners for owners in found if owners is not None], n_devices)


@lru_cache(maxsize=4)
def _shares_of(known: Same[tuple[Placement, ...]], shape: ModelShape, devices: tuple[int, ...]) -> ShareArrays:
    """Earlier placements as shares on some devices, ascending, but for those that are on others too."""
    none = np.empty((0, shape.n_layers, len(devices)), np.int64)
    found = [ShareArrays(none[:, 0, 0], none[:, 0, 0], none, none[:, :, 0], none)]
    for each in known.kept:
        placed = _placed(Same(each), shape, devices)
        found += [] if placed is None else [placed.shares]
    return ShareArrays.joined(found)


@lru_cache(maxsize=16)
def _placed(known: Same[Placement], shape: ModelShape, devices: tuple[int, ...]) -> Placed | None:
    if not set(devices).issuperset(known.kept.owner.values()):
        return None
    owners = owners_of(known.kept, shape)
    if owners is None:
        return None
    among = owners.among(np.array(devices))
    return Placed(among, ShareArrays.owned(among, len(devices)))
