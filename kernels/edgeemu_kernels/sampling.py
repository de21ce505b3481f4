"""Sampling of a token from logits. Knows no model, keeps no state: the block that samples can move between devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.linear import Array


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling options. Temperature 0 is greedy. `top_k` 0 and `top_p` 1 keep every token; top_k is applied first."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be at least 0, not {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")


GREEDY = Sampling()


class LogitsError(ArithmeticError):
    """Raised for logits that are not finite: the model computes no numbers, so it has no next token."""


def uniform(seed: int, step: int) -> float:
    """Uniform random number in [0, 1) that depends only on (seed, step)."""
    return float(np.random.Generator(np.random.PCG64([seed, step])).random())


def probabilities(logits: Array, sampling: Sampling) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tokens that can be sampled, most likely first (lower id first in a tie), and their probabilities."""
    ids: NDArray[np.int64]
    if 0 < sampling.top_k < len(logits):
        kth = np.partition(logits, -sampling.top_k)[-sampling.top_k]  # the k-th greatest logit
        ids = np.flatnonzero(logits >= kth)  # k of them, or more in a tie
    else:
        ids = np.arange(len(logits))
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    if sampling.top_k:
        ids = ids[: sampling.top_k]
    below = logits[ids].astype(np.float64) - logits[ids[0]]  # 0 and downwards
    with np.errstate(over="ignore", under="ignore"):  # a temperature near 0 makes -inf, and a weight of 0
        weights = np.exp(below / sampling.temperature)
    weights /= weights.sum()
    if sampling.top_p < 1:
        keep = int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1  # the fewest that reach top_p
        ids, weights = ids[:keep], weights[:keep] / weights[:keep].sum()
    return ids, weights


def sample(logits: Array, sampling: Sampling, step: int) -> int:
    """Sample a token id from logits [vocab].

    The result depends on (seed, step) and the logits only. Greedy takes the lowest id in a tie. Raises LogitsError if
    a logit is NaN or the greatest is infinite.
    """
    best = int(logits.argmax())  # the first NaN, if there is one
    if not math.isfinite(logits[best]):
        raise LogitsError(
            f"logits of token {step} (from 0) are not finite ({logits[best]}): the model's weights or its "
            "hyperparameters are damaged, or too large for 32-bit floats"
        )
    if sampling.temperature == 0 or sampling.top_k == 1:
        return best
    ids, weights = probabilities(logits, sampling)
    drawn = int(np.searchsorted(np.cumsum(weights), uniform(sampling.seed, step), side="right"))
    return int(ids[min(drawn, len(ids) - 1)])
