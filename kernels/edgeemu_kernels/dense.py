"""Blocks without a cache: embedding, projection, feed-forward, output matrix. Each knows only its own weights.

`proj` and `ffn` add the residual themselves: their result is the residual stream that the next block reads. Divided,
they give partial sums, and the device that adds these also adds the residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.compiled_sizes import COMPILED_BYTES, COMPILED_LANES
from edgeemu_kernels.linear import Array, Crossing, Matrix, linear, linear_in_parts, partial_sum
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.on_demand import compiled_kernels, order_free_sums
from edgeemu_kernels.packed import PackedMatrix, Stored, columns_of, matrix_of, raw_of
from edgeemu_kernels.precision import NumberFormat
from edgeemu_kernels.shape import ModelShape

GELU_SCALE = np.float32((2 / np.pi) ** 0.5)  # Hendrycks & Gimpel 2016, the tanh form that GPT-2 uses
GELU_CUBIC = np.float32(0.044715)
HALF = np.float32(0.5)
ONE = np.float32(1)


def silu_inplace(x: Array) -> Array:
    """SiLU in place: x * sigmoid(x) as x/2 * (1 + tanh(x/2)), which cannot overflow; returns x."""
    x *= HALF
    gate = np.tanh(x)
    gate += ONE
    x *= gate
    return x


def swiglu_inplace(x: Array, *, compiled: bool) -> Array:
    """SwiGLU in place, gate before up: [t, 2*F] -> [t, F], a view of the first half. In one pass if `compiled`."""
    width = x.shape[1] // 2
    gate, up = x[:, :width], x[:, width:]  # [t, F]
    if compiled and width % COMPILED_LANES == 0:
        compiled_kernels().swiglu(x)
        return gate
    silu_inplace(gate)
    gate *= up
    return gate


def gelu_inplace(x: Array) -> Array:
    """GELU in place: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x³))); returns x."""
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


def _nbytes(*arrays: Matrix | None) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Embed:
    """Token embedding, with learned positions where the model has them."""

    table: Matrix  # [vocab, D]
    positions: Array | None = None  # [max_context, D]

    @property
    def weight_bytes(self) -> int:
        return _nbytes(self.table, self.positions)

    def forward(self, ids: NDArray[np.integer] | list[int], position: int) -> Array:
        """Embed ids [t], the first at `position` -> [t, D]. Raises ValueError beyond the last learned position."""
        at = np.asarray(ids, np.int64)
        rows = self.table.take(at) if isinstance(self.table, PackedMatrix) else self.table[at]  # [t, D]
        if self.positions is not None:
            if position + len(rows) > len(self.positions):
                raise ValueError(f"position {position + len(rows) - 1} of a model with {len(self.positions)} positions")
            rows += self.positions[position : position + len(rows)]
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Proj:
    """Output projection of the attention: undivided, or its columns of some KV groups.

    The partial sums of all groups add up to the undivided result. The bias belongs to group 0, to be added once.
    """

    weight: Matrix  # [D, n*group_dim] of n groups, all of them or those of `groups`; or some rows of the whole
    bias: Array | None = None  # [D], or of these rows
    groups: tuple[int, ...] | None = None  # None: the whole
    part: int | None = None  # columns of a group where sums must not depend on the division, see `order_free`

    @property
    def weight_bytes(self) -> int:
        return _nbytes(self.weight, self.bias)

    def forward(self, attn: Array, x: Array) -> Array:
        """Project all groups' outputs in order [t, n_heads*hd] and add the residual x [t, D] -> [t, D]."""
        return linear_in_parts(attn, self.weight, self.bias, self.part, x)

    def product(self, attn: Array) -> Array:
        """Project outputs of the held groups [t, n*group_dim] -> [t, D], without the residual.

        With some rows of the whole: outputs of all groups -> these columns of the result.
        """
        return linear_in_parts(attn, self.weight, self.bias, self.part)

    def partial(self, attn: Array) -> Crossing:
        """Project outputs of the held groups [t, n*group_dim] -> their partial sum, as it crosses [t, D]."""
        return partial_sum(attn, self.weight, self.bias, self.part)

    def at(self, shape: ModelShape) -> Proj:
        """Return the projection as the model's precision wants it computed, with its arrays."""
        return replace(self, part=shape.group_dim) if shape.precision.order_free else self

    def group_weights(self, group: int) -> tuple[Stored, ...]:
        """Views of what holds one group's weight [D, group_dim] and, for group 0, of the bias [D]."""
        assert self.groups is not None
        width = self.weight.shape[1] // len(self.groups)
        i = self.groups.index(group)
        weight = raw_of(columns_of(self.weight, slice(i * width, (i + 1) * width)))
        return (weight,) if self.bias is None or group else (weight, self.bias)

    def divided(self, n_groups: int) -> Proj:
        """All groups of an undivided projection as a shard, with its arrays."""
        assert self.groups is None
        return replace(self, groups=tuple(range(n_groups)))

    def joined(self) -> Proj:
        """Undivided projection of a shard that has all groups, in order; with its arrays."""
        assert self.groups == tuple(range(len(self.groups or ())))
        return replace(self, groups=None)

    @classmethod
    def from_groups(cls, parts: Mapping[int, Sequence[Stored]], form: NumberFormat) -> Proj:
        """Shard with copies of the given groups' weights, in the mapping's order. `form` is the weight's format."""
        weight = np.concatenate([arrays[0] for arrays in parts.values()], axis=1)  # [D, n*group_dim]
        biases = [arrays[1].view(np.float32).copy() for arrays in parts.values() if len(arrays) > 1]
        return cls(matrix_of(weight, form), biases[0] if biases else None, tuple(parts))


@dataclass(frozen=True, slots=True, eq=False)
class Ffn:
    """Norm and feed-forward: SwiGLU (Shazeer 2020), gate and up stacked in one matrix, or GELU.

    Undivided, or some of its units: columns of the inner width. The partial sums of all units add up to the undivided
    result; the bias of the second product belongs to unit 0. F: number of held columns.
    """

    norm: Norm
    gated: bool
    up: Matrix  # [2*F, D] gate above up if gated, else [F, D]
    down: Matrix  # [D, F]; or some rows of the whole
    up_bias: Array | None = None  # [2*F] or [F]
    down_bias: Array | None = None  # [D], or of these rows
    units: tuple[int, ...] | None = None  # None: the whole
    part: int | None = None  # columns of a unit where sums must not depend on the division, see `order_free`

    @property
    def weight_bytes(self) -> int:
        return self.norm.weight_bytes + _nbytes(self.up, self.down, self.up_bias, self.down_bias)

    def forward(self, x: Array) -> Array:
        """Feed-forward with the residual added: [t, D] -> [t, D]."""
        return linear_in_parts(self.inner(self.norm.forward(x)), self.down, self.down_bias, self.part, x)

    def partial(self, normed: Array) -> Crossing:
        """Feed-forward of normed rows [t, D] -> the held columns' partial sum, as it crosses [t, D]."""
        return self.outer_partial(self.inner(normed))

    def at(self, shape: ModelShape) -> Ffn:
        """Return the feed-forward as the model's precision wants it computed, with its arrays."""
        return replace(self, part=shape.ffn_unit_dim) if shape.precision.order_free else self

    def inner(self, normed: Array) -> Array:
        """First product and activation: normed rows [t, D] -> the held inner columns [t, F]."""
        if self.part is None:
            hidden, compiled = linear(normed, self.up, self.up_bias), self.up.nbytes > COMPILED_BYTES
        else:
            hidden, compiled = order_free_sums().product(normed, self.up, self.up_bias), not self.part % COMPILED_LANES
        if self.gated:  # [t, 2*F] -> [t, F]
            hidden = swiglu_inplace(hidden, compiled=compiled)
        else:
            gelu_inplace(hidden)
        return hidden

    def outer(self, hidden: Array) -> Array:
        """Second product: [t, F] -> [t, D]. With some rows of the whole matrix: all columns -> these of the result."""
        return linear_in_parts(hidden, self.down, self.down_bias, self.part)

    def outer_partial(self, hidden: Array) -> Crossing:
        """Second product as it crosses to a device that adds it: [t, F] -> [t, D], or columns as of `outer`."""
        return partial_sum(hidden, self.down, self.down_bias, self.part)

    def unit_weights(self, unit: int) -> tuple[Stored, ...]:
        """Views of what holds one unit of a shard: up, down, then the biases (the second is unit 0's)."""
        assert self.units is not None
        i, n = self.units.index(unit), len(self.units)
        columns = self.down.shape[1] // n
        up = self._halves(raw_of(self.up), n)[:, i]  # [2 or 1, columns, D] gate before up, as in the whole
        arrays = [up, raw_of(columns_of(self.down, slice(i * columns, (i + 1) * columns)))]  # [D, columns]
        if self.up_bias is not None:
            arrays.append(self._halves(self.up_bias, n)[:, i])  # [2 or 1, columns]
        if self.down_bias is not None and not unit:
            arrays.append(self.down_bias)
        return tuple(arrays)

    def _halves(self, stacked: Stored, n_units: int) -> Stored:
        """[2*F or F, …] -> [2 or 1, n_units, columns, …]"""
        return stacked.reshape(2 if self.gated else 1, n_units, -1, *stacked.shape[1:])

    def divided(self, n_units: int) -> Ffn:
        """All units of an undivided feed-forward as a shard, with its arrays."""
        assert self.units is None
        return replace(self, units=tuple(range(n_units)))

    def joined(self) -> Ffn:
        """Undivided feed-forward of a shard that has all units, in order; with its arrays."""
        assert self.units == tuple(range(len(self.units or ())))
        return replace(self, units=None)

    @classmethod
    def from_units(
        cls,
        norm: Norm,
        gated: bool,
        parts: Mapping[int, Sequence[Stored]],
        up_form: NumberFormat,
        down_form: NumberFormat,
    ) -> Ffn:
        """Shard with copies of the given units' weights, in the mapping's order; matrices of these formats.

        Their arrays are as `unit_weights` gives them, or flat: gate above up, [halves*columns, D] and [halves*columns].
        """

        halves = 2 if gated else 1
        ups = [part[0].reshape(halves, -1, part[0].shape[-1]) for part in parts.values()]  # [halves, columns, D] each
        up = np.concatenate(ups, axis=1)  # [halves, F, D]
        down = np.concatenate([part[1] for part in parts.values()], axis=1)  # [D, F]
        biases = [part[2].view(np.float32).reshape(halves, -1) for part in parts.values() if len(part) > 2]
        up_bias = np.concatenate(biases, axis=1).ravel() if biases else None  # [halves*F]
        last = [part[3].view(np.float32).copy() for part in parts.values() if len(part) > 3]
        matrices = matrix_of(up.reshape(-1, up.shape[-1]), up_form), matrix_of(down, down_form)
        return cls(norm, gated, *matrices, up_bias, last[0] if last else None, tuple(parts))


@dataclass(frozen=True, slots=True, eq=False)
class LmHead:
    """Final norm and output matrix."""

    norm: Norm
    weight: Matrix  # [vocab, D]; the embedding's own table if the model ties them and both are here
    shared: bool = False  # the weight belongs to an Embed on this device, and is counted there

    @property
    def weight_bytes(self) -> int:
        return self.norm.weight_bytes + (0 if self.shared else self.weight.nbytes)

    def forward(self, x: Array) -> Array:
        """Logits of a row [D] -> [vocab], or of rows [t, D] -> [t, vocab]."""
        logits = linear(self.norm.forward(x.reshape(-1, x.shape[-1])), self.weight)  # [t, vocab]
        return logits[0] if x.ndim == 1 else logits
