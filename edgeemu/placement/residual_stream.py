"""Residual stream between layers during compilation: undivided on one device, or scattered in chunks over several."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from edgeemu.placement.program import WHOLE, Chunk, Collective, MessageKind, Slot

Groups = tuple[int, ...]


class AddJoint(Protocol):
    def __call__(
        self, kind: Collective, layer: int, device: int, needs: tuple[Slot, ...], emits: Slot, *, chunk: Chunk = WHOLE
    ) -> Slot:
        """Append an operation of a collective to the program; returns what it emits."""
        ...


class Way(Enum):
    """Collective algorithm of one set of operations."""

    STAR = "star"
    EXCHANGE = "exchange"
    RING = "ring"


class ResidualStream(Protocol):
    """Position of x between two parts of a layer, and how a device gets the rows that it needs."""

    def whole(self, device: int) -> Slot:
        """Slot with all rows of x on a device."""
        ...

    def factors(self, device: int, ring: Groups) -> tuple[Slot, ...]:
        """Inputs of the products of a device of that ring: all rows of x, or all of it standardized, in chunks."""
        del ring  # only chunks belong to one
        return (self.whole(device),)

    def residual(self, device: int, ring: Groups) -> Slot:
        """Residual that a device of that ring adds to its chunk: all rows of x, or that chunk of it."""
        del ring
        return self.whole(device)


@dataclass(frozen=True, slots=True)
class WholeStream(ResidualStream):
    """All rows of x on each listed device; other devices receive it from the first."""

    slots: Mapping[int, Slot]

    def whole(self, device: int) -> Slot:
        return self.slots.get(device) or next(iter(self.slots.values()))


@dataclass(slots=True)
class RelayedStream(ResidualStream):
    """All rows of x on one device; others receive it from the relay, which passes it on as it has arrived."""

    add: AddJoint
    slot: Slot
    relay: int
    _relayed: Slot | None = None

    def whole(self, device: int) -> Slot:
        if device in (self.slot.source, self.relay) or self.slot.source == self.relay:
            return self.slot
        if self._relayed is None:
            kind, layer = self.slot.kind, self.slot.layer
            before = layer - (kind is MessageKind.HIDDEN)  # the layer that has made x
            emits = Slot(kind, layer, self.relay)
            self._relayed = self.add(Collective.SUM, before, self.relay, (self.slot,), emits)
        return self._relayed


@dataclass(slots=True)
class ScatteredStream:
    """Chunks of x on the devices of a ring. A request for others adds the operations that bring them."""

    add: AddJoint
    boundary: int
    ring: Groups
    rows: list[Slot]  # by chunk
    takers: Groups  # devices that multiply all of it, if they are in this ring
    _gathered: dict[int, Slot] = field(default_factory=dict)
    _normed: dict[int, list[Slot]] = field(default_factory=dict)  # by taker, then by chunk

    def whole(self, device: int) -> Slot:
        if device not in self._gathered:
            layer, half = divmod(self.boundary, 2)
            emits = Slot(MessageKind.HIDDEN, layer + 1, device) if half else Slot(MessageKind.RESIDUAL, layer, device)
            self._gathered[device] = self.add(Collective.GATHER, layer, device, tuple(self.rows), emits)
        return self._gathered[device]

    def factors(self, device: int, ring: Groups) -> tuple[Slot, ...]:
        if ring != self.ring:
            return (self.whole(device),)
        if not self._normed:
            self._gather_normed()
        return tuple(self._normed[device])

    def residual(self, device: int, ring: Groups) -> Slot:
        return self.rows[ring.index(device)] if ring == self.ring else self.whole(device)

    def _gather_normed(self) -> None:
        """Add an AllGather: every chunk goes round the devices that need it."""
        n, add = len(self.ring), self.add
        layer = self.boundary // 2
        at: list[Slot] = []  # by chunk: the slot that its next taker reads
        for c, device in enumerate(self.ring):
            emits = Slot(MessageKind.NORMED, self.boundary, device, c)
            at.append(add(Collective.NORM, layer, device, (self.rows[c],), emits, chunk=Chunk(c, n)))
        ways = [[d for d in (*self.ring[c:], *self.ring[:c]) if d in self.takers] for c in range(n)]
        slots: dict[int, dict[int, Slot]] = {device: {} for device in self.takers}
        for hop in range(len(self.takers)):
            for c, way in enumerate(ways):
                device = way[hop]
                slots[device][c] = at[c]
                if hop + 1 < len(way) and at[c].source != device:
                    emits = Slot(MessageKind.NORMED, self.boundary, device, c)
                    at[c] = add(Collective.SUM, layer, device, (at[c],), emits, chunk=Chunk(c, n))
        self._normed = {device: [chunks[c] for c in range(n)] for device, chunks in slots.items()}
