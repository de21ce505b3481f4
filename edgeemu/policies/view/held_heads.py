"""Heads that devices hold, of all layers at once."""

from typing import NamedTuple, Self

import numpy as np

from edgeemu.placement.arrays import IntArray


class HeldHeads(NamedTuple):
    """Heads of all layers, by layer and device, both ascending: [m] each."""

    layers: IntArray
    devices: IntArray
    counts: IntArray  # of groups

    def starts(self, n_layers: int) -> IntArray:
        """Where the entries of each layer begin: [n_layers]."""
        return np.searchsorted(self.layers, np.arange(n_layers))

    @classmethod
    def of(cls, counts: IntArray) -> Self:
        """Make those of counts by layer and device: [n_layers, n_devices]."""
        at = np.flatnonzero(counts > 0)  # quicker than for two axes, and for integers
        layers, devices = np.divmod(at, counts.shape[1])
        return cls(layers, devices, counts.ravel()[at])

    @classmethod
    def sorted(cls, heads: IntArray) -> Self:
        """Make those of owners, ascending in each layer: [n_layers, n_groups]."""
        begins = np.ones(heads.shape, np.bool_)
        begins[:, 1:] = heads[:, 1:] != heads[:, :-1]
        at = np.flatnonzero(begins)
        return cls(at // heads.shape[1], heads.ravel()[at], np.diff(at, append=heads.size))

    @classmethod
    def of_one(cls, devices: IntArray, counts: IntArray) -> Self:
        """Make those of one layer: [m] each."""
        return cls(np.zeros_like(devices), devices, counts)
