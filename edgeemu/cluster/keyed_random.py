"""Random numbers that depend on a seed and on a key alone. No state: adding a device changes no other one's numbers.

Every number is a BLAKE2b hash. `uniform` takes names as its key, for values that are sampled once; `block` takes
integers, for the steps of a random process and for messages. A value is a function of a uniform number in (0, 1).
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import exp, log, sqrt
from statistics import NormalDist
from struct import pack, unpack

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_NORMAL = NormalDist()
_SIGMAS = 2.0  # low and high of a log-normal lie this many standard deviations from its median
_BELOW = _NORMAL.cdf(-_SIGMAS)


def block(seed: int, *key: int) -> tuple[int, ...]:
    """Eight independent integers in [0, 2^53): a counter-based generator with `key` as the counter.

    `seed` must be in [0, 2^63), and every number of the key fit 64 bits with a sign.
    """
    digest = blake2b(pack(f"<{len(key)}q", *key), digest_size=64, key=pack("<q", seed)).digest()
    return tuple(word >> 11 for word in unpack("<8Q", digest))


def uniform(seed: int, *names: str) -> float:
    """A number in (0, 1), a function of the seed and the names alone."""
    return (int.from_bytes(_hash(_text(seed, *names)), "big") + 0.5) / 2**64


def pair_uniforms(seed: int, kind: str, a: Sequence[str], b: Sequence[str], field: str) -> FloatArray:
    """`uniform(seed, kind, first, second, field)` of every name of `a` with every one of `b`, the two sorted.

    [len(a), len(b)]. Symmetric: one number for (x, y) and (y, x), hashed once where `a` equals `b`.
    """
    if a != b:
        texts = [_text(seed, kind, min(x, y), max(x, y), field) for x in a for y in b]
        return _uniforms(texts).reshape(len(a), len(b))
    order = sorted(range(len(a)), key=a.__getitem__)
    ends = [f"{a[i]}\0{field}".encode() for i in order]
    found = np.zeros((len(a), len(a)))  # in order
    for row, i in enumerate(order):
        beginning = f"{seed}\0{kind}\0{a[i]}\0".encode()
        found[row, row + 1 :] = _uniforms([beginning + end for end in ends[row + 1 :]])
    found += found.T
    place = np.argsort(order)
    return found[np.ix_(place, place)]


def directed_uniforms(seed: int, kind: str, a: Sequence[str], b: Sequence[str], field: str) -> FloatArray:
    """`uniform(seed, kind, x, "to", y, field)` for every x of `a` and y of `b`: [len(a), len(b)]."""
    texts = [_text(seed, kind, x, "to", y, field) for x in a for y in b]
    return _uniforms(texts).reshape(len(a), len(b))


def variation_seed(seed: int, *names: str) -> int:
    """A seed in [0, 2^63) for one random process (`edgeemu.cluster.variation`)."""
    return int.from_bytes(_hash(_text(seed, "course", *names)), "big") >> 1  # the word is part of every sampled value


def _text(seed: int, *names: str) -> bytes:
    return "\0".join((str(seed), *names)).encode()


def _hash(text: bytes) -> bytes:
    """64 bits, big-endian."""
    return blake2b(text, digest_size=8).digest()


def _uniforms(texts: Sequence[bytes]) -> FloatArray:
    digests = b"".join([_hash(text) for text in texts])
    found: FloatArray = (np.frombuffer(digests, ">u8").astype(np.float64) + 0.5) / 2.0**64
    return found


def draw_uniform(u: float, low: float, high: float) -> float:
    """Uniform from `low` to `high`."""
    return min(max(low + u * (high - low), low), high)


def draw_uniforms(u: FloatArray, low: float, high: float) -> FloatArray:
    """`draw_uniform` of each element."""
    return np.minimum(np.maximum(low + u * (high - low), low), high)


def draw_lognormals(u: FloatArray, low: float, high: float) -> FloatArray:
    """`draw_lognormal` of each element, by the same functions, because NumPy's may differ in the last bit."""
    drawn = [draw_lognormal(each, low, high) for each in u.ravel().tolist()]
    return np.array(drawn, np.float64).reshape(u.shape)


def draw_lognormal(u: float, low: float, high: float) -> float:
    """Log-normal between `low` and `high`, which must be more than zero.

    The median is sqrt(low * high), and low and high lie two standard deviations below and above it (of the
    logarithm). Values outside are cut off: the distribution is truncated to the range, and sampled by its inverse.
    That is [D] of the head-level paper's "log-normal within 5-50 GFLOPS" (arXiv 2505.02533), which names the range
    only.
    """
    sigma = log(high / low) / (2 * _SIGMAS)
    z = _NORMAL.inv_cdf(_BELOW + u * (1 - 2 * _BELOW))
    return min(max(sqrt(low * high) * exp(sigma * z), low), high)
