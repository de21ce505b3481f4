"""The open sequences of a device, and their K/V caches for the heads that it holds. No weights, no ledger."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from edgeemu.errors import EdgeemuError
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.packed import Stored, stored_row
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.sampling import Sampling
from edgeemu_kernels.shape import ModelShape


class NotHeldError(EdgeemuError):
    """An operation on a block or a sequence that the device does not hold."""


class ArrivedBlock(NamedTuple):
    """A block that has arrived from another device: its weights, and its cache's rows (none but for heads)."""

    weights: Sequence[Stored]
    rows: Mapping[int, tuple[Stored, Stored]] = {}  # by open sequence, keys and values as stored


@dataclass(slots=True)
class SequenceState:
    """One sequence: how its tokens are sampled, its length, and its caches by layer."""

    sampling: Sampling
    keep_logits: bool
    prompt_tokens: int = 0
    total_tokens: int = 0
    caches: dict[int, KVCache] = field(default_factory=dict)


class OpenSequences:
    """Sequences by their numbers, from `open` to `close`."""

    def __init__(self, shape: ModelShape) -> None:
        self._head_dim = shape.head_dim
        self._format = FORMATS[shape.precision.cache]
        self._open: dict[int, SequenceState] = {}

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._open

    def __iter__(self) -> Iterator[SequenceState]:
        return iter(self._open.values())

    def __getitem__(self, sequence: int) -> SequenceState:
        """Raises: NotHeldError, if the sequence is not open."""
        if sequence not in self._open:
            raise NotHeldError(f"sequence {sequence} is not open; open are {sorted(self._open)}")
        return self._open[sequence]

    @property
    def cache_bytes(self) -> int:
        """Bytes of the rows in all caches."""
        return sum(cache.nbytes_used for opened in self for cache in opened.caches.values())

    def open(self, sequence: int, opened: SequenceState, groups: Mapping[int, int]) -> None:
        """Adds a sequence with empty caches, for so many groups of each layer."""
        opened.caches = {layer: self._cache(n, opened.total_tokens) for layer, n in groups.items()}
        self._open[sequence] = opened

    def close(self, sequence: int) -> int:
        """Removes a sequence; returns the bytes that its caches held."""
        freed_bytes = sum(cache.nbytes_used for cache in self[sequence].caches.values())
        del self._open[sequence]
        return freed_bytes

    def shorten(self, rows: Mapping[int, int], layers: int, kept: Mapping[int, int]) -> int:
        """Shortens caches: `rows` and `kept` as in the request `Rewind`. Returns the bytes freed."""
        freed_bytes = self.cache_bytes
        for sequence, opened in self._open.items():
            for layer, cache in opened.caches.items():
                wanted = (rows if layer < layers else kept).get(sequence)
                if wanted is not None:
                    cache.truncate(wanted)
        return freed_bytes - self.cache_bytes

    def rows(self, sequence: int, layer: int, index: int, first_row: int, end_row: int) -> tuple[Stored, Stored]:
        """Keys and values of some rows of the `index`-th group of a layer, as its cache stores them.

        Zeros for a sequence that has ended meanwhile: they are sent as planned, and not used.
        """
        if sequence in self:
            return self[sequence].caches[layer].take(index, first_row, end_row)
        none = self._no_rows(end_row - first_row)
        return none, none

    def regroup(
        self, layer: int, before: Sequence[int], after: Sequence[int], arriving: Mapping[Block, ArrivedBlock]
    ) -> None:
        """Rebuilds one layer's caches, of groups `before`, for the groups `after`: rows kept, and rows arrived.

        A group that was lost arrives without rows. It gets as many as the others have: they are computed again.
        """
        for sequence, opened in self._open.items():
            old = opened.caches.pop(layer, None)
            if not after:
                continue
            parts: dict[int, tuple[Stored, Stored] | None] = {}
            for group in after:
                if (arrived := arriving.get(Block(Kind.HEAD, layer, group))) is not None:
                    parts[group] = arrived.rows.get(sequence)
                else:
                    assert old is not None, "a group that has not arrived was here before"
                    parts[group] = old.take(before.index(group))
            lacking = self._no_rows(max((len(part[0]) for part in parts.values() if part is not None), default=0))
            keys, values = zip(*(part or (lacking, lacking) for part in parts.values()), strict=True)
            cache = self._cache(len(after), opened.total_tokens)
            cache.append_stored(np.stack(keys), np.stack(values))  # [groups, rows, …]
            opened.caches[layer] = cache

    def _cache(self, n_groups: int, capacity: int) -> KVCache:
        return KVCache(n_groups, self._head_dim, capacity, self._format)

    def _no_rows(self, n: int) -> Stored:
        """Zeros in place of that many rows of a cache."""
        width, kind = stored_row(self._head_dim, self._format)
        return np.zeros((n, width), kind)
