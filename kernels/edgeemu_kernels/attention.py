"""Attention of any KV groups of one layer as one matrix product. Knows their weights; no other devices.

A head block is the norm, the Q/K/V rows of one KV group and the group's cache. All groups of a layer that
live on one device share one weight matrix, its rows ordered

    [ queries of group a | queries of b | … | key of a | key of b | … | value of a | value of b | … ]

so one product gives all of Q, K and V, and RoPE rotates queries and keys, which lie side by side, in one operation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Self

import numpy as np

from edgeemu_kernels.compiled_sizes import COMPILED_LANES, compiles_attention
from edgeemu_kernels.kvcache import KVCache
from edgeemu_kernels.linear import Array, Matrix, linear
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.on_demand import compiled_kernels, order_free_sums
from edgeemu_kernels.packed import Stored, empty_matrix, matrix_of, raw_of, rows_of
from edgeemu_kernels.precision import FORMATS, NumberFormat
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.workspace import QUERY_ROWS


@dataclass(frozen=True, slots=True, eq=False)
class GroupWeights:
    """Weights of Q/K/V of one KV group; `S` query heads share its key and value head."""

    wq: Matrix  # [S*hd, D]
    wk: Matrix  # [hd, D]
    wv: Matrix  # [hd, D]
    bq: Array | None = None  # [S*hd]
    bk: Array | None = None  # [hd]
    bv: Array | None = None  # [hd]

    def arrays(self) -> tuple[Stored, ...]:
        """Arrays that hold what is present, in the order of the fields: what a migration sends."""
        return (*map(raw_of, (self.wq, self.wk, self.wv)), *self.biases())

    def biases(self) -> tuple[Array, ...]:
        """Biases of Q, K and V, or none."""
        return tuple(bias for bias in (self.bq, self.bk, self.bv) if bias is not None)

    @classmethod
    def of_arrays(cls, arrays: Sequence[Stored], forms: Sequence[NumberFormat]) -> Self:
        """Inverse of `arrays`, without a copy; `forms` are the formats of the three matrices."""
        wq, wk, wv = map(matrix_of, arrays[:3], forms)
        return cls(wq, wk, wv, *(array.view(np.float32) for array in arrays[3:]))


class Attention:
    """Attention of some KV groups of a layer, from their queries, keys and values. Knows no weights."""

    def __init__(self, shape: ModelShape, n_groups: int, rope: Rope | None) -> None:
        self.shape = shape
        self.n_groups = n_groups
        self._rope = rope
        self._compiled = compiles_attention(shape)
        self._order_free = shape.precision.order_free
        self._scale = np.float32(shape.head_dim**-0.5)
        self._n_queries = n_groups * shape.group_size
        self._q_rows = self._n_queries * shape.head_dim
        self._k_rows = n_groups * shape.head_dim

    def merged(self, parts: Sequence[Sequence[int]], inputs: Sequence[Array]) -> Array:
        """Queries, keys and values of all groups in order, from those of some groups each.

        [t, n*(S+2)*hd] for each of `parts` -> [t, n_groups*(S+2)*hd]
        """
        t, hd = len(inputs[0]), self.shape.head_dim
        out: Array = np.empty((t, self._q_rows + 2 * self._k_rows), np.float32)
        wholes = _thirds(out.reshape(t, -1, hd), self.n_groups)
        for groups, part in zip(parts, inputs, strict=True):
            mine = _thirds(part.reshape(t, -1, hd), len(groups))
            for whole, some in zip(wholes, mine, strict=True):
                whole[:, list(groups)] = some
        return out

    def new_cache(self, capacity: int) -> KVCache:
        """Empty cache for one sequence through these groups."""
        return KVCache(self.n_groups, self.shape.head_dim, capacity, FORMATS[self.shape.precision.cache])

    def attend(self, qkv: Array, position: int, cache: KVCache) -> Array:
        """Attention that overwrites Q/K/V: [t, n*(S+2)*hd] -> [t, n*group_dim]; second half of `Heads.forward`."""
        if position != cache.length:
            raise ValueError(f"position {position}, but the cache holds {cache.length} rows")
        t, hd, n = len(qkv), self.shape.head_dim, self.n_groups
        if t == 1 and self._compiled and not (cache.is_packed or self._order_free):
            return self._attend_next(qkv, cache)
        rows = qkv.reshape(t, -1, hd)  # [t, n*S + n + n, hd]
        if self._rope is not None:
            self._rope.rotate(rows[:, : self._n_queries + n], position)
        queries = rows[:, : self._n_queries]  # [t, n*S, hd]
        queries *= self._scale
        keys = rows[:, self._n_queries : self._n_queries + n]  # [t, n, hd]
        values = rows[:, self._n_queries + n :]  # [t, n, hd]
        cache.append(keys.swapaxes(0, 1), values.swapaxes(0, 1))
        out: Array = np.empty((t, self._q_rows), np.float32)
        if t == 1:
            self._decode(queries.reshape(n, -1, hd), cache, out.reshape(n, -1, hd))
        else:
            self._prefill(queries.reshape(t, n, -1, hd), position, cache, out)
        return out

    def _attend_next(self, qkv: Array, cache: KVCache) -> Array:
        """One position, compiled from its rotation on: [1, n*(S+2)*hd] -> [1, n*group_dim]"""
        out: Array = np.empty((1, self._q_rows), np.float32)
        at, rope = cache.claim(1), self._rope
        turns = None if rope is None else rope.turns(at, at + 1)[0]
        mixed = out.reshape(self.n_groups, -1, self.shape.head_dim)
        interleaved = rope is not None and rope.interleaved
        compiled_kernels().attend_next(qkv, turns, self._scale, *cache.storage(), at, mixed, interleaved=interleaved)
        return out

    def _decode(self, queries: Array, cache: KVCache, out: Array) -> None:
        """One position: [n, S, hd] -> out [n, S, hd]"""
        if cache.is_packed or self._order_free:
            for group, (q, mixed) in enumerate(zip(queries, out, strict=True)):
                mixed[...] = order_free_sums().attend(q, *cache.stored(group, cache.length), cache.format)
        else:
            out[...] = _attend(queries, cache.keys(), cache.values())

    def _prefill(self, queries: Array, position: int, cache: KVCache, out: Array) -> None:
        """Rows from `position` on: [t, n, S, hd] -> out [t, n*S*hd]

        One group and block of rows at a time, so that scores stay in the processor's cache between their passes.
        """
        t, n, s, hd = queries.shape
        mixed = out.reshape(t, n, s, hd)
        attend = _attend_compiled if self._compiled else _attend_causal
        for start in range(0, t, QUERY_ROWS):
            stop = min(start + QUERY_ROWS, t)
            rows, seen = stop - start, position + stop
            for g in range(n):
                q = queries[start:stop, g].swapaxes(0, 1).reshape(s * rows, hd)
                if cache.is_packed or self._order_free:
                    block = order_free_sums().attend(q, *cache.stored(g, seen), cache.format, _later(rows))
                else:
                    block = attend(q, cache.keys()[g, :seen], cache.values()[g, :seen], rows)
                # [S*rows, hd] -> [rows, S, hd]
                mixed[start:stop, g] = block.reshape(s, rows, hd).swapaxes(0, 1)


class Heads(Attention):
    """Kernel of the groups `groups` of one layer, with their weights fused in one matrix.

    Where Q, K and V have different formats there is a matrix for each run of one format. The result of `forward` has
    the groups' outputs side by side, in that order.
    """

    def __init__(
        self,
        shape: ModelShape,
        groups: Sequence[int],
        norm: Norm,
        weights: Sequence[Matrix],  # one after the other [n*(S+2)*hd, D]
        bias: Array | None,  # [n*(S+2)*hd]
        rope: Rope | None,
    ) -> None:
        super().__init__(shape, len(groups), rope)
        self.groups = tuple(groups)
        self.norm = norm
        self.weights = tuple(weights)
        self.bias = bias
        self._starts = [0, *accumulate(len(raw_of(weight)) for weight in self.weights)]  # rows
        shapes = [weight.shape for weight in self.weights]
        if self._starts[-1] != self._q_rows + 2 * self._k_rows or {width for _, width in shapes} != {shape.d_model}:
            raise ValueError(f"weights of {self.n_groups} groups have shapes {shapes}")

    @classmethod
    def empty(cls, shape: ModelShape, layer: int, groups: Sequence[int], norm: Norm, rope: Rope | None) -> Heads:
        """Kernel with uninitialized weights, for a source to write into through `group_weights`."""
        k_rows = len(groups) * shape.head_dim
        sizes = (k_rows * shape.group_size, k_rows, k_rows)
        runs = zip(qkv_formats(shape, layer), sizes, strict=True)
        weights = [
            empty_matrix(sum(rows for _, rows in run), shape.d_model, form)
            for form, run in groupby(runs, key=itemgetter(0))
        ]
        rows = k_rows * (shape.group_size + 2)
        bias: Array | None = np.empty(rows, np.float32) if shape.bias else None
        return cls(shape, groups, norm, weights, bias, rope)

    @classmethod
    def from_groups(
        cls, shape: ModelShape, layer: int, norm: Norm, parts: Mapping[int, GroupWeights], rope: Rope | None
    ) -> Heads:
        """Kernel with copies of the given groups' weights, in the mapping's order."""
        heads = cls.empty(shape, layer, tuple(parts), norm, rope)
        for group, weights in parts.items():
            for to, origin in zip(heads.group_weights(group).arrays(), weights.arrays(), strict=True):
                to[...] = origin
        return heads

    def group_weights(self, group: int) -> GroupWeights:
        """Views of one group's rows of the fused matrices."""
        i, hd = self.groups.index(group), self.shape.head_dim
        wide = self.shape.group_dim
        starts = (i * wide, self._q_rows + i * hd, self._q_rows + self._k_rows + i * hd)
        q, k, v = (slice(start, start + size) for start, size in zip(starts, (wide, hd, hd), strict=True))
        wq, wk, wv = map(self._rows, (q, k, v))
        if self.bias is None:
            return GroupWeights(wq, wk, wv)
        return GroupWeights(wq, wk, wv, self.bias[q], self.bias[k], self.bias[v])

    def _rows(self, rows: slice) -> Matrix:
        """View of some rows, which lie in one of the matrices."""
        at = bisect_right(self._starts, rows.start) - 1
        return rows_of(self.weights[at], slice(rows.start - self._starts[at], rows.stop - self._starts[at]))

    @property
    def weight_bytes(self) -> int:
        weights_bytes = sum(weight.nbytes for weight in self.weights)
        return self.norm.weight_bytes + weights_bytes + (0 if self.bias is None else self.bias.nbytes)

    def forward(self, x: Array, position: int, cache: KVCache) -> Array:
        """Attention [t, D] -> [t, n*group_dim]; rows are at `position …`, and `cache` holds all rows before them.

        Appends t rows to `cache`. ValueError if `position` is not the cache's length: an answer computed from
        the wrong past would look like any other.
        """
        return self.attend(self.project(self.norm.forward(x)), position, cache)

    def project(self, normed: Array) -> Array:
        """Queries, keys and values of normed rows, not yet rotated: [t, D] -> [t, n*(S+2)*hd]."""
        product = order_free_sums().product if self._order_free else linear
        if len(self.weights) == 1:
            qkv: Array = product(normed, self.weights[0], self.bias)
            return qkv
        qkv = np.concatenate([product(normed, weight) for weight in self.weights], axis=1)
        if self.bias is not None:
            qkv += self.bias
        return qkv


def qkv_formats(shape: ModelShape, layer: int) -> tuple[NumberFormat, NumberFormat, NumberFormat]:
    """Formats of a layer's queries, keys and values."""
    weights = shape.precision.weights
    return weights("query", layer), weights("key", layer), weights("value", layer)


def _thirds(rows: Array, n_groups: int) -> tuple[Array, Array, Array]:
    """Views of queries, keys and values by group: [t, n*(S+2), hd] -> [t, n, S, hd], [t, n, hd], [t, n, hd]."""
    t, _, hd = rows.shape
    keys = rows.shape[1] - 2 * n_groups
    queries = rows[:, :keys].reshape(t, n_groups, -1, hd)
    return queries, rows[:, keys : keys + n_groups], rows[:, keys + n_groups :]


def _later(rows: int) -> Array:
    """Causal mask of the last `rows` positions for as many queries, [rows, rows]: -inf where a key is later."""
    return np.triu(np.full((rows, rows), -np.inf, np.float32), k=1)


def _attend(queries: Array, keys: Array, values: Array) -> Array:
    """softmax(queries @ keysᵀ) @ values: [n, m, hd], [n, len, hd], [n, len, hd] -> [n, m, hd]"""
    scores: Array = np.matmul(queries, keys.swapaxes(1, 2))  # [n, m, len]
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: Array = np.matmul(scores, values)  # [n, m, hd]
    mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
    return mixed


def _attend_causal(queries: Array, keys: Array, values: Array, rows: int) -> Array:
    """softmax(queries @ keysᵀ) @ values where no query sees a later key: [m, hd], [len, hd], [len, hd] -> [m, hd].

    The queries are m / rows sets of `rows`, which stand where the last keys do.
    """
    scores: Array = queries @ keys.T  # [m, len]
    scores.reshape(-1, rows, len(keys))[..., len(keys) - rows :] += _later(rows)
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: Array = scores @ values  # [m, hd]
    mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
    return mixed


def _attend_compiled(queries: Array, keys: Array, values: Array, rows: int) -> Array:
    """Compute what `_attend_causal` does, with one pass over the scores between the two products."""
    seen = len(keys)
    scores: Array = np.empty((len(queries), -(-seen // COMPILED_LANES) * COMPILED_LANES), np.float32)  # [m, ≥ len]
    np.matmul(queries, keys.T, out=scores[:, :seen])
    sums = compiled_kernels().causal_softmax(scores, seen, rows)  # [m]
    mixed: Array = scores[:, :seen] @ values  # [m, hd]
    mixed /= sums[:, None]
    return mixed
