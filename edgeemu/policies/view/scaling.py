"""Pairs of devices whose links are multiplied by something, and how to find them in matrices of all links. Pure."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray

ALL_AT_ONCE = 2000  # devices up to which a cluster's matrices are dense: 64 MB


def in_order(codes: IntArray, n_codes: int) -> IntArray:
    """Which codes come first, equal ones in their order: [m] -> [m]. NumPy sorts 16 bits in a tenth of the time."""
    if n_codes > 2**32:
        return codes.argsort(kind="stable")
    low = codes.astype(np.uint16).argsort(kind="stable")
    if n_codes <= 2**16:
        return low
    return low[(codes[low] >> 16).astype(np.uint16).argsort(kind="stable")]


class Scaling:
    """Pairs of devices whose durations are multiplied, each once, and how to find them."""

    def __init__(self, n_devices: int, sources: IntArray, targets: IntArray) -> None:
        """`sources`, `targets`: [n_pairs] each."""
        self.n_devices, self.sources, self.targets = n_devices, sources, targets

    @cached_property
    def places(self) -> IntArray:
        """Pairs as source * n_devices + target: [n_pairs]."""
        return self.sources * self.n_devices + self.targets

    @cached_property
    def _codes(self) -> tuple[IntArray, IntArray]:
        """Places of pairs, ascending, and which each is: [n_pairs] each."""
        codes = self.places
        order = np.arange(len(codes)) if (codes[1:] > codes[:-1]).all() else codes.argsort()
        return codes[order], order

    @cached_property
    def _table(self) -> NDArray[np.unsignedinteger]:
        """Which each pair of devices is; one more than there are where it is none: [n_devices * n_devices]."""
        small = np.min_scalar_type(len(self.sources))
        table = np.full(self.n_devices * self.n_devices, len(self.sources), small)
        table[self.places] = np.arange(len(self.sources))
        return table

    @cached_property
    def _by_target(self) -> tuple[IntArray, IntArray]:
        """Pairs by their target, and where those of each target begin: [n_pairs], [n_devices + 1]."""
        order = in_order(self.targets, self.n_devices)
        return order, np.searchsorted(self.targets[order], np.arange(self.n_devices + 1))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n_devices, self.sources, self.targets)

    def find(self, sources: IntArray, targets: IntArray) -> NDArray[np.integer]:
        """Which some pairs are; one more than there are for others: [k], [k] -> [k]."""
        wanted = sources * self.n_devices + targets
        if self.n_devices <= ALL_AT_ONCE:
            which: NDArray[np.unsignedinteger] = self._table[wanted]
            return which
        codes, order = self._codes
        at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        return np.where(codes[at] == wanted, order[at], len(codes))

    def find_one(self, source: int, target: int) -> int:
        """Which a pair is; one more than there are if it is none."""
        if self.n_devices <= ALL_AT_ONCE:
            return int(self._table[source * self.n_devices + target])
        return int(self.find(np.array([source]), np.array([target]))[0])

    def from_source(self, source: int) -> IntArray:
        """Which pairs are from a device."""
        codes, order = self._codes
        begin, end = np.searchsorted(codes, (source * self.n_devices, (source + 1) * self.n_devices))
        return order[begin:end]

    def to_target(self, target: int) -> IntArray:
        """Which pairs are to a device."""
        order, begins = self._by_target
        return order[begins[target] : begins[target + 1]]
