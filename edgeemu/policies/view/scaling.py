"""Pairs of devices whose links are multiplied by something, and how to find them in matrices of all links. Pure."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemu.placement.arrays import IntArray

ALL_AT_ONCE = 2000  # devices up to which a cluster's matrices are dense: 64 MB
NO_NUMBER = 2**32 - 1


def in_order(codes: IntArray, n_codes: int) -> IntArray:
    """Which codes come first, equal ones in their order: [m] -> [m]. NumPy sorts 16 bits in a tenth of the time."""
    if n_codes > 2**32:
        return codes.argsort(kind="stable")
    low = codes.astype(np.uint16).argsort(kind="stable")
    if n_codes <= 2**16:
        return low
    return low[(codes[low] >> 16).astype(np.uint16).argsort(kind="stable")]


class PairNumbers:
    """Numbers of pairs of devices, from 0, in the order in which they were added.

    None changes, so that whoever knew the first ones finds them among more.
    """

    def __init__(self, n_devices: int) -> None:
        self.n_devices = n_devices
        self._table: NDArray[np.uint32] | None = None  # [n_devices * n_devices]
        if n_devices <= ALL_AT_ONCE:
            self._table = np.full(n_devices * n_devices, NO_NUMBER, np.uint32)
        self._codes, self._order = np.empty((2, 0), np.int64)  # else of all pairs, ascending, and the number of each

    def of(self, codes: IntArray | int | slice) -> NDArray[np.integer]:
        """Numbers of pairs, given as source * n_devices + target; `NO_NUMBER` for those that were not added: [k]."""
        if self._table is not None:
            found: NDArray[np.integer] = self._table[codes]
            return found
        if isinstance(codes, slice):
            codes = np.arange(*codes.indices(self.n_devices * self.n_devices))
        if not len(self._codes):
            return np.full(np.shape(codes), NO_NUMBER)
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, self._order[at], NO_NUMBER)

    def add(self, codes: IntArray, first: int) -> None:
        """Give numbers from `first` on to pairs that have none yet: [k]."""
        numbers = np.arange(first, first + len(codes))
        if self._table is not None:
            self._table[codes] = numbers
            return
        codes, numbers = np.append(self._codes, codes), np.append(self._order, numbers)
        order = codes.argsort()
        self._codes, self._order = codes[order], numbers[order]


class Scaling:
    """Pairs of devices whose durations are multiplied, each once, and how to find them."""

    def __init__(
        self, n_devices: int, sources: IntArray, targets: IntArray, numbers: PairNumbers | None = None
    ) -> None:
        """`sources`, `targets`: [n_pairs] each. `numbers`: theirs, if they are known; there can be more."""
        self.n_devices, self.sources, self.targets = n_devices, sources, targets
        self._known_numbers = numbers
        self._from: dict[int, NDArray[np.integer]] = {}
        self._to: dict[int, NDArray[np.integer]] = {}

    @cached_property
    def places(self) -> IntArray:
        """Pairs as source * n_devices + target: [n_pairs]."""
        return self.sources * self.n_devices + self.targets

    @cached_property
    def _numbers(self) -> PairNumbers:
        """Numbers of the pairs."""
        numbers = self._known_numbers
        if numbers is None:
            numbers = PairNumbers(self.n_devices)
            numbers.add(self.places, 0)
        return numbers

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n_devices, self.sources, self.targets)

    def find(self, sources: IntArray, targets: IntArray) -> NDArray[np.integer]:
        """Which some pairs are; one more than there are for others: [k], [k] -> [k]."""
        return self._among(sources * self.n_devices + targets)

    def find_one(self, source: int, target: int) -> int:
        """Which a pair is; one more than there are if it is none."""
        return min(int(self._numbers.of(source * self.n_devices + target)), len(self.sources))

    def from_source(self, source: int) -> NDArray[np.integer]:
        """Which the pairs from a device to every device are: [n_devices]."""
        if source not in self._from:
            self._from[source] = self._among(slice(source * self.n_devices, (source + 1) * self.n_devices))
        return self._from[source]

    def to_target(self, target: int) -> NDArray[np.integer]:
        """Which the pairs from every device to a device are: [n_devices]."""
        if target not in self._to:
            self._to[target] = self._among(slice(target, None, self.n_devices))
        return self._to[target]

    def _among(self, codes: IntArray | slice) -> NDArray[np.integer]:
        found: NDArray[np.integer] = np.minimum(self._numbers.of(codes), len(self.sources))
        return found
