"""Duration of a change of placement while the sequence waits, in closed form."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from math import inf
from typing import NamedTuple

import numpy as np

from edgeemu.placement.arrays import PlacementArrays, moved_blocks
from edgeemu.placement.blocks import EMBED, LM_HEAD, Block, Kind, ffn, head, proj
from edgeemu.placement.costs import Costs
from edgeemu.placement.placement import Move, Placement, ends_meeting, moves
from edgeemu.placement.shipments import weight_bytes
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.transfer_prices import TransferPrices

Pair = tuple[int, int]  # sender and receiver


@lru_cache(maxsize=16)
def _weights(costs: Costs) -> Mapping[Kind, float]:
    """Bytes of weights that a block of each kind brings."""
    return {
        Kind.EMBED: float(costs.weight_bytes(EMBED)),
        Kind.HEAD: float(costs.weight_bytes(head(0, 0)) + costs.norm_bytes()),  # each group brings the norm
        Kind.PROJ: float(costs.weight_bytes(proj(0))),
        Kind.FFN: float(costs.weight_bytes(ffn(0))),
        Kind.LM_HEAD: float(costs.weight_bytes(LM_HEAD)),
    }


@lru_cache(maxsize=64)
def _shard_bytes(costs: Costs, shard: Block) -> float:
    return float(weight_bytes(shard, costs))


class ShardBytes(NamedTuple):
    """Bytes of weights that shards bring, the first of a layer, with the bias, and the others."""

    first_column: float
    column: float
    first_unit: float
    unit: float


@lru_cache(maxsize=16)
def _shards(costs: Costs) -> ShardBytes:
    return ShardBytes(*(_shard_bytes(costs, part(0, at)) for part in (proj, ffn) for at in (0, 1)))


def _table_bytes(costs: Costs) -> float:
    return float(costs.table_bytes()) if costs.shape.tied_embeddings else 0.0


@lru_cache(maxsize=16)
def _sizes(costs: Costs) -> tuple[float, ...]:
    kinds = Kind.HEAD, Kind.PROJ, Kind.FFN, Kind.EMBED, Kind.LM_HEAD
    return (*(_weights(costs)[kind] for kind in kinds), _table_bytes(costs), *_shards(costs))


class MoveCosts:
    """Bytes that blocks send when they move, and the time of moves."""

    def __init__(self, view: ClusterView) -> None:
        self.view = view
        self._costs = costs = view.costs.at_step(1, view.past)
        self.group_cache_bytes = float(costs.kv_bytes(view.workload.cached or view.length))

    @cached_property
    def weight_bytes(self) -> Mapping[Kind, float]:
        """Bytes of weights that a block of each kind brings."""
        return _weights(self._costs)

    @cached_property
    def table_bytes(self) -> float:
        """Bytes of the table that both ends of the model share."""
        return _table_bytes(self._costs)

    @cached_property
    def link_bits(self) -> Mapping[Kind, float]:
        """Bits that a block of each kind sends."""
        on_flash = self.view.weights_on_flash
        sizes = {kind: 0.0 if on_flash else size for kind, size in self.weight_bytes.items()}
        return {kind: 8.0 * (self.cache_bytes(kind) + size) for kind, size in sizes.items()}

    @cached_property
    def flash_s(self) -> Mapping[Kind, float]:
        """Seconds that the receiver's storage takes for a block of each kind."""
        bytes_per_s = self.view.flash_bytes_per_s if self.view.weights_on_flash else inf
        return {kind: size / bytes_per_s for kind, size in self.weight_bytes.items()}

    @cached_property
    def table_bits(self) -> float:
        """Bits of the table that an end does not send to where the other is."""
        return 0.0 if self.view.weights_on_flash else 8.0 * self.table_bytes

    @cached_property
    def table_flash_s(self) -> float:
        return self.table_bytes / self.view.flash_bytes_per_s if self.view.weights_on_flash else 0.0

    @cached_property
    def prices(self) -> TransferPrices:
        """Prices of what is sent; where chunks cost nothing, whatever their size."""
        if self.view.links is self.view.links.wire:
            return TransferPrices.of(self.view, inf)
        sent = [self.link_bits[kind] / 8.0 for kind in (Kind.HEAD, Kind.PROJ, Kind.FFN) if self.link_bits[kind]]
        return TransferPrices.of(self.view, min([float(self.view.chunk_bytes), *sent]))

    def cache_bytes(self, kind: Kind) -> float:
        """Bytes of caches that a block of a kind brings."""
        return self.group_cache_bytes if kind is Kind.HEAD else 0.0

    def layer(self, n_groups: int) -> tuple[float, float]:
        """Bits on the link, and seconds of the receiver's storage, of a complete layer."""
        bits, flash_s = self.link_bits, self.flash_s
        return (
            bits[Kind.PROJ] + bits[Kind.FFN] + n_groups * bits[Kind.HEAD],
            flash_s[Kind.PROJ] + flash_s[Kind.FFN] + n_groups * flash_s[Kind.HEAD],
        )

    def quickest_s(self, kind: Kind, source: int, *, meeting: bool = False) -> float:
        """A lower bound of the time to move one block from `source` to any device.

        `meeting`: an end of the model, which could go to the other.
        """
        links, bits, flash_s = self.view.links.wire, self.link_bits[kind], self.flash_s[kind]
        if meeting:
            bits, flash_s = bits - self.table_bits, flash_s - self.table_flash_s
        if not bits:
            return flash_s
        sent_s = links.s_per_bit.least_in_row(source) * bits + links.delay_s.least_in_row(source)
        return max(sent_s, flash_s)

    def total_s(self, moved: Sequence[tuple[Kind, int, int]], meeting: Collection[Kind] = ()) -> float:
        """Time of all moves (kind, source, target): serial on a link, a storage or a processor that chunks keep busy.

        These work in parallel. The delay of a link counts once. `meeting`: ends that bring no table, as `ends_meeting`
        says.
        """
        bits: dict[Pair, float] = defaultdict(float)
        chunks: dict[Pair, float] = defaultdict(float)
        flash_s: dict[int, float] = defaultdict(float)
        for kind, source, target in moved:
            bits[source, target] += self.link_bits[kind]
            chunks[source, target] += self._chunks(self.link_bits[kind] - self.table_bits * (kind in meeting))
            flash_s[target] += self.flash_s[kind]
            if kind in meeting:
                bits[source, target] -= self.table_bits
                flash_s[target] -= self.table_flash_s
        return self._slowest_s(bits, chunks, flash_s)

    def _chunks(self, bits: float) -> float:
        """Chunks of a block: each has its own."""
        return -(-bits // (8.0 * self.view.chunk_bytes))

    def _slowest_s(
        self, bits: Mapping[Pair, float], chunks: Mapping[Pair, float], flash_s: Mapping[int, float]
    ) -> float:
        sent = [(*pair, size, chunks[pair]) for pair, size in bits.items() if size]
        if sent and self.prices.chunks_cost:
            sources, targets, sizes, numbers = np.array(sorted(sent)).T  # [n_pairs] each
            pairs = sources.astype(np.int64), targets.astype(np.int64)
            return max((self.prices.slowest_s(*pairs, sizes, numbers), *flash_s.values()))
        sent_s = (self.view.links.wire.pair(a, b, size) for a, b, size, _ in sent)
        return max((*sent_s, *flash_s.values()), default=0.0)

    def migration_s(self, old: PlacementArrays, new: PlacementArrays) -> float:
        """Time of all moves from one placement to another, both undivided: as in `total_s`."""
        moved = moved_blocks(old, new)
        if not moved:
            return 0.0
        meeting = ends_meeting((old.embed, new.embed), (old.lm_head, new.lm_head))
        sources, targets = np.concatenate([(each.sources, each.targets) for each in moved], axis=1)  # [n_moved] each
        bits, flash_s = (
            np.concatenate(
                [np.full(len(each.sources), of[each.kind] - table * (each.kind in meeting)) for each in moved]
            )  # [n_moved]
            for of, table in ((self.link_bits, self.table_bits), (self.flash_s, self.table_flash_s))
        )
        n = self.view.n_devices
        at_once_s = float(np.bincount(targets, flash_s).max())
        pairs, which = np.unique(sources * n + targets, return_inverse=True)
        sent = np.bincount(which, bits)  # [n_pairs]
        some = sent > 0  # [n_pairs]
        pairs, sent = pairs[some], sent[some]
        if not len(pairs):
            return at_once_s
        links, ends = self.view.links.wire, np.divmod(pairs, n)
        if self.prices.chunks_cost:
            numbers = [
                np.full(len(m.sources), self._chunks(self.link_bits[m.kind] - self.table_bits * (m.kind in meeting)))
                for m in moved
            ]
            chunks = np.bincount(which, np.concatenate(numbers))[some].astype(np.float64)  # [n_pairs]
            return max(at_once_s, self.prices.slowest_s(*ends, sent.astype(np.float64), chunks))
        return max(at_once_s, float(links.pairs(*ends, sent).max()))

    def moves_s(self, moved: Iterable[Move]) -> float:
        """Time of moves of any blocks, shards included: as in `total_s`.

        What a device gets again that it had lost comes from its storage.
        """
        bits: dict[Pair, float] = defaultdict(float)
        chunks: dict[Pair, float] = defaultdict(float)
        flash_s: dict[int, float] = defaultdict(float)
        for block, before, target, ends_meet in moved:
            source = before if before >= 0 else ~before  # it was lost there
            alike = Block(block.kind, 0, min(block.group, 1)) if block.is_shard else None  # the first has the bias
            size = self.weight_bytes[block.kind] if alike is None else self.shard_bytes(alike)
            size -= self.table_bytes if ends_meet else 0.0
            if source == target:
                flash_s[target] += size / self.view.flash_bytes_per_s
                continue
            on_flash = self.view.weights_on_flash
            sent_bits = 8.0 * (self.cache_bytes(block.kind) + (0.0 if on_flash else size))
            bits[source, target] += sent_bits
            chunks[source, target] += self._chunks(sent_bits)
            flash_s[target] += size / self.view.flash_bytes_per_s if on_flash else 0.0
        return self._slowest_s(bits, chunks, flash_s)

    @property
    def sizes(self) -> tuple[float, ...]:
        """Bytes of weights of a head, projection, feed-forward, of both ends, of their table, then of shards: [10]."""
        return _sizes(self._costs)

    @property
    def shards(self) -> ShardBytes:
        """Bytes of weights that shards bring."""
        return _shards(self._costs)

    def shard_bytes(self, shard: Block) -> float:
        """Bytes of weights that a shard brings."""
        return _shard_bytes(self._costs, shard)


def migration_s(view: ClusterView, old: Placement, new: Placement) -> float:
    """Seconds that the sequence waits for the moves from one placement to another, whatever they divide or was lost."""
    return MoveCosts(view).moves_s(moves(old.left_by(view.lost), new))
