"""Key/value cache of one sequence for some KV groups of one layer. Knows rows and their format; no model."""

from __future__ import annotations

import numpy as np

from edgeemu_kernels.arrays import Array
from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.packed import Stored, encode_rows, stored_row
from edgeemu_kernels.precision import FORMATS, NumberFormat

_F32 = FORMATS["f32"]
FIRST_ROWS = 16  # what an empty cache grows to when it was given no room at all


class KVCache:
    """Keys and values of `n_groups` KV groups, row by row.

    Storage is float32 [n_groups, capacity, head_dim], or in another format uint8 [n_groups, capacity, row_bytes].
    Unwritten rows cost no memory (the system maps a page when it is first written). Beyond `capacity` storage doubles,
    so that appending copies each row O(1) times.
    """

    def __init__(self, n_groups: int, head_dim: int, capacity: int, form: NumberFormat = _F32) -> None:
        self.length = 0
        self.head_dim = head_dim
        self.format = form
        width, kind = stored_row(head_dim, form)
        self._keys: Stored = np.empty((n_groups, capacity, width), kind)
        self._values: Stored = np.empty_like(self._keys)

    @property
    def is_packed(self) -> bool:
        """Whether rows are stored in another format than float32."""
        return self.format != _F32

    @property
    def n_groups(self) -> int:
        return int(self._keys.shape[0])

    @property
    def capacity(self) -> int:
        return int(self._keys.shape[1])

    @property
    def nbytes_used(self) -> int:
        """Bytes of the written rows, keys and values."""
        return 2 * self.n_groups * self.length * self.format.row_bytes(self.head_dim)

    def append(self, keys: Array, values: Array) -> None:
        """Append t rows of every group, encoded in the cache's format: k, v [n_groups, t, head_dim]."""
        self.append_stored(self._encoded(keys), self._encoded(values))

    def append_stored(self, keys: Stored, values: Stored) -> None:
        """Append t rows of every group as `take` gives them: k, v [n_groups, t, head_dim or row_bytes]."""
        start = self.claim(keys.shape[1])
        self._keys[:, start : self.length] = keys
        self._values[:, start : self.length] = values

    def claim(self, rows: int) -> int:
        """Have so many rows more, which the caller writes to `storage`; return the first."""
        start, stop = self.length, self.length + rows
        if stop > self._keys.shape[1]:
            self._resize(max(stop, 2 * self.capacity, FIRST_ROWS))
        self.length = stop
        return start

    def keys(self) -> Array:
        """Written keys, [n_groups, length, head_dim]: a view, or decoded."""
        return self._decoded(self._keys[:, : self.length])

    def values(self) -> Array:
        """Written values, [n_groups, length, head_dim]: a view, or decoded."""
        return self._decoded(self._values[:, : self.length])

    def storage(self) -> tuple[Stored, Stored]:
        """Keys and values as stored with their unwritten rows, [n_groups, capacity, …] each, contiguous."""
        return self._keys, self._values

    def stored(self, index: int, stop: int) -> tuple[Stored, Stored]:
        """Views of one group's rows before `stop` as stored, k and v [rows, head_dim or row_bytes]."""
        return self._keys[index, :stop], self._values[index, :stop]

    def take(self, index: int, start: int = 0, stop: int | None = None) -> tuple[Stored, Stored]:
        """Copies of one group's rows `start:stop` as stored, k and v [rows, head_dim or row_bytes].

        They are what a migration sends.
        """
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise ValueError(f"rows {start}:{stop} of a cache that holds {self.length}")
        return self._keys[index, start:stop].copy(), self._values[index, start:stop].copy()

    def truncate(self, length: int) -> None:
        """Forget rows from `length` on, if there are any; their storage is used again."""
        self.length = min(self.length, length)

    def _resize(self, capacity: int) -> None:
        for name in ("_keys", "_values"):
            old: Stored = getattr(self, name)
            new = np.empty((self.n_groups, capacity, old.shape[2]), old.dtype)
            new[:, : self.length] = old[:, : self.length]
            setattr(self, name, new)

    def _encoded(self, rows: Array) -> Stored:
        """[n_groups, t, head_dim] -> as stored"""
        if not self.is_packed:
            return rows
        n, t, width = rows.shape
        return encode_rows(rows.reshape(n * t, width), self.format).reshape(n, t, self.format.row_bytes(width))

    def _decoded(self, rows: Stored) -> Array:
        """[n_groups, t, …] as stored -> [n_groups, t, head_dim]"""
        if not self.is_packed:
            return rows
        n, t, size = rows.shape
        out: Array = np.empty((n * t, self.head_dim), np.float32)
        machine_code.decode(rows.reshape(n * t, size), out, self.format)
        return out.reshape(n, t, -1)
