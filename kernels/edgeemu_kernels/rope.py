"""Rotary position embedding in both conventions, with linear and Llama 3's scaling. Knows angles; no weights.

Su et al. 2021, "RoFormer".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.arrays import Array, Turns
from edgeemu_kernels.shape import ModelShape, RopeScaling

FIRST_ROWS = 256  # the table starts this long and doubles: a device pays for the positions it has seen


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, linear_factor: float = 1.0
) -> NDArray[np.float64]:
    """Radians per position of each rotated pair, [head_dim / 2], in float64.

    Linear scaling (Chen et al. 2023, "Extending Context Window … via Positional Interpolation") divides positions,
    which is to divide all frequencies. `scaling` is as in Llama 3.1's reference code (`apply_scaling` in
    meta-llama/llama-models): short wavelengths stay, long ones are slowed by `factor`, and those between are
    interpolated.
    """
    freqs = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim) / linear_factor  # [hd/2]
    if scaling is None:
        return freqs
    turns = scaling.original_context * freqs / (2 * math.pi)  # rotations within the original context, [hd/2]
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 0: slowed, 1: unchanged
    return (1 - smooth) * freqs / scaling.factor + smooth * freqs


class Rope:
    """Rotation of every query and key of a model by its position.

    One object serves all layers of a device.
    """

    def __init__(self, shape: ModelShape) -> None:
        self.interleaved = shape.positions == "rope-interleaved"
        self._frequencies = frequencies(shape.head_dim, shape.rope_theta, shape.rope_scaling, shape.rope_linear_factor)
        self._table: Turns = np.empty((0, shape.head_dim // 2), np.complex64)

    @property
    def nbytes(self) -> int:
        return self._table.nbytes

    def rotate(self, x: Array, position: int) -> None:
        """Rotate x [t, n, head_dim] in place; row i stands at `position + i`."""
        turns = self.turns(position, position + len(x))[:, None]  # [t, 1, hd/2] complex
        if self.interleaved:
            pairs = x.view(np.complex64)  # [t, n, hd/2]: the pair (0, 1) is one complex number
            pairs *= turns
            return
        half = x.shape[-1] // 2
        pairs = x[..., :half] + np.complex64(1j) * x[..., half:]  # [t, n, hd/2]: the pair (i, i + hd/2)
        pairs *= turns
        x[..., :half] = pairs.real
        x[..., half:] = pairs.imag

    def turns(self, start: int, stop: int) -> Turns:
        """Factors of the pairs at these positions, [stop - start, hd/2]. Not to be changed."""
        if stop > len(self._table):
            rows = max(FIRST_ROWS, 2 * len(self._table), stop)
            angles = np.arange(rows, dtype=np.float64)[:, None] * self._frequencies  # [rows, hd/2]
            self._table = np.exp(1j * angles).astype(np.complex64)
        return self._table[start:stop]
