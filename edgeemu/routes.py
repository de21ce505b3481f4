"""A placement compiled to operations and the messages between them. Knows who needs what; no sizes, no time, no data.

Whole blocks pass x on from device to device. Where a layer's projection or feed-forward is in shards, what its devices
compute are parts of a sum, and a *seam* joins them and adds the residual. How:

* *star*: one device adds everything up and goes on as a whole block would.
* *ring*, in steps of at least as many rows as the ring has devices: a ReduceScatter. The rows are cut into one chunk a
  device, and each chunk's sum goes round from device to device until it is with its own, which adds the residual and
  normalises (the sequence-parallel connective part of Galaxy, arXiv 2405.17245), and an AllGather brings the chunks to
  all that multiply them. A device that has no part of a sum is left out of its chunk's way.
* The same in *tiles*, where chunks are large enough: products are done chunk by chunk, in the order in which chunks
  come and are needed, so that messages travel meanwhile.
* *ring*, in steps of fewer rows, decoding above all. [D] Every device sends its part to every other, and each adds up
  all of them: one hop, where a ring would take 2 (n - 1), and at a row or two it is the hop that takes the time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, Protocol

from edgeemu.blocks import EMBED, LM_HEAD, Kind, ffn, n_shards, proj
from edgeemu.placement import Placement
from edgeemu.program import WHOLE, Chunk, Joint, Op, Program, RowRange, Slot, Stage
from edgeemu_kernels.shape import ModelShape

__all__ = ["Collective", "Op", "Program", "Slot", "Stage", "compile_routes", "ring_of"]

Collective = Literal["ring", "star"]
Groups = tuple[int, ...]
Shares = Mapping[int, Groups]  # device -> its groups or shards


class _Way(Enum):
    """How seams are joined in one set of operations."""

    STAR = "star"
    EXCHANGE = "exchange"
    RING = "ring"


def compile_routes(
    placement: Placement, shape: ModelShape, collective: Collective = "ring", *, tile_rows: int | None = 1
) -> Program:
    """The dataflow of one step under `placement`. `tile_rows`: how many a tile must have; None: there are no tiles.

    Destinations are in ascending device order: the order in which a sender's messages queue at its interface.
    """
    owner = placement.owner
    largest = max((len(ring_of(placement, shape, layer)) for layer in range(shape.n_layers)), default=0)
    if collective == "star" or largest < 2:
        ops = _Compiler(placement, shape, _Way.STAR, tiles=False).compiled(0, RowRange())
    else:
        ops = _Compiler(placement, shape, _Way.EXCHANGE, tiles=False).compiled(0, RowRange(0, largest))
        tiled_from = largest * tile_rows if tile_rows else 0
        if tiled_from != largest:
            ring = _Compiler(placement, shape, _Way.RING, tiles=False)
            ops += ring.compiled(len(ops), RowRange(largest, tiled_from))
        if tiled_from:
            ops += _Compiler(placement, shape, _Way.RING, tiles=True).compiled(len(ops), RowRange(tiled_from))
    return Program(tuple(ops), owner[EMBED], owner[LM_HEAD])


def ring_of(placement: Placement, shape: ModelShape, layer: int) -> Groups:
    """The devices that share the divided parts of a layer, ascending; none where nothing is divided."""
    members: set[int] = set()
    if shares := placement.shares(Kind.PROJ, layer, n_shards(shape, Kind.PROJ)):
        members |= {*shares, *placement.groups(layer, shape.n_groups)}
    members |= set(placement.shares(Kind.FFN, layer, n_shards(shape, Kind.FFN)))
    return tuple(sorted(members))


class _Stream(Protocol):
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
class _Whole:
    """All of x, where each device that is listed made it; others get it from the first."""

    slots: Mapping[int, Slot]

    def whole(self, device: int) -> Slot:
        return self.slots.get(device) or next(iter(self.slots.values()))

    def factors(self, device: int, ring: Groups) -> tuple[Slot, ...]:  # noqa: ARG002
        return (self.whole(device),)

    def residual(self, device: int, ring: Groups) -> Slot:  # noqa: ARG002
        return self.whole(device)


@dataclass(slots=True)
class _Scattered:
    """A chunk of x on each device of a ring. Asked for what is elsewhere, it adds the operations that bring it."""

    compiler: "_Compiler"
    seam: int
    ring: Groups
    rows: list[Slot]  # by chunk
    takers: Groups  # the devices that multiply all of it, if they are in this ring
    _gathered: dict[int, Slot] = field(default_factory=dict)
    _normed: dict[int, list[Slot]] = field(default_factory=dict)  # by taker, then by chunk

    def whole(self, device: int) -> Slot:
        if device not in self._gathered:
            layer, half = divmod(self.seam, 2)
            emits = Slot(Stage.HIDDEN, layer + 1, device) if half else Slot(Stage.RESIDUAL, layer, device)
            self._gathered[device] = self.compiler.add(Joint.GATHER, layer, device, tuple(self.rows), emits)
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
        n, add = len(self.ring), self.compiler.add
        layer = self.seam // 2
        at: list[Slot] = []  # by chunk: from where its next taker gets it
        for c, device in enumerate(self.ring):
            emits = Slot(Stage.NORMED, self.seam, device, c)
            at.append(add(Joint.NORM, layer, device, (self.rows[c],), emits, chunk=Chunk(c, n)))
        ways = [[d for d in (*self.ring[c:], *self.ring[:c]) if d in self.takers] for c in range(n)]
        slots: dict[int, dict[int, Slot]] = {device: {} for device in self.takers}
        for hop in range(len(self.takers)):
            for c, way in enumerate(ways):
                device = way[hop]
                slots[device][c] = at[c]
                if hop + 1 < len(way) and at[c].source != device:
                    emits = Slot(Stage.NORMED, self.seam, device, c)
                    at[c] = add(Joint.SUM, layer, device, (at[c],), emits, chunk=Chunk(c, n))
        self._normed = {device: [chunks[c] for c in range(n)] for device, chunks in slots.items()}


class _Compiler:
    """The operations of one kind of steps, as they are found. Who needs a result is known when all of them are."""

    def __init__(self, placement: Placement, shape: ModelShape, way: _Way, *, tiles: bool) -> None:
        self._owner = placement.owner
        self._n_layers = shape.n_layers
        self._way = way
        self._tiles = tiles
        self._ops: list[Op] = []
        layers = range(shape.n_layers)
        self._groups = [placement.groups(layer, shape.n_groups) for layer in layers]
        self._projs = [placement.shares(Kind.PROJ, layer, n_shards(shape, Kind.PROJ)) for layer in layers]
        self._ffns = [placement.shares(Kind.FFN, layer, n_shards(shape, Kind.FFN)) for layer in layers]
        self._rings = [ring_of(placement, shape, layer) for layer in layers]

    def compiled(self, first: int, steps: RowRange) -> list[Op]:
        """All operations that serve an end, numbered from `first`."""
        embed, lm_head = self._owner[EMBED], self._owner[LM_HEAD]
        prompt, token = Slot(Stage.PROMPT, 0, -1), Slot(Stage.TOKEN, 0, lm_head)
        x = self.add(Kind.EMBED, -1, embed, (prompt, token), Slot(Stage.HIDDEN, 0, embed))
        stream: _Stream = _Whole({embed: x})
        for layer in range(self._n_layers):
            stream = self._attention(layer, stream)
            stream = self._feed_forward(layer, stream)
        self.add(Kind.LM_HEAD, -1, lm_head, (stream.whole(lm_head),), token)
        return _addressed(self._ops, first, steps)

    def add(
        self,
        kind: Kind | Joint,
        layer: int,
        device: int,
        needs: tuple[Slot, ...],
        emits: Slot,
        groups: Groups = (),
        parts: tuple[Groups, ...] = (),
        chunk: Chunk = WHOLE,
    ) -> Slot:
        self._ops.append(Op(len(self._ops), kind, layer, groups, device, needs, emits, (), parts, chunk))
        return emits

    # -- the parts of a layer -----------------------------------------------------------------------------------

    def _attention(self, layer: int, x: _Stream) -> _Stream:
        held, shares, ring = self._groups[layer], self._projs[layer], self._rings[layer]
        if not shares:
            outputs = {at: self._heads(layer, at, (x.whole(at),)) for at in held}
            at_proj = self._owner[proj(layer)]
            needs = (x.whole(at_proj), *outputs.values())
            parts = tuple(held.values())
            residual = Slot(Stage.RESIDUAL, layer, at_proj)
            return _Whole({at_proj: self.add(Kind.PROJ, layer, at_proj, needs, residual, parts=parts)})
        outputs = {at: self._heads(layer, at, x.factors(at, ring)) for at in held}
        inputs = {}
        for at, groups in shares.items():
            sources = [source for source, theirs in held.items() if not set(theirs).isdisjoint(groups)]
            inputs[at] = tuple(outputs[source] for source in sources), tuple(held[source] for source in sources)

        def part(at: int, chunk: Chunk, emits: Slot, before: Slot | None) -> Slot:
            slots, parts = inputs[at]
            needs = slots if before is None else (*slots, before)
            return self.add(Kind.PROJ, layer, at, needs, emits, shares[at], parts, chunk)

        return self._joined(2 * layer, ring, shares, part, x, self._ffns[layer])

    def _heads(self, layer: int, at: int, factors: tuple[Slot, ...]) -> Slot:
        """A layer's groups on one device: in one go, or (tiles) their products chunk by chunk, and attention on all."""
        groups, output = self._groups[layer][at], Slot(Stage.ATTENTION, layer, at)
        if not self._tiles or len(factors) == 1:
            return self.add(Kind.HEAD, layer, at, factors, output, groups)
        n = len(factors)
        tiles = [
            self.add(Kind.HEAD, layer, at, (slot,), Slot(Stage.QKV, layer, at, c), groups, chunk=Chunk(c, n))
            for c, slot in _from(self._rings[layer].index(at), list(enumerate(factors)))
        ]
        return self.add(Joint.ATTEND, layer, at, tuple(sorted(tiles)), output, groups)

    def _feed_forward(self, layer: int, x: _Stream) -> _Stream:
        shares, ring = self._ffns[layer], self._rings[layer]
        if not shares:
            at = self._owner[ffn(layer)]
            return _Whole({at: self.add(Kind.FFN, layer, at, (x.whole(at),), Slot(Stage.HIDDEN, layer + 1, at))})
        factors = {at: x.factors(at, ring) for at in shares}

        def part(at: int, chunk: Chunk, emits: Slot, before: Slot | None) -> Slot:
            slots = factors[at]
            needs = slots if len(slots) == 1 or chunk is WHOLE else (slots[chunk.number],)
            return self.add(
                Kind.FFN, layer, at, needs if before is None else (*needs, before), emits, shares[at], chunk=chunk
            )

        following = self._groups[layer + 1] if layer + 1 < self._n_layers else {}
        return self._joined(2 * layer + 1, ring, shares, part, x, following)

    # -- seams --------------------------------------------------------------------------------------------------

    def _joined(
        self, seam: int, ring: Groups, terms: Iterable[int], part: "_Part", x: _Stream, following: Iterable[int]
    ) -> _Stream:
        """`part` adds the operation of one device's shards; `terms` are these devices, `following` those that multiply
        the sum.
        """
        layer, half = divmod(seam, 2)
        devices = tuple(terms)
        last = seam == 2 * self._n_layers - 1
        if self._way is _Way.RING and not last:
            return self._scattered(seam, ring, devices, part, x, tuple(following))
        parts = {at: part(at, WHOLE, Slot(Stage.PARTIAL, seam, at), None) for at in devices}

        def summed(at: int) -> Slot:
            emits = Slot(Stage.HIDDEN, layer + 1, at) if half else Slot(Stage.RESIDUAL, layer, at)
            return self.add(Joint.SUM, layer, at, (x.whole(at), *parts.values()), emits)

        if self._way is _Way.RING:
            return _Whole({(lm_head := self._owner[LM_HEAD]): self._last_row(seam, ring, parts, x, lm_head)})
        if self._way is _Way.STAR:
            centre = embed if (embed := self._owner[EMBED]) in ring else ring[0]
            return _Whole({centre: summed(centre)})
        if last:
            return _Whole({(lm_head := self._owner[LM_HEAD]): summed(lm_head)})
        return _Whole({at: summed(at) for at in ring})

    def _last_row(self, seam: int, ring: Groups, parts: dict[int, Slot], x: _Stream, lm_head: int) -> Slot:
        """Nothing but the last row goes on. The last device of the ring has it of x, and adds it to its part."""
        layer, at = seam // 2, ring[-1]
        mine = (parts.pop(at),) if at in parts else ()
        emits = Slot(Stage.PARTIAL, seam, at, 1)
        parts[at] = self.add(Joint.SUM, layer, at, (x.residual(at, ring), *mine), emits)
        return self.add(Joint.SUM, layer, lm_head, tuple(parts.values()), Slot(Stage.HIDDEN, layer + 1, lm_head))

    def _scattered(
        self, seam: int, ring: Groups, devices: Groups, part: "_Part", x: _Stream, following: Groups
    ) -> _Scattered:
        """ReduceScatter: chunk c starts behind device c of the ring, and ends there with the residual added."""
        n, layer = len(ring), seam // 2
        parts: dict[int, Slot] = {}  # what was made last, by device
        if not self._tiles:
            parts = {at: part(at, WHOLE, Slot(Stage.PARTIAL, seam, at), None) for at in devices}
        own: dict[int, Slot] = {}
        if self._tiles and seam % 2:  # a feed-forward's own chunk is there first, and needed last
            for c, at in enumerate(ring):
                if at in devices:
                    own[at] = parts[at] = part(at, Chunk(c, n), Slot(Stage.PARTIAL, seam, at, c + 1), None)
        coming: dict[int, Slot] = {}  # by chunk
        rows: dict[int, Slot] = {}
        for step in range(n):
            for i, at in enumerate(ring):
                c = (i - 1 - step) % n
                chunk, terms = Chunk(c, n), [coming[c]] if c in coming else []
                if at in devices:
                    if self._tiles and not (c == i and at in own):
                        parts[at] = part(at, chunk, Slot(Stage.PARTIAL, seam, at, c + 1), parts.get(at))
                    terms.append(own[at] if c == i and at in own else parts[at])
                if c == i:
                    needs = (x.residual(at, ring), *terms)
                    rows[c] = self.add(Joint.SUM, layer, at, needs, Slot(Stage.ROWS, seam, at, c), chunk=chunk)
                elif at in devices:
                    emits = Slot(Stage.REDUCE, seam, at, c)
                    coming[c] = self.add(Joint.SUM, layer, at, tuple(terms), emits, chunk=chunk)
        takers = tuple(device for device in ring if device in following)
        return _Scattered(self, seam, ring, [rows[c] for c in range(n)], takers)


class _Part(Protocol):
    def __call__(self, at: int, chunk: Chunk, emits: Slot, before: Slot | None, /) -> Slot:
        """The operation of one device's shards on some rows, not before `before` has been made."""
        ...


def _from(first: int, items: Sequence[tuple[int, Slot]]) -> list[tuple[int, Slot]]:
    """In the order in which a ring brings them to its device `first`: its own, then that of the one before it."""
    return [items[(first - step) % len(items)] for step in range(len(items))]


def _addressed(ops: Sequence[Op], first: int, steps: RowRange) -> list[Op]:
    """Numbers operations and says where their results go. What nobody needs is left out."""
    needed: Counter[Slot] = Counter(slot for op in ops for slot in op.needs)
    kept: list[Op] = []
    for op in reversed(ops):
        if needed[op.emits]:
            kept.append(op)
        else:
            needed.subtract(op.needs)
    kept.reverse()
    to: dict[Slot, set[int]] = defaultdict(set)
    for op in kept:
        for slot in op.needs:
            to[slot].add(op.device)
    return [
        replace(op, index=first + number, to=tuple(sorted(to[op.emits])), steps=steps) for number, op in enumerate(kept)
    ]
