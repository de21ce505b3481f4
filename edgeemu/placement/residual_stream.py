"""The residual stream between layers while a placement is compiled: whole on one device, or scattered over several."""

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
    """How seams are joined in one set of operations."""

    STAR = "star"
    EXCHANGE = "exchange"
    RING = "ring"


class ResidualStream(Protocol):
    """Where x is between two parts of a layer, and how a device gets what it needs of it."""

    def whole(self, device: int) -> Slot:
        """All rows of x."""
        ...

    def factors(self, device: int, ring: Groups) -> tuple[Slot, ...]:
        """What a device of that ring multiplies: all rows of x, or all of it standardised, in chunks."""
        ...

    def residual(self, device: int, ring: Groups) -> Slot:
        """What a device of that ring adds to its chunk: all rows of x, or that chunk of it."""
        ...


@dataclass(frozen=True, slots=True)
class WholeStream:
    """All of x, where each device that is listed made it; others get it from the first."""

    slots: Mapping[int, Slot]

    def whole(self, device: int) -> Slot:
        return self.slots.get(device) or next(iter(self.slots.values()))

    def factors(self, device: int, ring: Groups) -> tuple[Slot, ...]:  # noqa: ARG002
        return (self.whole(device),)

    def residual(self, device: int, ring: Groups) -> Slot:  # noqa: ARG002
        return self.whole(device)


@dataclass(slots=True)
class ScatteredStream:
    """A chunk of x on each device of a ring. Asked for what is elsewhere, it adds the operations that bring it."""

    add: AddJoint
    seam: int
    ring: Groups
    rows: list[Slot]  # by chunk
    takers: Groups  # the devices that multiply all of it, if they are in this ring
    _gathered: dict[int, Slot] = field(default_factory=dict)
    _normed: dict[int, list[Slot]] = field(default_factory=dict)  # by taker, then by chunk

    def whole(self, device: int) -> Slot:
        if device not in self._gathered:
            layer, half = divmod(self.seam, 2)
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
        """AllGather: every chunk goes round the devices that need it."""
        n, add = len(self.ring), self.add
        layer = self.seam // 2
        at: list[Slot] = []  # by chunk: from where its next taker gets it
        for c, device in enumerate(self.ring):
            emits = Slot(MessageKind.NORMED, self.seam, device, c)
            at.append(add(Collective.NORM, layer, device, (self.rows[c],), emits, chunk=Chunk(c, n)))
        ways = [[d for d in (*self.ring[c:], *self.ring[:c]) if d in self.takers] for c in range(n)]
        slots: dict[int, dict[int, Slot]] = {device: {} for device in self.takers}
        for hop in range(len(self.takers)):
            for c, way in enumerate(ways):
                device = way[hop]
                slots[device][c] = at[c]
                if hop + 1 < len(way) and at[c].source != device:
                    emits = Slot(MessageKind.NORMED, self.seam, device, c)
                    at[c] = add(Collective.SUM, layer, device, (at[c],), emits, chunk=Chunk(c, n))
        self._normed = {device: [chunks[c] for c in range(n)] for device, chunks in slots.items()}
