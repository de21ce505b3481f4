"""The blocks without a cache: embedding, projection, feed-forward, output. Each knows its own weights only.

`proj` and `ffn` add the residual themselves: what leaves them is the stream that the next block reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.linear import Array, linear
from edgeemu_kernels.norms import Norm

GELU_SCALE = np.float32((2 / np.pi) ** 0.5)  # Hendrycks & Gimpel 2016, the tanh form that GPT-2 uses
GELU_CUBIC = np.float32(0.044715)
HALF = np.float32(0.5)
ONE = np.float32(1)


def silu_inplace(x: Array) -> Array:
    """x * sigmoid(x) as x/2 * (1 + tanh(x/2)), which cannot overflow; returns x."""
    x *= HALF
    gate = np.tanh(x)
    gate += ONE
    x *= gate
    return x


def gelu_inplace(x: Array) -> Array:
    """x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x³))); returns x."""
    inner = x * x
    inner *= GELU_CUBIC
    inner += ONE
    inner *= x
    inner *= GELU_SCALE
    np.tanh(inner, out=inner)
    inner += ONE
    x *= HALF
    x *= inner
    return x


def _nbytes(*arrays: Array | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Embed:
    """Token embedding, with learned positions where the model has them."""

    table: Array  # [vocab, D]
    positions: Array | None = None  # [max_context, D]

    @property
    def weight_bytes(self) -> int:
        return _nbytes(self.table, self.positions)

    def forward(self, ids: NDArray[np.integer] | list[int], position: int) -> Array:
        """ids [t], the first at `position` -> [t, D]. ValueError beyond the last learned position."""
        rows: Array = self.table[np.asarray(ids, np.int64)]  # [t, D]
        if self.positions is not None:
            if position + len(rows) > len(self.positions):
                raise ValueError(f"position {position + len(rows) - 1} of a model with {len(self.positions)} positions")
            rows += self.positions[position : position + len(rows)]
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Proj:
    """Output projection of the attention."""

    weight: Array  # [D, n_heads*hd]
    bias: Array | None = None  # [D]

    @property
    def weight_bytes(self) -> int:
        return _nbytes(self.weight, self.bias)

    def forward(self, attn: Array, x: Array) -> Array:
        """All groups' outputs in order [t, n_heads*hd] and the residual x [t, D] -> [t, D]."""
        y = linear(attn, self.weight, self.bias)  # [t, D]
        y += x
        return y


@dataclass(frozen=True, slots=True, eq=False)
class Ffn:
    """Norm and feed-forward: SwiGLU (Shazeer 2020), gate and up stacked in one matrix, or GELU."""

    norm: Norm
    gated: bool
    up: Array  # [2*F, D] gate above up if gated, else [F, D]
    down: Array  # [D, F]
    up_bias: Array | None = None  # [2*F] or [F]
    down_bias: Array | None = None  # [D]

    @property
    def weight_bytes(self) -> int:
        return self.norm.weight_bytes + _nbytes(self.up, self.down, self.up_bias, self.down_bias)

    def forward(self, x: Array) -> Array:
        """[t, D] -> [t, D], the residual added."""
        hidden = linear(self.norm.forward(x), self.up, self.up_bias)  # [t, 2*F] or [t, F]
        if self.gated:
            width = self.down.shape[1]
            linear_part = hidden[:, width:]  # [t, F]
            hidden = silu_inplace(hidden[:, :width])  # [t, F]
            hidden *= linear_part
        else:
            gelu_inplace(hidden)
        y = linear(hidden, self.down, self.down_bias)  # [t, D]
        y += x
        return y


@dataclass(frozen=True, slots=True, eq=False)
class LmHead:
    """Final norm and output matrix."""

    norm: Norm
    weight: Array  # [vocab, D]; the embedding's own table if the model ties them and both are here
    shared: bool = False  # the weight belongs to an Embed on this device, and is counted there

    @property
    def weight_bytes(self) -> int:
        return self.norm.weight_bytes + (0 if self.shared else self.weight.nbytes)

    def forward(self, x: Array) -> Array:
        """[D] -> logits [vocab], or [t, D] -> [t, vocab]."""
        logits = linear(self.norm.forward(x.reshape(-1, x.shape[-1])), self.weight)  # [t, vocab]
        return logits[0] if x.ndim == 1 else logits
