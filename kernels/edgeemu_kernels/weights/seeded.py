"""Weights from a seed and a shape: a model without meaning, but with a real one's sizes. Reads no file.

The random numbers of a block depend only on (seed, kind, layer, group), so a device generates only its own blocks, and
two devices generate equal bits for the same block. Scales keep activations sane through any number of layers: the input
of a product is normed, and what is added to the residual is divided by sqrt(2 * n_layers) as in GPT-2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import Matrix, PackedMatrix, empty_matrix, put
from edgeemu_kernels.precision import NumberFormat
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.tensorfile import part_of_bias, runs

_KINDS = (
    "embed",
    "heads",
    "heads-norm",
    "proj",
    "ffn",
    "lm-head",
    "final-norm",
    "positions",
)  # the order is part of the seed
_DRAWN_ROWS = 64  # of which a device keeps its part
_UNIT_UNIFORM = 12**0.5  # width of a uniform distribution of standard deviation 1


class _Draw:
    """Random arrays of one block, in the order in which they are requested."""

    def __init__(self, seed: int, kind: str, layer: int = 0, group: int = 0) -> None:
        self._rng = np.random.Generator(np.random.SFC64([seed, _KINDS.index(kind), layer, group]))

    def fill(self, out: Array, std: float, mean: float = 0.0) -> Array:
        """Fill `out` (contiguous) with uniform numbers in place; returns it."""
        self._rng.random(dtype=np.float32, out=out)
        out -= np.float32(0.5)
        out *= np.float32(std * _UNIT_UNIFORM)
        if mean:
            out += np.float32(mean)
        return out

    def part(
        self, shape: tuple[int, int], std: float, rows: Sequence[range], columns: Sequence[range], form: NumberFormat
    ) -> Matrix:
        """Rows and columns of the matrix that `matrix` generates for this shape, a few rows at a time."""
        n_rows = sum(map(len, rows))
        out = empty_matrix(n_rows, sum(map(len, columns)), form)
        targets: NDArray[np.int64] = np.full(shape[0], -1, np.int64)  # [rows of the whole] where each goes
        targets[[row for run in rows for row in run]] = np.arange(n_rows)
        picked = [column for run in columns for column in run]
        for start in range(0, shape[0], _DRAWN_ROWS):
            some = self.array((min(_DRAWN_ROWS, shape[0] - start), shape[1]), std)
            to = targets[start : start + len(some)]
            put(out, to[to >= 0], 0, some[to >= 0][:, picked])
        return out

    def matrix(self, rows: int, width: int, std: float, form: NumberFormat) -> Matrix:
        """Random matrix in a format: the numbers of `array`, encoded."""
        out = empty_matrix(rows, width, form)
        self.fill_matrix(out, std)
        return out

    def fill_matrix(self, out: Matrix, std: float) -> None:
        """Fill a matrix with what `fill` gives, encoded, a few rows at a time."""
        if not isinstance(out, PackedMatrix):
            self.fill(out, std)
            return
        rows, width = out.shape
        for start in range(0, rows, _DRAWN_ROWS):
            stop = min(start + _DRAWN_ROWS, rows)
            put(out, slice(start, stop), 0, self.array((stop - start, width), std))

    def array(self, shape: tuple[int, ...], std: float, mean: float = 0.0) -> Array:
        return self.fill(np.empty(shape, np.float32), std, mean)


class SeededSource:
    """Source of random weights."""

    def __init__(self, shape: ModelShape, seed: int) -> None:
        self.shape = shape
        self._seed = seed
        self._rope = None if shape.positions == "learned" else Rope(shape)
        self._residual = (2 * shape.n_layers) ** -0.5

    def embed(self) -> Embed:
        return Embed(self._table(_Draw(self._seed, "embed")), self.positions())

    def positions(self) -> Array | None:
        s = self.shape
        learned = s.positions == "learned"
        return _Draw(self._seed, "positions").array((s.max_context, s.d_model), 0.5) if learned else None

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        norm = self._norm(_Draw(self._seed, "heads-norm", layer))
        heads = Heads.empty(self.shape, layer, groups, norm, self._rope)
        for group in groups:
            draw = _Draw(self._seed, "heads", layer, group)
            weights = heads.group_weights(group)
            for matrix in (weights.wq, weights.wk, weights.wv):
                draw.fill_matrix(matrix, self.shape.d_model**-0.5)
            for bias in weights.biases():
                draw.fill(bias, 0.1)
        return heads

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        s, draw = self.shape, _Draw(self._seed, "proj", layer)
        width, form = s.n_heads * s.head_dim, s.precision.weights("proj", layer)
        std = self._residual * width**-0.5
        if groups is None:
            weight = draw.matrix(s.d_model, width, std, form)
            return Proj(weight, self._bias(draw, s.d_model))
        every = range(s.d_model)
        columns = runs(groups, s.group_dim) if rows is None else [range(width)]
        weight = draw.part((s.d_model, width), std, [rows or every], columns, form)
        return Proj(weight, part_of_bias(self._bias(draw, s.d_model), groups, rows), tuple(groups))

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        s, draw = self.shape, _Draw(self._seed, "ffn", layer)
        norm, form = self._norm(draw), s.precision.weights
        up_form, down_form = form("up", layer), form("down", layer)
        gated = s.activation == "swiglu"
        width = 2 * s.d_ff if gated else s.d_ff
        up_std, down_std = s.d_model**-0.5, 2 * self._residual * s.d_ff**-0.5
        if units is None:
            up = draw.matrix(width, s.d_model, up_std, up_form)
            down = draw.matrix(s.d_model, s.d_ff, down_std, down_form)
            return Ffn(norm, gated, up, down, self._bias(draw, width), self._bias(draw, s.d_model))
        mine, everything = runs(units, s.ffn_unit_dim), [range(s.d_model)]
        up_rows = [*mine, *(range(run.start + s.d_ff, run.stop + s.d_ff) for run in mine)] if gated else mine
        up = draw.part((width, s.d_model), up_std, up_rows, everything, up_form)
        inner = mine if rows is None else [range(s.d_ff)]
        down = draw.part((s.d_model, s.d_ff), down_std, everything if rows is None else [rows], inner, down_form)
        up_bias = self._bias(draw, width)
        if up_bias is not None:
            up_bias = np.concatenate([up_bias[run.start : run.stop] for run in up_rows])
        down_bias = part_of_bias(self._bias(draw, s.d_model), units, rows)
        return Ffn(norm, gated, up, down, up_bias, down_bias, tuple(units))

    def lm_head(self, embed: Embed | None = None) -> LmHead:
        s = self.shape
        norm = self.final_norm()
        if s.tied_embeddings:
            if embed is not None:
                return LmHead(norm, embed.table, shared=True)
            return LmHead(norm, self._table(_Draw(self._seed, "embed")))
        weight = _Draw(self._seed, "lm-head").matrix(
            s.vocab_size, s.d_model, 2 * s.d_model**-0.5, s.precision.weights("lm_head")
        )
        return LmHead(norm, weight)

    def final_norm(self) -> Norm:
        return self._norm(_Draw(self._seed, "final-norm"))

    def _table(self, draw: _Draw) -> Matrix:
        s = self.shape
        return draw.matrix(s.vocab_size, s.d_model, self._table_std, s.precision.weights("embed"))

    @property
    def _table_std(self) -> float:
        """Scale of a tied table, so that its logits are of a sane size; the first norm compensates for it."""
        return 2 * self.shape.d_model**-0.5 if self.shape.tied_embeddings else 1.0

    def _norm(self, draw: _Draw) -> Norm:
        s = self.shape
        weight = draw.array((s.d_model,), 0.1, mean=1.0)
        return Norm(s.norm, weight, draw.array((s.d_model,), 0.1) if s.norm == "layer" else None, s.norm_eps)

    def _bias(self, draw: _Draw, size: int) -> Array | None:
        return draw.array((size,), 0.1 * self._residual) if self.shape.bias else None
