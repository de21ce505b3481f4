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


def earlier_layouts(view: ClusterView, old: PlacementArrays) -> Iterator[PlacementArrays]:
    """Undivided placements that the run has left and that still fit; as many groups as possible stay as in `old`."""
    for placement in view.earlier:
        if not is_divided(placement, view.costs.shape.n_layers):
            layout = PlacementArrays.of(placement, view.costs.shape)
            layout = replace(layout, heads=old.heads_by(layout.counts(len(view.devices))))
            if MemoryHeadroom.of(view, layout).fits():
                yield layout


def earlier_shares(view: ClusterView, devices: IntArray) -> list[ShareArrays]:
    """Placements that the run has left, of those on `devices` [n], ascending."""
    known = set(devices.tolist())
    on_devices = [each for each in view.earlier if known.issuperset(each.owner.values())]
    return [found for each in on_devices if (found := ShareArrays.of(each, view.costs.shape, devices)) is not None]
