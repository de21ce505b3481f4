"""Memory of placements with divided layers, and migrations to them, by NumPy: the reference of `NeedsCode`."""

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_needs import Requirements
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import BoolArray, ShareArrays


class PlainNeeds:
    """Memory of placements, and migrations from one placement to them."""

    def __init__(self, memory: ShareMemory, moving: ShareMigrations) -> None:
        self._memory, self._moving = memory, PlainMigrations(moving)

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        shares, runs = near
        over = self._memory.need_bytes(shares, runs.lengths) - self._memory.capacity  # [k, n]
        return Requirements(np.maximum(over, 0).sum(1), self._moving.seconds(shares, *runs))

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for all that a migration to a placement brings, beside all that they hold."""
        held = self._memory.need_bytes(self._moving.begin)  # [1, n]
        arriving = self._moving.arriving_bytes(shares)  # [1, n]
        comes = (arriving > 0) | self._gets_an_end(shares)  # [1, n]
        most = np.maximum(self._memory.capacity, self._memory.installed)
        limits = np.where(comes, self._memory.capacity, most)
        fits = held + arriving + self._memory.bytes.copied <= limits
        return bool(np.all(fits | ~(comes | self._has_shards(shares))))

    def _gets_an_end(self, shares: ShareArrays) -> BoolArray:
        """Whether an end of the model moves to each device: [1, n]."""
        begin, everyone = self._moving.begin, np.arange(shares.heads.shape[-1])
        found = np.zeros((1, len(everyone)), np.bool_)
        for after, before in ((shares.embed, begin.embed), (shares.lm_head, begin.lm_head)):
            found |= (after[:, None] == everyone) & (after != before)[:, None]
        return found

    def _has_shards(self, shares: ShareArrays) -> BoolArray:
        """Whether each device has shards: [1, n]."""
        columns = (shares.proj[..., None] < 0) & (shares.heads > 0)  # [1, n_layers, n]
        units = (shares.units > 0) & (shares.units < shares.units.sum(2, keepdims=True))  # [1, n_layers, n]
        found: BoolArray = (columns | units).any(1)
        return found


class PlainMigrations:
    """Migrations from one placement to others."""

    def __init__(self, moving: ShareMigrations) -> None:
        self.m, self.begin = moving, moving.begin
        self.head, _, _, self.embed, self.lm_head, self.table, _, self.column, _, self.unit = moving.sizes

    def arriving_bytes(self, shares: ShareArrays) -> FloatArray:
        """Bytes that each device receives, without the bias of a first shard: [k, n]."""
        weights, caches, _ = self._flows(shares, self.begin, 1)
        arriving: FloatArray = weights + caches
        return arriving

    def seconds(
        self, shares: ShareArrays, first: IntArray | None = None, lengths: IntArray | None = None
    ) -> FloatArray:
        """Seconds that a sequence waits for the migration to each placement: [k].

        With only one layer of each of several runs alike: `first` and `lengths` say which and of how many, [n_runs].
        """
        old, each = self.begin, 1 if lengths is None else lengths[:, None]
        if first is not None:
            old = ShareArrays(old.embed, old.lm_head, old.heads[:, first], old.proj[:, first], old.units[:, first])
        weights, caches, lost = self._flows(shares, old, each)
        giver = lost.argmin(1)  # [k]
        at_once = caches + (0.0 if self.m.on_flash else weights)
        linked_s = 8.0 * at_once * self.m.s_per_bit[giver]  # [k, n]
        handled_s = 8.0 * at_once.sum(1) * self.m.handled_s_per_bit[giver]  # [k] all that the giver sends
        if self.m.on_flash:
            linked_s = np.maximum(linked_s, weights / self.m.flash_bytes_per_s)
        found: FloatArray = np.maximum(linked_s.max(1), handled_s)
        return found

    def _flows(
        self, shares: ShareArrays, old: ShareArrays, each: IntArray | int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Bytes of weights and of caches that come to each device, and of all that come less those that go: [k, n].

        `each`: how many layers each of those of `old` stands for.
        """
        k = np.arange(len(shares))
        more = (shares.heads - old.heads) * each  # [k, n_layers, n]
        heads = more.sum(1), np.maximum(more, 0).sum(1)  # [k, n] each
        columns = (self._columns(shares) - self._columns(old)) * each  # [k, n_layers, n]
        units = (shares.units - old.units) * each  # [k, n_layers, n]
        weights = heads[1] * self.head
        weights = weights + np.maximum(columns, 0).sum(1) * self.column + np.maximum(units, 0).sum(1) * self.unit
        caches = heads[1] * self.m.cache  # [k, n]
        lost = heads[0] * self.head + columns.sum(1) * self.column + units.sum(1) * self.unit
        lm_head_meets = (shares.lm_head == old.embed) | (shares.lm_head == shares.embed)  # [k] as `ends_meeting` says
        for size, before, after, meets in (
            (self.embed, old.embed, shares.embed, shares.embed == old.lm_head),
            (self.lm_head, old.lm_head, shares.lm_head, lm_head_meets),
        ):
            moved = np.where(after != before, size - self.table * meets, 0.0)  # [k]
            weights[k, after] += moved
            lost[:, before[0]] -= moved
        return weights, caches, lost

    def _columns(self, shares: ShareArrays) -> IntArray:
        """Columns of projections on each device: [k, n_layers, n]."""
        whole = shares.proj[..., None] == np.arange(shares.heads.shape[-1])
        columns: IntArray = np.where(shares.proj[..., None] < 0, shares.heads, whole * self.m.n_groups)
        return columns
