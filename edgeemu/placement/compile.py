"""Compilation of a placement to operations and the messages between them. Knows no sizes, no time, no data.

Undivided blocks send x from device to device. Where a layer's projection or feed-forward is in shards, its devices
compute partial sums, and a collective at the *boundary* after it adds them and the residual (a layer has two):

* *star*: one device adds all partial sums and continues as an undivided block would.
* *ring*, in steps with at least as many rows as the ring has devices: a ReduceScatter. The rows are divided into one
  chunk for each device, and each chunk's sum goes round the ring until it reaches its own device, which adds the
  residual and normalizes (the sequence-parallel connective part of Galaxy, arXiv 2405.17245). An AllGather brings the
  chunks to all devices that multiply them. A device without a partial sum is left out of a chunk's path.
* *ring* with *tiles*, where chunks are large enough: products are computed chunk by chunk, in the order in which chunks
  arrive and are needed, so that messages travel meanwhile.
* *gather*: no partial sums, but whole columns of results (`compile_gather`).
* *relay*: a star, and x reaches every device by way of the device of the embedding, which passes it on.
* *ring*, in steps with fewer rows, decode above all. [D] Every device sends its partial sum to every other, and each
  adds all of them: one hop, where a ring would take 2 (n - 1), and with a row or two the hop's delay dominates.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, Protocol

from edgeemu.placement.blocks import EMBED, LM_HEAD, Kind, ffn, n_shards, proj
from edgeemu.placement.compile_gather import gathered_ops
from edgeemu.placement.placement import Placement, rings_of
from edgeemu.placement.program import WHOLE, Chunk, Collective, DraftOp, MessageKind, Op, Program, RowRange, Slot
from edgeemu.placement.residual_stream import Groups, RelayedStream, ResidualStream, ScatteredStream, Way, WholeStream
from edgeemu_kernels.shape import ModelShape

CollectiveAlgorithm = Literal["ring", "star", "gather", "relay"]


def compile_routes(
    placement: Placement,
    shape: ModelShape,
    collective: CollectiveAlgorithm = "ring",
    *,
    tile_rows: int | None = 1,
    rows: Collection[int] | None = None,
) -> Program:
    """Compile the dataflow of one step. `tile_rows`: least number of rows of a tile; None: no tiles.

    `rows`: numbers of rows of the steps that will run; None: any. A ring's other sets of operations are left out.

    Destinations are in ascending device order: the order in which a sender's messages queue at its interface.

    Raises:
        PlacementError: a placement with shards that cannot be gathered.
    """
    owner = placement.owner
    largest = max(map(len, rings_of(placement, shape.n_layers)), default=0)
    if collective == "gather" and largest:
        ops = _addressed(gathered_ops(placement, shape), 0, RowRange())
    elif collective == "relay":
        ops = _Compiler(placement, shape, Way.STAR, tiles=False, relay=owner[EMBED]).compiled(0, RowRange())
    elif collective != "ring" or largest < 2:
        ops = _Compiler(placement, shape, Way.STAR, tiles=False).compiled(0, RowRange())
    else:
        ops = []
        for way, tiles, steps in _sets_of_ring(largest, tile_rows):
            if rows is None or any(map(steps.has, rows)):
                ops += _Compiler(placement, shape, way, tiles=tiles).compiled(len(ops), steps)
    return Program(tuple(ops), owner[EMBED], owner[LM_HEAD])


def _sets_of_ring(largest: int, tile_rows: int | None) -> Iterator[tuple[Way, bool, RowRange]]:
    """Sets of operations for shards in rings of so many devices: way, whether in tiles, and for which steps."""
    yield Way.EXCHANGE, False, RowRange(0, largest)
    tiled_from = largest * tile_rows if tile_rows else 0
    if tiled_from != largest:
        yield Way.RING, False, RowRange(largest, tiled_from)
    if tiled_from:
        yield Way.RING, True, RowRange(tiled_from)


class _Compiler:
    """Compiler of the operations for one kind of steps. Receivers of results are known when all operations are."""

    def __init__(
        self, placement: Placement, shape: ModelShape, way: Way, *, tiles: bool, relay: int | None = None
    ) -> None:
        """`relay`: the device through which x goes from one device to another."""
        self._owner = placement.owner
        self._n_layers = shape.n_layers
        self._way = way
        self._tiles = tiles
        self._relay = relay
        self._ops: list[DraftOp] = []
        layers = range(shape.n_layers)
        self._groups = [placement.groups(layer, shape.n_groups) for layer in layers]
        self._projs = [placement.shares(Kind.PROJ, layer, n_shards(shape, Kind.PROJ)) for layer in layers]
        self._ffns = [placement.shares(Kind.FFN, layer, n_shards(shape, Kind.FFN)) for layer in layers]
        self._rings = rings_of(placement, shape.n_layers)

    def compiled(self, first: int, steps: RowRange) -> list[Op]:
        """Compile all operations that contribute to the result, numbered from `first`."""
        embed, lm_head = self._owner[EMBED], self._owner[LM_HEAD]
        prompt, token = Slot(MessageKind.PROMPT, 0, -1), Slot(MessageKind.TOKEN, 0, lm_head)
        x = self.add(Kind.EMBED, -1, embed, (prompt, token), Slot(MessageKind.HIDDEN, 0, embed))
        stream: ResidualStream = self._whole({embed: x})
        for layer in range(self._n_layers):
            stream = self._attention(layer, stream)
            stream = self._feed_forward(layer, stream)
        self.add(Kind.LM_HEAD, -1, lm_head, (stream.whole(lm_head),), token)
        return _addressed(self._ops, first, steps)

    def add(
        self,
        kind: Kind | Collective,
        layer: int,
        device: int,
        needs: tuple[Slot, ...],
        emits: Slot,
        groups: Groups = (),
        parts: tuple[Groups, ...] = (),
        chunk: Chunk = WHOLE,
    ) -> Slot:
        self._ops.append(DraftOp(kind, layer, groups, device, needs, emits, parts, chunk))
        return emits

    def _whole(self, slots: dict[int, Slot]) -> ResidualStream:
        if self._relay is None:
            return WholeStream(slots)
        (slot,) = slots.values()
        return RelayedStream(self.add, slot, self._relay)

    # -- the parts of a layer -----------------------------------------------------------------------------------

    def _attention(self, layer: int, x: ResidualStream) -> ResidualStream:
        held, shares, ring = self._groups[layer], self._projs[layer], self._rings[layer]
        if not shares:
            outputs = {at: self._heads(layer, at, (x.whole(at),)) for at in held}
            at_proj = self._owner[proj(layer)]
            needs = (x.whole(at_proj), *outputs.values())
            parts = tuple(held.values())
            residual = Slot(MessageKind.RESIDUAL, layer, at_proj)
            return self._whole({at_proj: self.add(Kind.PROJ, layer, at_proj, needs, residual, parts=parts)})
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
        """Add a layer's groups on one device: one operation, or (tiles) products chunk by chunk and one attention."""
        groups, output = self._groups[layer][at], Slot(MessageKind.ATTENTION, layer, at)
        if not self._tiles or len(factors) == 1:
            return self.add(Kind.HEAD, layer, at, factors, output, groups)
        n = len(factors)
        tiles = [
            self.add(Kind.HEAD, layer, at, (slot,), Slot(MessageKind.QKV, layer, at, c), groups, chunk=Chunk(c, n))
            for c, slot in _from(self._rings[layer].index(at), list(enumerate(factors)))
        ]
        return self.add(Collective.ATTEND, layer, at, tuple(sorted(tiles)), output, groups)

    def _feed_forward(self, layer: int, x: ResidualStream) -> ResidualStream:
        shares, ring = self._ffns[layer], self._rings[layer]
        if not shares:
            at = self._owner[ffn(layer)]
            return self._whole(
                {at: self.add(Kind.FFN, layer, at, (x.whole(at),), Slot(MessageKind.HIDDEN, layer + 1, at))}
            )
        factors = {at: x.factors(at, ring) for at in shares}

        def part(at: int, chunk: Chunk, emits: Slot, before: Slot | None) -> Slot:
            slots = factors[at]
            needs = slots if len(slots) == 1 or chunk is WHOLE else (slots[chunk.number],)
            return self.add(
                Kind.FFN, layer, at, needs if before is None else (*needs, before), emits, shares[at], chunk=chunk
            )

        following = self._groups[layer + 1] if layer + 1 < self._n_layers else {}
        return self._joined(2 * layer + 1, ring, shares, part, x, following)

    # -- collectives at the boundaries of a layer ------------------------------------------------------------------

    def _joined(
        self,
        boundary: int,
        ring: Groups,
        terms: Iterable[int],
        part: "_Part",
        x: ResidualStream,
        following: Iterable[int],
    ) -> ResidualStream:
        """Combine partial sums. `part` adds the operation of a device's shards; `terms` are these devices, `following`
        those that multiply the sum.
        """
        layer, half = divmod(boundary, 2)
        devices = tuple(terms)
        last = boundary == 2 * self._n_layers - 1
        if self._way is Way.RING and not last:
            return self._scattered(boundary, ring, devices, part, x, tuple(following))
        parts = {at: part(at, WHOLE, Slot(MessageKind.PARTIAL, boundary, at), None) for at in devices}

        def summed(at: int) -> Slot:
            emits = Slot(MessageKind.HIDDEN, layer + 1, at) if half else Slot(MessageKind.RESIDUAL, layer, at)
            return self.add(Collective.SUM, layer, at, (x.whole(at), *parts.values()), emits)

        if self._way is Way.RING:
            return WholeStream({(lm_head := self._owner[LM_HEAD]): self._last_row(boundary, ring, parts, x, lm_head)})
        if self._way is Way.STAR:
            centre = embed if (embed := self._owner[EMBED]) in ring else ring[0]
            return self._whole({centre: summed(centre)})
        if last:
            return WholeStream({(lm_head := self._owner[LM_HEAD]): summed(lm_head)})
        return WholeStream({at: summed(at) for at in ring})

    def _last_row(self, boundary: int, ring: Groups, parts: dict[int, Slot], x: ResidualStream, lm_head: int) -> Slot:
        """Combine the last layer's partial sums: only the last row goes on, from the last device of the ring."""
        layer, at = boundary // 2, ring[-1]
        mine = (parts.pop(at),) if at in parts else ()
        emits = Slot(MessageKind.PARTIAL, boundary, at, 1)
        parts[at] = self.add(Collective.SUM, layer, at, (x.residual(at, ring), *mine), emits)
        return self.add(
            Collective.SUM, layer, lm_head, tuple(parts.values()), Slot(MessageKind.HIDDEN, layer + 1, lm_head)
        )

    def _scattered(
        self, boundary: int, ring: Groups, devices: Groups, part: "_Part", x: ResidualStream, following: Groups
    ) -> ScatteredStream:
        """Add a ReduceScatter: chunk c starts behind device c of the ring, and ends there with the residual added."""
        n, layer = len(ring), boundary // 2
        parts: dict[int, Slot] = {}  # the last partial sum, by device
        if not self._tiles:
            parts = {at: part(at, WHOLE, Slot(MessageKind.PARTIAL, boundary, at), None) for at in devices}
        own: dict[int, Slot] = {}
        if self._tiles and boundary % 2:  # a feed-forward's own chunk exists first, and is needed last
            for c, at in enumerate(ring):
                if at in devices:
                    own[at] = parts[at] = part(at, Chunk(c, n), Slot(MessageKind.PARTIAL, boundary, at, c + 1), None)
        coming: dict[int, Slot] = {}  # by chunk
        rows: dict[int, Slot] = {}
        for step in range(n):
            for i, at in enumerate(ring):
                c = (i - 1 - step) % n
                chunk, terms = Chunk(c, n), [coming[c]] if c in coming else []
                if at in devices:
                    if self._tiles and not (c == i and at in own):
                        parts[at] = part(at, chunk, Slot(MessageKind.PARTIAL, boundary, at, c + 1), parts.get(at))
                    terms.append(own[at] if c == i and at in own else parts[at])
                if c == i:
                    needs = (x.residual(at, ring), *terms)
                    rows[c] = self.add(
                        Collective.SUM, layer, at, needs, Slot(MessageKind.ROWS, boundary, at, c), chunk=chunk
                    )
                elif at in devices:
                    emits = Slot(MessageKind.REDUCE, boundary, at, c)
                    coming[c] = self.add(Collective.SUM, layer, at, tuple(terms), emits, chunk=chunk)
        takers = tuple(device for device in ring if device in following)
        return ScatteredStream(self.add, boundary, ring, [rows[c] for c in range(n)], takers)


class _Part(Protocol):
    def __call__(self, at: int, chunk: Chunk, emits: Slot, before: Slot | None, /) -> Slot:
        """Add the operation of one device's shards on some rows, after `before`."""
        ...


def _from(first: int, items: Sequence[tuple[int, Slot]]) -> list[tuple[int, Slot]]:
    """Order of a ring's chunks on the device `first`: its own, then that of the device before it, and so on."""
    return [items[(first - step) % len(items)] for step in range(len(items))]


def _addressed(ops: Sequence[DraftOp], first: int, steps: RowRange) -> list[Op]:
    """Number operations and set the receivers of their results. Operations without a receiver are dropped."""
    needed: Counter[Slot] = Counter(slot for op in ops for slot in op.needs)
    kept: list[DraftOp] = []
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
    return [op.addressed(first + number, tuple(sorted(to[op.emits])), steps) for number, op in enumerate(kept)]
