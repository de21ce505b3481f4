"""Layers that are placed alike one after the other, in all placements of a batch: a *run*, which is computed once."""

from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray
from edgeemu.policies.view.shares import ShareArrays


class Runs(NamedTuple):
    """Runs of layers: the first layer of each, and how many it has. [n_runs] each."""

    first: IntArray
    lengths: IntArray

    @classmethod
    def of(cls, shares: ShareArrays, apart: IntArray | None = None) -> Self:
        """Runs of layers that are placed alike in each placement of a batch. `apart`: layers that begin one anyway."""
        s, n_layers = shares, shares.proj.shape[1]
        if n_layers == 1:
            return cls(np.zeros(1, np.int64), np.ones(1, np.int64))
        new = np.ones(n_layers, np.bool_)
        new[1:] = (s.heads[:, 1:] != s.heads[:, :-1]).any((0, 2)) | (s.units[:, 1:] != s.units[:, :-1]).any((0, 2))
        new[1:] |= (s.proj[:, 1:] != s.proj[:, :-1]).any(0)
        if apart is not None:
            new[apart] = True
        first = np.flatnonzero(new)
        return cls(first, np.diff(first, append=n_layers))

    def folded(self, shares: ShareArrays) -> ShareArrays:
        """One layer of each run."""
        s, at = shares, self.first
        if len(at) == s.proj.shape[1]:
            return s
        return ShareArrays(s.embed, s.lm_head, s.heads[:, at], s.proj[:, at], s.units[:, at])

    def unfolded(self, shares: ShareArrays) -> ShareArrays:
        """All layers of each run."""
        heads, proj, units = (np.repeat(x, self.lengths, axis=1) for x in (shares.heads, shares.proj, shares.units))
        return ShareArrays(shares.embed, shares.lm_head, heads, proj, units)


class Folded(NamedTuple):
    """Placements with one layer for each run of layers alike."""

    shares: ShareArrays
    runs: Runs

    @classmethod
    def of(cls, shares: ShareArrays) -> Self:
        """Fold as many layers as are alike."""
        runs = Runs.of(shares)
        return cls(runs.folded(shares), runs)

    def __len__(self) -> int:
        return len(self.shares)

    def unfolded(self, chosen: IntArray | list[int]) -> ShareArrays:
        """Some of the placements with all layers."""
        return self.runs.unfolded(self.shares.taken(chosen))


class Around(NamedTuple):
    """Small changes of one placement, which are to be made: of its ends, and of ranges of its layers."""

    base: ShareArrays  # one layer of each run
    runs: Runs
    ranges: list[tuple[int, int]]  # of runs
    ends: bool
