"""RMSNorm and LayerNorm. Knows one vector of weights; no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeemu_kernels.linear import Array
from edgeemu_kernels.shape import Norm as NormKind


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Norm over the last axis: RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016)."""

    kind: NormKind
    weight: Array  # [D]
    bias: Array | None  # [D]; LayerNorm only
    eps: float

    @property
    def weight_bytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def forward(self, x: Array) -> Array:
        """Normalize rows: [t, D] -> [t, D], a new array."""
        out = standardised(x, self.kind, self.eps)  # [t, D]
        out *= self.weight
        if self.bias is not None:
            out += self.bias
        return out

    def scaled(self, x: Array) -> Array:
        """Apply the norm's weights to rows that are `standardised` already: [t, D] -> [t, D], a new array."""
        out: Array = x * self.weight  # [t, D]
        if self.bias is not None:
            out += self.bias
        return out


def standardised(x: Array, kind: NormKind, eps: float) -> Array:
    """Standardize rows without weights: to a root mean square of 1, for LayerNorm also to a mean of 0.

    [t, D] -> [t, D], a new array. Devices that share the rows of a sequence do this each for its own rows: no number
    depends on other rows.
    """
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)  # [t, D]
    width = x.shape[-1]
    out: Array
    if len(x) == 1:  # the same numbers as below, in a third of the time
        row = x[0]  # [D]
        out = x * np.float32(1.0 / math.sqrt(float(row.dot(row)) / width + eps))  # [1, D]
    else:
        mean_square = np.vecdot(x, x).astype(np.float64) / width  # [t]
        out = x * (1.0 / np.sqrt(mean_square + eps)).astype(np.float32)[:, None]  # [t, D]
    return out
