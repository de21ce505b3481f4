"""Going back: placements that the run has left, as proposals for later decisions. Pure.

What was best in one state of a cluster was reached over states that are gone, or by the long search before the run;
single moves that each have to pay do not find the way back when that state returns.
"""

from collections.abc import Iterator
from dataclasses import replace

from edgeemu.placement.arrays import IntArray, PlacementArrays
from edgeemu.placement.placement import is_divided
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.shares import ShareArrays


def earlier_layouts(view: ClusterView) -> Iterator[PlacementArrays]:
    """Undivided placements that the run has left."""
    for placement in view.earlier:
        if not is_divided(placement, view.costs.shape.n_layers):
            yield PlacementArrays.of(placement, view.costs.shape)


def from_now(view: ClusterView, old: PlacementArrays, earlier: PlacementArrays) -> PlacementArrays | None:
    """An earlier placement in which as many groups as possible stay as in `old`; None: it no longer fits."""
    layout = replace(earlier, heads=old.heads_by(earlier.counts(len(view.devices))))
    return layout if MemoryHeadroom.of(view, layout).fits() else None


def earlier_shares(view: ClusterView, devices: IntArray) -> list[ShareArrays]:
    """Placements that the run has left, of those on `devices` [n], ascending."""
    known = set(devices.tolist())
    on_devices = [each for each in view.earlier if known.issuperset(each.owner.values())]
    return [found for each in on_devices if (found := ShareArrays.of(each, view.costs.shape, devices)) is not None]
