"""A placement in the making, with the memory that it takes and the time of its layers. Pure."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray, PlacementArrays, assign_groups
from edgeemu.placement.blocks import Kind
from edgeemu.placement.placement import ends_meeting
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.held_heads import HeldHeads
from edgeemu.policies.view.memory_arrays import MemoryHeadroom
from edgeemu.policies.view.step_time import MANY, StepTimes

UNPLACED = -1
ENDS = (Kind.LM_HEAD, Kind.EMBED)


class Moved(NamedTuple):
    """A single block of a layer, or `number` of its groups, that moves from `source`."""

    kind: Kind
    layer: int
    source: int
    number: int = 1


class Saved(NamedTuple):
    """State of a placement in the making: `layout.heads` has the groups of each device, [n_layers, n_devices]."""

    layout: PlacementArrays
    began: dict[tuple[Kind, int], int]
    began_groups: IntArray


@lru_cache(maxsize=4)
def _nowhere(n_layers: int) -> PlacementArrays:
    """Devices of single blocks, none of which is placed; of no heads."""
    unplaced = np.full(n_layers, UNPLACED)
    return PlacementArrays(UNPLACED, UNPLACED, np.empty((n_layers, 0), np.int64), unplaced, unplaced)


def _single(kind: Kind, layer: int) -> tuple[Kind, int]:
    """Name of a single block; its layer is 0 where a model has one such block."""
    return kind, 0 if kind in ENDS else layer


class _Gathered(NamedTuple):
    """The heads of a layer, and when their outputs are at proj: [m] each. `state`: source, proj, groups."""

    state: tuple[int, int, bytes]
    devices: IntArray
    times_s: FloatArray


class PartialPlacement:
    """Devices of all single blocks (-1: none yet), and the number of groups of each layer on each device.

    `room` has the memory that is held. A block that moves still counts on the device where it was at the beginning,
    until `take` or `settle`: memory must suffice during the migration too, because senders free theirs only when
    everything has arrived. Where it was only in between, nothing is held for it.
    """

    def __init__(self, view: ClusterView, times: StepTimes, room: MemoryHeadroom, layout: PlacementArrays) -> None:
        """`layout`: devices of single blocks; `room` has the number of groups."""
        self.view = view
        self.times = times
        self.room = room
        self.embed, self.lm_head = layout.embed, layout.lm_head
        self.proj: IntArray = layout.proj.copy()  # [n_layers]
        self.ffn: IntArray = layout.ffn.copy()  # [n_layers]
        self.groups: IntArray = room.groups.copy()  # [n_layers, n_devices]
        self._gathered: list[_Gathered | None] = [None] * len(self.ffn)  # of each layer
        self._begin()

    @classmethod
    def empty(cls, view: ClusterView, times: StepTimes) -> Self:
        """Nothing placed."""
        return cls(view, times, MemoryHeadroom(view), _nowhere(view.costs.shape.n_layers))

    @classmethod
    def of(cls, view: ClusterView, times: StepTimes, layout: PlacementArrays) -> Self:
        """Everything placed as in a placement."""
        room = MemoryHeadroom.of(view, layout)
        room.begin_migration()
        return cls(view, times, room, layout)

    def at(self, kind: Kind, layer: int) -> int:
        """The device of a single block; -1 if it is not placed."""
        match kind:
            case Kind.EMBED:
                return self.embed
            case Kind.LM_HEAD:
                return self.lm_head
            case Kind.PROJ:
                return int(self.proj[layer])
            case _:
                return int(self.ffn[layer])

    def meeting(self, moved: Iterable[Moved], device: int) -> set[Kind]:
        """Ends that bring no table if these blocks move to a device, because the other end is there or goes too."""
        kinds = {one.kind for one in moved}.intersection(ENDS)
        if not kinds:
            return kinds
        embed, lm_head = self.embed, self.lm_head
        to_embed, to_lm_head = (device if kind in kinds else self.at(kind, 0) for kind in (Kind.EMBED, Kind.LM_HEAD))
        return ends_meeting((embed, to_embed), (lm_head, to_lm_head))

    def set(self, kind: Kind, layer: int, device: int) -> None:
        """Note the device of a single block; memory is not changed."""
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
        """Place a single block; the device where it was at the beginning, if any, still has the memory of it."""
        here, began = self.at(kind, layer), self._began.get(_single(kind, layer), UNPLACED)
        if here not in (UNPLACED, began):
            self.room.remove_single(kind, here)
        if device != began:
            self.room.add_single(kind, device)
        self.set(kind, layer, device)

    def take(self, kind: Kind, layer: int) -> None:
        """Remove a single block from its device."""
        self.room.remove_single(kind, self.at(kind, layer))
        self._began.pop(_single(kind, layer), None)
        self.set(kind, layer, UNPLACED)

    def put_groups(self, layer: int, counts: IntArray) -> None:
        """Add groups of a layer: counts [n_devices]."""
        self.resplit(layer, self.groups[layer] + counts)

    def take_groups(self, layer: int, device: int, count: int) -> None:
        """Remove groups of a layer from a device."""
        self.groups[layer, device] -= count
        self._began_groups[layer, device] = min(self._began_groups[layer, device], self.groups[layer, device])
        self._hold(layer)

    def resplit(self, layer: int, counts: IntArray) -> None:
        """Give a layer other counts; devices that had groups at the beginning still have the memory of them."""
        self.groups[layer] = counts
        self._hold(layer)

    def _hold(self, layer: int) -> None:
        """Count the memory of a layer's groups, where they were at the beginning and where they are."""
        more = np.maximum(self._began_groups[layer], self.groups[layer]) - self.room.groups[layer]  # [n_devices]
        for device in np.flatnonzero(more < 0).tolist():
            self.room.remove_groups(layer, device, -int(more[device]))
        self.room.add_groups(layer, np.maximum(more, 0))

    def move(self, moved: Iterable[Moved], device: int) -> None:
        """Move blocks and groups to a device."""
        for kind, layer, source, number in moved:
            if kind is Kind.HEAD:
                self._move_groups(layer, source, device, number)
            else:
                self.put(kind, layer, device)

    def move_back(self, moved: Iterable[Moved], device: int) -> None:
        """Undo `move`, if nothing was changed since."""
        for kind, layer, source, number in moved:
            if kind is Kind.HEAD:
                self._move_groups(layer, device, source, number)
            else:
                self.put(kind, layer, source)

    def _move_groups(self, layer: int, source: int, target: int, number: int) -> None:
        counts = self.groups[layer].copy()
        counts[target] += number
        counts[source] -= number
        self.resplit(layer, counts)

    def save(self) -> Saved:
        """Return all that is needed to restore the present state."""
        layout = PlacementArrays(self.embed, self.lm_head, self.groups.copy(), self.proj.copy(), self.ffn.copy())
        return Saved(layout, dict(self._began), self._began_groups.copy())

    def restore(self, saved: Saved) -> None:
        """Go back to a saved state; it can be restored once."""
        layout, self._began, self._began_groups = saved
        self.embed, self.lm_head, self.proj, self.ffn = layout.embed, layout.lm_head, layout.proj, layout.ffn
        self.groups = layout.heads
        self.room.groups = np.maximum(self.groups, self._began_groups)
        for held in self.room.singles.values():
            held[:] = 0
        for kind, layer in self._singles():
            for device in {self.at(kind, layer), self._began.get((kind, layer), UNPLACED)} - {UNPLACED}:
                self.room.singles[kind][device] += 1
        self.room.recount()

    def settle(self) -> None:
        """Free the memory of what has left, once nothing needs to be held twice."""
        self.room = MemoryHeadroom.of(self.view, self.layout(None))
        self._begin()

    def _begin(self) -> None:
        """Note where everything is."""
        ends = (Kind.EMBED, 0, self.embed), (Kind.LM_HEAD, 0, self.lm_head)
        layers = [
            (kind, *at) for kind, on in ((Kind.PROJ, self.proj), (Kind.FFN, self.ffn)) for at in enumerate(on.tolist())
        ]
        self._began = {(kind, layer): device for kind, layer, device in (*ends, *layers) if device != UNPLACED}
        self._began_groups = self.groups.copy()  # [n_layers, n_devices]

    def _singles(self) -> Iterator[tuple[Kind, int]]:
        yield from ((kind, 0) for kind in ENDS)
        yield from ((kind, layer) for layer in range(len(self.ffn)) for kind in (Kind.PROJ, Kind.FFN))

    def source(self, layer: int) -> int:
        """The device that has x when a layer begins; -1 if that block is not placed."""
        return int(self.ffn[layer - 1]) if layer else self.embed

    def gathered(self, layer: int) -> tuple[IntArray, FloatArray]:
        """Devices with groups of a placed layer, and when the outputs of each are at proj: [m] each.

        They are kept until something changes.
        """
        groups, ends = self.groups[layer], (self.source(layer), int(self.proj[layer]))
        state, kept = (*ends, groups.tobytes()), self._gathered[layer]
        if kept is None or kept.state != state:
            devices = groups.nonzero()[0]  # [m]
            kept = _Gathered(state, devices, self.times.gathered_s(*ends, devices, groups[devices]))
            self._gathered[layer] = kept
        return kept.devices, kept.times_s

    def all_gathered(self) -> list[tuple[IntArray, FloatArray]]:
        """`gathered` of all layers; those that have changed at once, if they are many."""
        if len(self.ffn) < MANY:
            return [self.gathered(layer) for layer in range(len(self.ffn))]
        sources = np.append(self.embed, self.ffn[:-1])  # [n_layers]
        states = list(zip(sources.tolist(), self.proj.tolist(), map(np.ndarray.tobytes, self.groups), strict=True))
        kept = self._gathered
        new = [at for at, state in enumerate(states) if (here := kept[at]) is None or here.state != state]
        if len(new) >= MANY:
            held = HeldHeads.of(self.groups if len(new) == len(states) else self.groups[new])
            times_s = self.times.all_gathered_s(sources[new], self.proj[new], held)
            begins = held.starts(len(new)).tolist()
            for layer, begin, end in zip(new, begins, [*begins[1:], None], strict=True):
                kept[layer] = _Gathered(states[layer], held.devices[begin:end], times_s[begin:end])
        else:
            for layer in new:
                self.gathered(layer)
        return [(each.devices, each.times_s) for each in kept if each is not None]

    def layer_s(self, layer: int) -> float:
        """Time of a placed layer, from x at its source to the end of its feed-forward block."""
        source, at_proj, at_ffn = self.source(layer), int(self.proj[layer]), int(self.ffn[layer])
        if self.times.keeps_busy:
            devices = self.groups[layer].nonzero()[0]  # [m]
            return self.times.layer_s(source, at_proj, at_ffn, devices, self.groups[layer, devices])
        stage_s = self.times.heads_stage_of_s(source, at_proj, self.gathered(layer)[1])
        return self.times.layer_after_s(stage_s, at_proj, at_ffn)

    def around_s(self, layer: int) -> float:
        """Time of a layer and of the next, or the ends: all that changes when its blocks move."""
        if layer + 1 < len(self.ffn):
            return self.layer_s(layer) + self.layer_s(layer + 1)
        return self.layer_s(layer) + self.ends_s()

    def ends_s(self) -> float:
        """Time of everything but the layers."""
        return self.times.ends_s(self.embed, int(self.ffn[-1]), self.lm_head)

    def layers_s(self) -> list[float]:
        if len(self.ffn) == 1:
            return [self.layer_s(0)]
        sources = np.append(self.embed, self.ffn[:-1])  # [n_layers]
        if self.times.keeps_busy:
            found_s = self.times.layers_s(sources, self.proj, self.ffn, self.groups)
        else:
            latest_s = np.array([times_s.max() for _, times_s in self.all_gathered()])  # [n_layers]
            found_s = self.times.layers_from_s(latest_s, sources, self.proj, self.ffn)
        found: list[float] = found_s.tolist()
        return found

    def step_s(self) -> float:
        return self.ends_s() + sum(self.layers_s())

    def layout(self, old: PlacementArrays | None) -> PlacementArrays:
        """The placement with an owner for each group: as many groups as possible stay where `old` has them."""
        if old is None:
            heads = np.stack([assign_groups(counts, None) for counts in self.groups])  # [n_layers, n_groups]
        else:
            heads = old.heads_by(self.groups)
        return PlacementArrays(self.embed, self.lm_head, heads, self.proj.copy(), self.ffn.copy())
