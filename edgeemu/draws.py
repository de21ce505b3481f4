"""Random draws that depend on a seed and on names alone. No state: adding a device changes no other one's draws.

A draw is a function of a uniform number in (0, 1), which is a hash of the seed and of what is drawn (BLAKE2b).
"""

from hashlib import blake2b
from math import exp, log, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
_SIGMAS = 2.0  # low and high of a log-normal lie this many standard deviations from its median
_BELOW = _NORMAL.cdf(-_SIGMAS)


def uniform(seed: int, *names: str) -> float:
    """A number in (0, 1): always the same for the same seed and names."""
    text = "\0".join((str(seed), *names)).encode()
    return (int.from_bytes(blake2b(text, digest_size=8).digest(), "big") + 0.5) / 2**64


def course_seed(seed: int, *names: str) -> int:
    """A seed of its own for a random course (`edgeemu.variation`), below 2^63."""
    text = "\0".join((str(seed), "course", *names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def draw_uniform(u: float, low: float, high: float) -> float:
    """Uniform from `low` to `high`."""
    return min(max(low + u * (high - low), low), high)


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
