"""Kernels that numba compiles, where NumPy and BLAS read the same memory several times. Knows arrays; no model.

Importing takes 0.3 s and 140 MB, most of them numba's, and the first time ever some seconds: what is compiled is kept
beside this file, or else in the user's cache folder. So `linear`, `attention` and `dense` import it only for matrices
above COMPILED_BYTES. NumPy's versions, beside each call, are the reference of these.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from edgeemu_kernels.linear import COMPILED_BLOCK, Array
from edgeemu_kernels.simd import (
    LANES,
    divide,
    exponential,
    larger,
    largest,
    load,
    multiply,
    multiply_add,
    negative,
    prefetch,
    splat,
    store,
    store_sums,
    summed,
)

ZERO, ONE = np.float32(0), np.float32(1)
AHEAD = 2048  # values that are asked for before they are needed: 8 KiB
_READ = {d: types.Array(types.float32, d, "C", readonly=True) for d in (2, 3)}
_WRITE = {d: types.Array(types.float32, d, "C") for d in (1, 2, 3)}


_KEEPS_NAN = {
    "reassoc",
    "contract",
    "arcp",
    "nsz",
}  # LLVM's fast arithmetic, but for what forgets NaN and infinity
_rows = njit(fastmath=_KEEPS_NAN)


@_rows
def _one(x: Array, weight: Array, r: int, q: int, y: Array) -> None:
    a, b, c, d = weight[r], weight[r + q], weight[r + 2 * q], weight[r + 3 * q]
    a0, b0, c0, d0 = ZERO, ZERO, ZERO, ZERO
    for i in range(len(x)):
        a0 += a[i] * x[i]
        b0 += b[i] * x[i]
        c0 += c[i] * x[i]
        d0 += d[i] * x[i]
    y[r], y[r + q], y[r + 2 * q], y[r + 3 * q] = a0, b0, c0, d0


@_rows
def _two(x: Array, weight: Array, r: int, q: int, y: Array) -> None:
    a, b, c, d = weight[r], weight[r + q], weight[r + 2 * q], weight[r + 3 * q]
    a0, b0, c0, d0, a1, b1, c1, d1 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for i in range(x.shape[1]):
        x0, x1 = x[0, i], x[1, i]
        a0 += a[i] * x0
        a1 += a[i] * x1
        b0 += b[i] * x0
        b1 += b[i] * x1
        c0 += c[i] * x0
        c1 += c[i] * x1
        d0 += d[i] * x0
        d1 += d[i] * x1
    y[0, r], y[0, r + q], y[0, r + 2 * q], y[0, r + 3 * q] = a0, b0, c0, d0
    y[1, r], y[1, r + q], y[1, r + 2 * q], y[1, r + 3 * q] = a1, b1, c1, d1


@_rows
def _four(x: Array, weight: Array, r: int, q: int, y: Array) -> None:
    a, b, c, d = weight[r], weight[r + q], weight[r + 2 * q], weight[r + 3 * q]
    a0, b0, c0, d0, a1, b1, c1, d1 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    a2, b2, c2, d2, a3, b3, c3, d3 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for i in range(x.shape[1]):
        x0, x1, x2, x3 = x[0, i], x[1, i], x[2, i], x[3, i]
        a0 += a[i] * x0
        a1 += a[i] * x1
        a2 += a[i] * x2
        a3 += a[i] * x3
        b0 += b[i] * x0
        b1 += b[i] * x1
        b2 += b[i] * x2
        b3 += b[i] * x3
        c0 += c[i] * x0
        c1 += c[i] * x1
        c2 += c[i] * x2
        c3 += c[i] * x3
        d0 += d[i] * x0
        d1 += d[i] * x1
        d2 += d[i] * x2
        d3 += d[i] * x3
    y[0, r], y[0, r + q], y[0, r + 2 * q], y[0, r + 3 * q] = a0, b0, c0, d0
    y[1, r], y[1, r + q], y[1, r + 2 * q], y[1, r + 3 * q] = a1, b1, c1, d1
    y[2, r], y[2, r + q], y[2, r + 2 * q], y[2, r + 3 * q] = a2, b2, c2, d2
    y[3, r], y[3, r + q], y[3, r + 2 * q], y[3, r + 3 * q] = a3, b3, c3, d3


@njit([types.void(_READ[2], _READ[2], _WRITE[2])], fastmath=_KEEPS_NAN, cache=True)
def few_rows(x: Array, weight: Array, y: Array) -> None:
    """Product of a few rows: x [t, in], weight [out, in] -> y [t, out]. Reads the weights once from memory.

    Four quarters of the matrix are read at the same time: more of the bandwidth than one stream gets.
    """
    t, quarter = len(x), len(weight) // 4
    for r in range(quarter):
        done = 0
        while t - done >= 4:
            _four(x[done : done + 4], weight, r, quarter, y[done : done + 4])
            done += 4
        if t - done >= 2:
            _two(x[done : done + 2], weight, r, quarter, y[done : done + 2])
            done += 2
        if t > done:
            _one(x[done], weight, r, quarter, y[done])
    for r in range(4 * quarter, len(weight)):
        for j in range(t):
            total = ZERO
            for i in range(x.shape[1]):
                total += weight[r, i] * x[j, i]
            y[j, r] = total


@njit
def _score(q: Array, keys: Array, start: int, rows: int, scores: Array, column: int) -> None:
    """q [S, hd], keys [len, hd] -> scores [S, COMPILED_BLOCK] of the positions from `start`, from `column` on.

    rows: a multiple of 4.
    """
    n, width = q.shape
    flat, queries, out = keys.reshape(-1), q.reshape(-1), scores.reshape(-1)
    for row in range(0, rows, 4):
        a = (start + row) * width
        b, c, d = a + width, a + 2 * width, a + 3 * width
        for i in range(0, 4 * width, LANES):
            prefetch(flat, a + i + AHEAD)
        for s in range(0, n, 2):
            ya = yb = yc = yd = za = zb = zc = zd = splat(ZERO)
            for i in range(0, width, LANES):
                y, z = load(queries, s * width + i), load(queries, (s + 1) * width + i)
                k = load(flat, a + i)
                ya, za = multiply_add(k, y, ya), multiply_add(k, z, za)
                k = load(flat, b + i)
                yb, zb = multiply_add(k, y, yb), multiply_add(k, z, zb)
                k = load(flat, c + i)
                yc, zc = multiply_add(k, y, yc), multiply_add(k, z, zc)
                k = load(flat, d + i)
                yd, zd = multiply_add(k, y, yd), multiply_add(k, z, zd)
            store_sums(out, s * COMPILED_BLOCK + column + row, ya, yb, yc, yd)
            store_sums(out, (s + 1) * COMPILED_BLOCK + column + row, za, zb, zc, zd)


@njit
def _mix(p: Array, column: int, values: Array, start: int, rows: int, mixed: Array) -> None:
    """mixed [S, hd] += p [S, COMPILED_BLOCK] from `column` on @ values [len, hd] of the positions from `start`.

    rows: a multiple of 4.
    """
    n, width = mixed.shape
    flat, w, out = values.reshape(-1), p.reshape(-1), mixed.reshape(-1)
    for row in range(0, rows, 4):
        a = (start + row) * width
        b, c, d = a + width, a + 2 * width, a + 3 * width
        for i in range(0, 4 * width, LANES):
            prefetch(flat, a + i + AHEAD)
        for s in range(0, n, 2):
            f = s * COMPILED_BLOCK + column + row
            h = f + COMPILED_BLOCK
            ya, yb, yc, yd = splat(w[f]), splat(w[f + 1]), splat(w[f + 2]), splat(w[f + 3])
            za, zb, zc, zd = splat(w[h]), splat(w[h + 1]), splat(w[h + 2]), splat(w[h + 3])
            for i in range(0, width, LANES):
                y, z = load(out, s * width + i), load(out, (s + 1) * width + i)
                v = load(flat, a + i)
                y, z = multiply_add(ya, v, y), multiply_add(za, v, z)
                v = load(flat, b + i)
                y, z = multiply_add(yb, v, y), multiply_add(zb, v, z)
                v = load(flat, c + i)
                y, z = multiply_add(yc, v, y), multiply_add(zc, v, z)
                v = load(flat, d + i)
                y, z = multiply_add(yd, v, y), multiply_add(zd, v, z)
                store(out, s * width + i, y)
                store(out, (s + 1) * width + i, z)


@njit
def _softmax(scores: Array, highest: Array, sums: Array, mixed: Array) -> None:
    """One block of online softmax: scores [S, COMPILED_BLOCK] become weights, and sums before are scaled to them."""
    n, width = mixed.shape
    flat, out = scores.reshape(-1), mixed.reshape(-1)
    for s in range(n):
        first = s * COMPILED_BLOCK
        top = load(flat, first)
        for i in range(LANES, COMPILED_BLOCK, LANES):
            top = larger(load(flat, first + i), top)
        high = max(highest[s], largest(top))
        factor = np.float32(math.exp(highest[s] - high))
        highest[s] = high
        total = splat(ZERO)
        for i in range(first, first + COMPILED_BLOCK, LANES):
            p = exponential(multiply_add(splat(high), splat(-ONE), load(flat, i)))
            store(flat, i, p)
            total = multiply_add(p, splat(ONE), total)
        sums[s] = sums[s] * factor + summed(total)
        if factor != ONE:
            for i in range(s * width, (s + 1) * width, LANES):
                store(out, i, multiply(load(out, i), splat(factor)))


@njit([types.void(_READ[3], _READ[3], _READ[3], types.intp, _WRITE[3])], cache=True)
def attend(q: Array, keys: Array, values: Array, length: int, mixed: Array) -> None:
    """softmax(q @ keysᵀ) @ values: [n, S, hd], [n, room, hd], [n, room, hd] -> mixed [n, S, hd].

    The first `length` positions count. hd: a multiple of 16. Online softmax (Milakov & Gimelshein 2018) over blocks of
    positions: keys and values are read once from memory, and no more than one block's scores exist.
    """
    n, s, width = q.shape
    pairs = s + s % 2  # queries go by two: the last one may be zeros
    queries, sums_of = np.zeros((pairs, width), np.float32), np.empty((pairs, width), np.float32)
    scores = np.empty((pairs, COMPILED_BLOCK), np.float32)
    highest, sums = np.empty(pairs, np.float32), np.empty(pairs, np.float32)
    whole = length // 4 * 4  # rows go by four: the last ones are filled up with zeros
    last_keys, last_values = np.zeros((4, width), np.float32), np.zeros((4, width), np.float32)
    for g in range(n):
        queries[:s] = q[g]
        highest[:], sums[:], sums_of[:] = -np.inf, ZERO, ZERO
        last_keys[: length - whole], last_values[: length - whole] = keys[g, whole:length], values[g, whole:length]
        for start in range(0, length, COMPILED_BLOCK):
            rows = min(COMPILED_BLOCK, length - start)
            fours = rows // 4 * 4
            _score(queries, keys[g], start, fours, scores, 0)
            if fours < rows:
                _score(queries, last_keys, 0, 4, scores, fours)
            scores[:, rows:] = -np.inf
            _softmax(scores, highest, sums, sums_of)
            _mix(scores, 0, values[g], start, fours, sums_of)
            if fours < rows:
                _mix(scores, fours, last_values, 0, 4, sums_of)
        for i in range(s):
            mixed[g, i] = sums_of[i] / sums[i]


@njit([types.void(_WRITE[2], types.intp, types.intp, _WRITE[1])], cache=True)
def causal_softmax(scores: Array, seen: int, rows: int, sums: Array) -> None:
    """Exponentials of scores [m, width] in place, and their sums [m]; width: a multiple of 16, at least `seen`.

    `rows` queries stand at the last of `seen` positions, m / rows times: none has a weight where a later one stands.
    """
    flat = scores.reshape(-1)
    m, width = scores.shape
    for r in range(m):
        own = seen - rows + r % rows + 1
        first, stop = r * width, r * width + (own + LANES - 1) // LANES * LANES
        scores[r, own:] = -np.inf
        top = load(flat, first)
        for i in range(first + LANES, stop, LANES):
            top = larger(load(flat, i), top)
        high = splat(largest(top))
        total = splat(ZERO)
        for i in range(first, stop, LANES):
            p = exponential(multiply_add(high, splat(-ONE), load(flat, i)))
            store(flat, i, p)
            total = multiply_add(p, splat(ONE), total)
        scores[r, own:] = ZERO
        sums[r] = summed(total)


@njit([types.void(_WRITE[2])], cache=True)
def swiglu(hidden: Array) -> None:
    """SiLU of the first half of each row times the second, in place of the first: [t, 2*F]; F: a multiple of 16."""
    flat = hidden.reshape(-1)
    t, both = hidden.shape
    for r in range(t):
        for i in range(r * both, r * both + both // 2, LANES):
            gate = load(flat, i)
            sigmoid = divide(splat(ONE), multiply_add(exponential(negative(gate)), splat(ONE), splat(ONE)))
            store(flat, i, multiply(multiply(gate, sigmoid), load(flat, i + both // 2)))
