"""Requirements of placements before they pay: memory that is missing, and the time of the migration to each."""

from typing import NamedTuple, Protocol

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.link_matrix import FloatArray
from edgeemu.policies.view.share_memory import ShareMemory
from edgeemu.policies.view.share_moves_time import ShareMigrations
from edgeemu.policies.view.share_runs import Folded


class Requirements(NamedTuple):
    """Bytes that devices lack for each placement, and seconds of the migration to each: [k] each."""

    missing_bytes: IntArray
    moves_s: FloatArray


class FindsNeeds(Protocol):
    """Memory of placements, and migrations from one placement to them."""

    def of(self, near: Folded) -> Requirements: ...


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
