"""Reference model, the oracle: the undivided model in plain per-head NumPy. Knows no fusing, no devices.

Deliberately written apart from the fast kernels (`attention`, `dense`, `norms`, `Rope`): it shares with them
only the loaded matrices, how their numbers are encoded, and the list of RoPE frequencies. Every fast path, placement
and migration is compared with this.

It computes in the model's precision, and where that rounds is part of the model, not of a placement:

- Weights are the numbers of the packed form.
- A key (rotated) and a value are rounded through the cache's format, each row of a head by itself, when they are
  appended; attention sees only rounded rows, those of the same step too.
- Every result that may cross from device to device is rounded once through the messages' format, each row by itself,
  and whoever reads it, on whatever device, reads the rounded numbers: the residual stream after the embedding, after
  each projection and after each feed-forward (the residual included), and the outputs of attention.
- What only exists because a layer is divided is no result of the model: partial sums of projections and feed-forwards,
  rows that are standardised already, queries with keys and values. It is not rounded, and crosses as float32. Whoever
  has added all partial sums, and the residual, rounds the sum.

Kernels add float32 numbers in other orders, with other roundings of some 1e-7, or 2e-6 where sums are rounded to a grid
(`order_free`); where one of them lies between two numbers of a format, it is rounded to the other one. So logits of a
placement are as close as a few such steps are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeemu_kernels.dense import Ffn
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import Matrix, rounded, rows_of, unpack
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.rope import frequencies
from edgeemu_kernels.sampling import GREEDY, Sampling, sample
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.sources import WeightSource


@dataclass(slots=True)
class _Past:
    """Keys (rotated) and values of the tokens so far, [n, hd] for every (layer, group)."""

    length: int = 0
    keys: dict[tuple[int, int], Array] = field(default_factory=dict)
    values: dict[tuple[int, int], Array] = field(default_factory=dict)


class Reference:
    """Reference model: all blocks of a source, run one after the other."""

    def __init__(self, source: WeightSource) -> None:
        self.shape = source.shape
        self._embed = source.embed()
        layers = range(self.shape.n_layers)
        self._heads = [source.heads(layer, range(self.shape.n_groups)) for layer in layers]
        self._proj = [source.proj(layer) for layer in layers]
        self._ffn = [source.ffn(layer) for layer in layers]
        self._lm_head = source.lm_head(self._embed)

    def logits(self, ids: list[int]) -> Array:
        """Logits of all positions, ids [t] -> [t, vocab]: row i scores the token after ids[i]."""
        return self._forward(ids, _Past())

    def generate(
        self,
        ids: list[int],
        max_tokens: int,
        sampling: Sampling = GREEDY,
        stop_ids: frozenset[int] = frozenset(),
    ) -> list[int]:
        """Generate tokens after `ids`.

        A stop token ends the sequence and is not part of it. The n-th token is sampled at step n.
        """
        past, tokens = _Past(), list[int]()
        fresh = list(ids)
        while len(tokens) < max_tokens:
            token = sample(self._forward(fresh, past)[-1], sampling, step=len(tokens))
            if token in stop_ids:
                break
            tokens.append(token)
            fresh = [token]
        return tokens

    def _forward(self, ids: list[int], past: _Past) -> Array:
        x = np.concatenate([unpack(rows_of(self._embed.table, slice(i, i + 1))) for i in ids])  # [t, D]
        if self._embed.positions is not None:
            x = x + self._embed.positions[past.length : past.length + len(ids)]  # [t, D]
        x = self._sent(x)
        for layer in range(self.shape.n_layers):
            proj = self._proj[layer]
            outputs = self._sent(np.concatenate(self._attention(layer, x, past), axis=1))  # [t, n_heads*hd]
            x = self._sent(x + _affine(outputs, proj.weight, proj.bias))  # [t, D]
            x = self._sent(x + _feed_forward(x, self._ffn[layer]))  # [t, D]
        past.length += len(ids)
        return _affine(_norm(x, self._lm_head.norm), self._lm_head.weight, None)  # [t, vocab]

    def _sent(self, x: Array) -> Array:
        """Rows as a message brings them, whether one is sent or not."""
        return rounded(x, FORMATS[self.shape.precision.messages])

    def _attention(self, layer: int, x: Array, past: _Past) -> list[Array]:
        """Outputs of all query heads in order, each [t, hd]."""
        heads, outputs = self._heads[layer], []
        normed = _norm(x, heads.norm)  # [t, D]
        for group in range(self.shape.n_groups):
            weights, at = heads.group_weights(group), (layer, group)
            stored = FORMATS[self.shape.precision.cache]
            turned = _rotated(_affine(normed, weights.wk, weights.bk), past.length, self.shape)  # [t, hd]
            key = rounded(turned, stored)  # [t, hd]
            value = rounded(_affine(normed, weights.wv, weights.bv), stored)  # [t, hd]
            if at in past.keys:
                key = np.concatenate([past.keys[at], key])  # [n, hd]
                value = np.concatenate([past.values[at], value])  # [n, hd]
            past.keys[at], past.values[at] = key, value
            for head in range(self.shape.group_size):
                rows = slice(head * self.shape.head_dim, (head + 1) * self.shape.head_dim)
                bias = None if weights.bq is None else weights.bq[rows]
                query = _rotated(_affine(normed, rows_of(weights.wq, rows), bias), past.length, self.shape)  # [t, hd]
                outputs.append(_attend(query, key, value, past.length))
        return outputs


def _affine(x: Array, weight: Matrix, bias: Array | None) -> Array:
    y: Array = x @ unpack(weight).T  # [t, in] @ [in, out] -> [t, out]
    return y if bias is None else y + bias


def _norm(x: Array, norm: Norm) -> Array:
    if norm.kind == "rms":
        scale = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + norm.eps)  # [t, 1]
        scaled: Array = x / scale * norm.weight  # [t, D]
        return scaled
    centred: Array = x - np.mean(x, axis=-1, keepdims=True)  # [t, D]
    scale = np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + norm.eps)  # [t, 1]
    assert norm.bias is not None  # a LayerNorm has one
    normed: Array = centred / scale * norm.weight + norm.bias  # [t, D]
    return normed


def _rotated(x: Array, position: int, shape: ModelShape) -> Array:
    """RoPE of x [t, hd], row i at `position + i`."""
    if shape.positions == "learned":
        return x
    places = position + np.arange(len(x))
    turns = frequencies(shape.head_dim, shape.rope_theta, shape.rope_scaling, shape.rope_linear_factor)
    angles = places[:, None] * turns  # [t, hd/2]
    cos, sin = np.cos(angles), np.sin(angles)
    if shape.positions == "rope-interleaved":
        first, second = slice(0, None, 2), slice(1, None, 2)
    else:
        first, second = slice(0, shape.head_dim // 2), slice(shape.head_dim // 2, None)
    turned = np.empty_like(x)
    turned[:, first] = x[:, first] * cos - x[:, second] * sin
    turned[:, second] = x[:, first] * sin + x[:, second] * cos
    return turned


def _attend(query: Array, key: Array, value: Array, position: int) -> Array:
    """Attention of one head.

    Query [t, hd] over key, value [n, hd] -> [t, hd]; the query in row i sees `position + i + 1` rows.
    """
    scores = query @ key.T / np.float32(query.shape[1] ** 0.5)  # [t, n]
    seen = np.arange(len(key)) <= position + np.arange(len(query))[:, None]  # [t, n]
    scores = np.where(seen, scores, np.float32(-np.inf))
    weights: Array = np.exp(scores - scores.max(axis=1, keepdims=True))  # [t, n]
    weights = weights / weights.sum(axis=1, keepdims=True)
    return weights @ value


def _feed_forward(x: Array, ffn: Ffn) -> Array:
    normed = _norm(x, ffn.norm)  # [t, D]
    up = _affine(normed, ffn.up, ffn.up_bias)  # [t, F] or [t, 2*F]
    if ffn.gated:
        gate, up = np.split(up, 2, axis=1)  # [t, F] each
        hidden = gate * _sigmoid(gate) * up
    else:
        hidden = 0.5 * up * (1 + np.tanh((2 / np.pi) ** 0.5 * (up + 0.044715 * up**3)))
    return _affine(hidden, ffn.down, ffn.down_bias)


def _sigmoid(x: Array) -> Array:
    small: Array = np.exp(-np.abs(x))  # in (0, 1], whatever x is
    positive: Array = np.reciprocal(1 + small)  # the sigmoid of |x|
    return np.where(x >= 0, positive, small * positive)
