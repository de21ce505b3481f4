"""A placement in the making, with the memory that it takes and the time of its layers. Pure."""

from typing import Self

import numpy as np

from edgeemu.placement.arrays import IntArray, PlacementArrays, assign_groups
from edgeemu.placement.blocks import Kind
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.step_time import StepTimes

UNPLACED = -1
MANY = 4  # layers from which it is quicker to reckon all of them at once


class PartialPlacement:
    """Devices of all single blocks (-1: none yet), and the number of groups of each layer on each device.

    `room` has what is held. A block that is put elsewhere still counts where it was, until `take` or `settle`: what a
    migration needs in between has to fit as well, because senders free their memory only when all has arrived.
    """

    def __init__(self, view: ClusterView, times: StepTimes, room: MemoryHeadroom) -> None:
        n_layers = view.costs.shape.n_layers
        self.view = view
        self.times = times
        self.room = room
        self.embed = UNPLACED
        self.lm_head = UNPLACED
        self.proj: IntArray = np.full(n_layers, UNPLACED)  # [n_layers]
        self.ffn: IntArray = np.full(n_layers, UNPLACED)  # [n_layers]
        self.groups: IntArray = np.zeros((n_layers, len(view.devices)), np.int64)  # [n_layers, n_devices]

    @classmethod
    def empty(cls, view: ClusterView, times: StepTimes) -> Self:
        return cls(view, times, MemoryHeadroom(view))

    @classmethod
    def of(cls, view: ClusterView, times: StepTimes, layout: PlacementArrays) -> Self:
        draft = cls(view, times, MemoryHeadroom.of(view, layout))
        draft.embed, draft.lm_head = layout.embed, layout.lm_head
        draft.proj, draft.ffn = layout.proj.copy(), layout.ffn.copy()
        draft.groups = draft.room.groups.copy()
        return draft

    def at(self, kind: Kind, layer: int) -> int:
        match kind:
            case Kind.EMBED:
                return self.embed
            case Kind.LM_HEAD:
                return self.lm_head
            case Kind.PROJ:
                return int(self.proj[layer])
            case _:
                return int(self.ffn[layer])

    def set(self, kind: Kind, layer: int, device: int) -> None:
        match kind:
            case Kind.EMBED:
                self.embed = device
            case Kind.LM_HEAD:
                self.lm_head = device
            case Kind.PROJ:
                self.proj[layer] = device
            case _:
                self.ffn[layer] = device

    def put(self, kind: Kind, layer: int, device: int) -> None:
        """Places a single block; where it was before stays taken."""
        self.set(kind, layer, device)
        self.room.add_single(kind, device)

    def take(self, kind: Kind, layer: int) -> None:
        """Takes a single block from its device."""
        self.room.remove_single(kind, self.at(kind, layer))
        self.set(kind, layer, UNPLACED)

    def put_groups(self, layer: int, counts: IntArray) -> None:
        """Adds groups of a layer: counts [n_devices]."""
        self.groups[layer] += counts
        self.room.add_groups(layer, counts)

    def take_groups(self, layer: int, device: int, count: int) -> None:
        self.groups[layer, device] -= count
        self.room.remove_groups(layer, device, count)

    def resplit(self, layer: int, counts: IntArray) -> None:
        """Gives a layer other counts; what leaves a device stays taken there."""
        self.room.add_groups(layer, np.maximum(counts - self.groups[layer], 0))
        self.groups[layer] = counts

    def settle(self) -> None:
        """Frees what has left, once nothing needs to be held twice."""
        self.room = MemoryHeadroom.of(self.view, self.layout(None))

    def source(self, layer: int) -> int:
        """The device that has x when a layer begins; -1 if that is not placed."""
        return int(self.ffn[layer - 1]) if layer else self.embed

    def layer_s(self, layer: int) -> float:
        """A placed layer, from x at its source to the end of its feed-forward block."""
        devices = self.groups[layer].nonzero()[0]  # [m]
        counts = self.groups[layer, devices]  # [m]
        return self.times.layer_s(self.source(layer), int(self.proj[layer]), int(self.ffn[layer]), devices, counts)

    def around_s(self, layer: int) -> float:
        """A layer and what comes after it: all that changes when its blocks move."""
        if layer + 1 < len(self.ffn):
            return self.layer_s(layer) + self.layer_s(layer + 1)
        return self.layer_s(layer) + self.ends_s()

    def ends_s(self) -> float:
        return self.times.ends_s(self.embed, int(self.ffn[-1]), self.lm_head)

    def layers_s(self) -> list[float]:
        n_layers = len(self.ffn)
        if n_layers < MANY:
            return [self.layer_s(layer) for layer in range(n_layers)]
        sources = np.concatenate([[self.embed], self.ffn[:-1]])  # [n_layers]
        found: list[float] = self.times.layers_s(sources, self.proj, self.ffn, self.groups).tolist()
        return found

    def step_s(self) -> float:
        return self.ends_s() + sum(self.layers_s())

    def layout(self, old: PlacementArrays | None) -> PlacementArrays:
        """With every group's owner: as many as possible stay where `old` has them."""
        if old is None:
            heads = np.stack([assign_groups(counts, None) for counts in self.groups])  # [n_layers, n_groups]
        else:
            heads = old.heads.copy()
            changed = (self.groups != old.counts(self.groups.shape[1])).any(1)  # [n_layers]
            for layer in np.flatnonzero(changed).tolist():
                heads[layer] = assign_groups(self.groups[layer], heads[layer])
        return PlacementArrays(self.embed, self.lm_head, heads, self.proj.copy(), self.ffn.copy())
