"""Requirements of placements before they pay: memory that is missing, and the time of the migration to each."""

from typing import NamedTuple, Protocol

import numpy as np

from edgeemu.placement.arrays import FloatArray, IntArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
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
    """Memory of placements, and migrations from one placement, or none, to them: by NumPy."""

    def __init__(self, memory: ShareMemory, moving: ShareMigrations | None = None) -> None:
        self._memory, self._moving = memory, moving

    def of(self, near: Folded) -> Requirements:
        """Compute what placements need."""
        shares, runs = near
        over = self._memory.need_bytes(shares, runs.lengths) - self._memory.capacity  # [k, n]
        moves_s = np.zeros(len(shares)) if self._moving is None else self._moving.seconds(shares, *runs)
        return Requirements(np.maximum(over, 0).sum(1), moves_s)

    def has_room(self, shares: ShareArrays) -> bool:
        """Whether devices have room for all that a migration to a placement brings, beside all that they hold."""
        assert self._moving is not None, "it is not known where moves begin"
        held, arriving = self._memory.need_bytes(self._moving.begin), self._moving.arriving_bytes(shares)  # [1, n] each
        return bool(np.all(held + arriving + self._memory.bytes.copied <= self._memory.capacity))
