"""Attention over a cache that is not float32, whose rows are decoded piece by piece. Knows no weights.

A KV group is computed by itself, so that its numbers do not depend on the groups beside it.
"""

from __future__ import annotations

import numpy as np

from edgeemu_kernels.arrays import Array
from edgeemu_kernels.codecs import machine_code
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import FEW_ROWS


def attend_packed(queries: Array, cache: KVCache, group: int, seen: int, later: Array | None = None) -> Array:
    """softmax(queries @ keysᵀ + mask) @ values over the first `seen` rows of one group's cache: [m, hd] -> [m, hd].

    `later` [rows, rows] is added where the last `rows` keys meet the queries, of which there are m / rows sets.
    Online softmax (Milakov & Gimelshein 2018): no more than a piece of the cache is float32 at any time.
    """
    m, _ = queries.shape
    if later is None and m <= FEW_ROWS and (few := _attend_few(queries, cache, group, seen)) is not None:
        return few
    highest: Array = np.full((m, 1), -np.inf, np.float32)
    total: Array = np.zeros((m, 1), np.float32)
    mixed: Array = np.zeros_like(queries)
    for start, keys, values in cache.pieces(group, seen):
        scores: Array = queries @ keys.T  # [m, piece]
        if later is not None:
            _mask(scores, start - (seen - len(later)), later)
        top = np.maximum(highest, np.maximum.reduce(scores, axis=-1, keepdims=True))  # [m, 1]
        scores -= top
        np.exp(scores, out=scores)
        kept = np.exp(highest - top)  # [m, 1], 0 at the first piece
        total *= kept
        total += np.add.reduce(scores, axis=-1, keepdims=True)
        mixed *= kept
        mixed += scores @ values  # [m, hd]
        highest = top
    mixed /= total
    return mixed


def _attend_few(queries: Array, cache: KVCache, group: int, seen: int) -> Array | None:
    """Attention of a few queries [m, hd] from the packed rows themselves; None where that is not compiled."""
    keys, values = cache.stored(group, seen)
    scores = machine_code.product(keys, queries, cache.format)  # [m, seen]
    if scores is None:
        return None
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: Array = np.zeros_like(queries)
    if not machine_code.mix(values, scores, mixed, cache.format):
        return None
    mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
    return mixed


def _mask(scores: Array, first: int, later: Array) -> None:
    """Add `later` [rows, rows] to scores [m, piece], whose first column is column `first` of it (or before it)."""
    m, piece = scores.shape
    columns = later[:, max(first, 0) : max(first + piece, 0)]
    if columns.shape[1]:
        scores.reshape(m // len(later), len(later), piece)[..., piece - columns.shape[1] :] += columns
