"""Requirements of placements before they pay: memory that is missing, and the time of the migration to each."""

from typing import NamedTuple, Protocol

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_runs import Folded
from edgeemu.policies.view.shares import ShareArrays


class Requirements(NamedTuple):
    """Bytes that devices lack for each placement, and seconds of the migration to each: [k] each."""

    missing_bytes: IntArray
    moves_s: FloatArray


class FindsNeeds(Protocol):
    """Memory of placements, and migrations from one placement to them."""

    def of(self, near: Folded) -> Requirements: ...

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for all that a migration to a placement brings, beside all that they hold.

        That is sure if it is so: the larger part of a divided block, which is put together there, is counted too.
        """
        ...


class ShareNeeds:
    """Memory of placements, to which nothing moves."""

    def __init__(self, memory: ShareMemory) -> None:
        self._memory = memory

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        over = self._memory.need_bytes(near.shares, near.runs.lengths) - self._memory.capacity  # [k, n]
        return Requirements(np.maximum(over, 0).sum(1), np.zeros(len(near)))

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for a migration: there is none."""
        del shares
        return True
