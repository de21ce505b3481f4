"""Key/value cache of one sequence for some KV groups of one layer. Knows rows; no model."""

from __future__ import annotations

import numpy as np

from edgeemu_kernels.linear import Array

FIRST_ROWS = 16  # what an empty cache grows to when it was given no room at all


class KVCache:
    """Keys and values of `n_groups` KV groups, row by row.

    Storage is float32 [n_groups, capacity, head_dim], and unwritten rows cost no memory (the system maps a
    page when it is first written). Beyond `capacity` storage doubles, so that appending copies each row O(1)
    times.
    """

    def __init__(self, n_groups: int, head_dim: int, capacity: int) -> None:
        self.length = 0
        self._keys: Array = np.empty((n_groups, capacity, head_dim), np.float32)
        self._values: Array = np.empty_like(self._keys)

    @property
    def n_groups(self) -> int:
        return int(self._keys.shape[0])

    @property
    def head_dim(self) -> int:
        return int(self._keys.shape[2])

    @property
    def capacity(self) -> int:
        return int(self._keys.shape[1])

    @property
    def nbytes_used(self) -> int:
        """Bytes of the written rows, keys and values."""
        return 2 * self.n_groups * self.length * self.head_dim * self._keys.itemsize

    def append(self, keys: Array, values: Array) -> None:
        """Append t rows of every group: k, v [n_groups, t, head_dim]."""
        stop = self.length + keys.shape[1]
        if stop > self.capacity:
            self._resize(max(stop, 2 * self.capacity, FIRST_ROWS))
        self._keys[:, self.length : stop] = keys
        self._values[:, self.length : stop] = values
        self.length = stop

    def keys(self) -> Array:
        """View of the written keys, [n_groups, length, head_dim]."""
        return self._keys[:, : self.length]

    def values(self) -> Array:
        """View of the written values, [n_groups, length, head_dim]."""
        return self._values[:, : self.length]

    def storage(self) -> tuple[Array, Array]:
        """Keys and values with their unwritten rows, [n_groups, capacity, head_dim] each, contiguous."""
        return self._keys, self._values

    def take(self, index: int, start: int = 0, stop: int | None = None) -> tuple[Array, Array]:
        """Copies of one group's rows `start:stop`, k and v [rows, head_dim]: what a migration sends."""
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise ValueError(f"rows {start}:{stop} of a cache that holds {self.length}")
        return self._keys[index, start:stop].copy(), self._values[index, start:stop].copy()

    def _resize(self, capacity: int) -> None:
        for name in ("_keys", "_values"):
            old: Array = getattr(self, name)
            new = np.empty((self.n_groups, capacity, self.head_dim), np.float32)
            new[:, : self.length] = old[:, : self.length]
            setattr(self, name, new)
