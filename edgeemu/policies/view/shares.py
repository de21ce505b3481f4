"""Placements with divided layers as arrays of shares, many at once. Knows block names; no costs, no time.

A projection is whole on one device, or divided with the heads: the columns of a group are where the group is. A
feed-forward block is in units; whole is who has all of them. So a layer is how many groups and units each device has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray, assign_all_groups
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.block_owners import IN_SHARDS, BlockOwners
from edgeemu_kernels.shape import ModelShape

WITH_HEADS = -1  # in place of the device of a projection
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShareArrays:
    """A batch of k placements on n devices."""

    embed: IntArray  # [k] device
    lm_head: IntArray  # [k] device
    heads: IntArray  # [k, n_layers, n] number of groups
    proj: IntArray  # [k, n_layers] device, or WITH_HEADS
    units: IntArray  # [k, n_layers, n] number of units of the feed-forward block

    def __len__(self) -> int:
        return len(self.embed)

    @property
    def whole_proj(self) -> BoolArray:
        """Whether projections are whole: [k, n_layers]."""
        whole: BoolArray = np.greater_equal(self.proj, 0)
        return whole

    @property
    def whole_ffn(self) -> BoolArray:
        """Whether feed-forward blocks are whole: [k, n_layers]."""
        whole: BoolArray = np.equal((self.units > 0).sum(-1), 1)
        return whole

    @property
    def rings(self) -> BoolArray:
        """Devices that share the divided parts of a layer: [k, n_layers, n]."""
        attention = ~self.whole_proj[..., None] & (self.heads > 0)
        return attention | (~self.whole_ffn[..., None] & (self.units > 0))

    def taken(self, chosen: IntArray | Sequence[int] | BoolArray) -> Self:
        """Only the chosen placements."""
        at = np.asarray(chosen)
        return type(self)(self.embed[at], self.lm_head[at], self.heads[at], self.proj[at], self.units[at])

    def where(self, chosen: BoolArray, other: Self) -> Self:
        """The placements that are chosen, [k], and else those of another batch."""
        return type(self)(
            np.where(chosen, self.embed, other.embed),
            np.where(chosen, self.lm_head, other.lm_head),
            np.where(chosen[:, None, None], self.heads, other.heads),
            np.where(chosen[:, None], self.proj, other.proj),
            np.where(chosen[:, None, None], self.units, other.units),
        )

    def normal(self) -> Self:
        """Write a projection that is divided with heads of one device as whole there."""
        alone = (self.heads > 0).sum(-1) == 1  # [k, n_layers]
        proj = np.where((self.proj < 0) & alone, self.heads.argmax(-1), self.proj)
        return type(self)(self.embed, self.lm_head, self.heads, proj, self.units)

    def keys(self) -> list[bytes]:
        """A key of each placement: equal for equal ones."""
        k = len(self)
        parts = (self.embed, self.lm_head, self.heads, self.proj, self.units)
        flat = np.concatenate([part.reshape(k, -1) for part in parts], axis=1)
        return [row.tobytes() for row in flat.astype(np.int32)]

    @classmethod
    def joined(cls, batches: Sequence["ShareArrays"]) -> Self:
        """All placements of several batches."""
        return cls(
            np.concatenate([each.embed for each in batches]),
            np.concatenate([each.lm_head for each in batches]),
            np.concatenate([each.heads for each in batches]),
            np.concatenate([each.proj for each in batches]),
            np.concatenate([each.units for each in batches]),
        )

    @classmethod
    def of(cls, placement: Placement, shape: ModelShape, devices: IntArray) -> Self | None:
        """One placement on `devices` [n], ascending; None: a projection is divided otherwise than with its heads."""
        owners = BlockOwners.of(placement, shape)
        return None if owners is None else cls.owned(owners.among(devices), len(devices))

    @classmethod
    def owned(cls, owners: BlockOwners, n: int) -> Self:
        """One placement, by the owners of its blocks among n devices."""
        heads, units = (_counted(each, n)[None] for each in (owners.heads, owners.units))
        return cls(owners.ends[:1], owners.ends[1:], heads, owners.projs[None], units)

    def placement(self, number: int, shape: ModelShape, devices: IntArray, old: Placement | None = None) -> Placement:
        """One of them as blocks on `devices` [n]; as many groups and units as possible stay where `old` has them."""
        owners = None if old is None else BlockOwners.of(old, shape)
        before = None if owners is None else owners.among(devices)
        return self.owners(number, shape, before).on(devices).placement()

    def owners(self, number: int, shape: ModelShape, old: BlockOwners | None) -> BlockOwners:
        """The owners of the blocks of one of them; as many groups and units as possible stay where `old` has them."""
        heads, units, whole = self.heads[number], self.units[number], self.whole_ffn[number]
        ends = np.array([self.embed[number], self.lm_head[number]])
        before = (None, None) if old is None else (old.heads, old.units)
        assigned = _assigned(heads, before[0]), _assigned(units, before[1])
        whole_ffns = np.where(whole, units.argmax(1), IN_SHARDS)
        return BlockOwners.joined((ends, assigned[0], self.proj[number], whole_ffns, assigned[1]), shape)


def _counted(at: IntArray, n: int) -> IntArray:
    """Groups of each layer on each device: [n_layers, n_groups] of devices -> [n_layers, n]."""
    n_layers = len(at)
    flat = (at + np.arange(n_layers)[:, None] * n).ravel()
    return np.bincount(flat, minlength=n_layers * n).reshape(n_layers, n)


def _assigned(counts: IntArray, before: IntArray | None) -> IntArray:
    """A device for each of the parts of each layer, so that each device has its count: [n_layers, n]."""
    if before is None:
        before = np.zeros((len(counts), counts[0].sum()), np.int64)
    return assign_all_groups(counts, before)
