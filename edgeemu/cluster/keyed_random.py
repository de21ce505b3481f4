"""Random draws that depend on a seed and on names alone. No state: adding a device changes no other one's draws.

A draw is a function of a uniform number in (0, 1), which is a hash of the seed and of what is drawn (BLAKE2b).
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_NORMAL = NormalDist()
_SIGMAS = 2.0  # low and high of a log-normal lie this many standard deviations from its median
_BELOW = _NORMAL.cdf(-_SIGMAS)


def uniform(seed: int, *names: str) -> float:
    """A number in (0, 1): always the same for the same seed and names."""
    text = "\0".join((str(seed), *names)).encode()
    return (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") + 0.5) / 2**64


def pair_uniforms(seed: int, kind: str, a: Sequence[str], b: Sequence[str], field: str) -> FloatArray:
    """`uniform(seed, kind, first, second, field)` for every name of `a` with every one of `b`, sorted.

    [len(a), len(b)]. The same for (x, y) and (y, x), and drawn once where `a` and `b` are the same.
    """
    start = f"{seed}\0{kind}\0"
    if a != b:
        texts = [f"{start}{min(x, y)}\0{max(x, y)}\0{field}".encode() for x in a for y in b]
        return _uniforms(texts).reshape(len(a), len(b))
    order = sorted(range(len(a)), key=a.__getitem__)
    ends = [f"{a[i]}\0{field}".encode() for i in order]
    found = np.zeros((len(a), len(a)))  # in order
    for row, i in enumerate(order):
        beginning = f"{start}{a[i]}\0".encode()
        found[row, row + 1 :] = _uniforms([beginning + end for end in ends[row + 1 :]])
    found += found.T
    place = np.argsort(order)
    return found[np.ix_(place, place)]


def way_uniforms(seed: int, kind: str, a: Sequence[str], b: Sequence[str], field: str) -> FloatArray:
    """`uniform(seed, kind, x, "to", y, field)` for every x of `a` and y of `b`: [len(a), len(b)]."""
    texts = [f"{seed}\0{kind}\0{x}\0to\0{y}\0{field}".encode() for x in a for y in b]
    return _uniforms(texts).reshape(len(a), len(b))


def _uniforms(texts: Sequence[bytes]) -> FloatArray:
    digests = b"".join([blake2b(text, digest_size=8).digest() for text in texts])
    found: FloatArray = (np.frombuffer(digests, ">u8").astype(np.float64) + 0.5) / 2.0**64
    return found


def course_seed(seed: int, *names: str) -> int:
    """A seed of its own for a random course (`edgeemu.cluster.variation`), below 2^63."""
    text = "\0".join((str(seed), "course", *names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def draw_uniform(u: float, low: float, high: float) -> float:
    """Uniform from `low` to `high`."""
    return min(max(low + u * (high - low), low), high)


def draw_uniforms(u: FloatArray, low: float, high: float) -> FloatArray:
    """`draw_uniform` of each."""
    return np.minimum(np.maximum(low + u * (high - low), low), high)


def draw_lognormals(u: FloatArray, low: float, high: float) -> FloatArray:
    """`draw_lognormal` of each: by the same functions, because NumPy's may differ in the last bit."""
    drawn = [draw_lognormal(each, low, high) for each in u.ravel().tolist()]
    return np.array(drawn, np.float64).reshape(u.shape)


def draw_lognormal(u: float, low: float, high: float) -> float:
    """Log-normal between `low` and `high`, which must be more than zero.

    The median is sqrt(low * high), and low and high lie two standard deviations below and above it (of the
    logarithm); a value outside is drawn again. That is [D] of the head-level paper's "log-normal within 5-50
    GFLOPS" (arXiv 2505.02533), which names the range only. Drawing again until a value is inside gives the
    truncated distribution, and that is drawn here directly, by its inverse.
    """
    sigma = log(high / low) / (2 * _SIGMAS)
    z = _NORMAL.inv_cdf(_BELOW + u * (1 - 2 * _BELOW))
    return min(max(sqrt(low * high) * exp(sigma * z), low), high)
