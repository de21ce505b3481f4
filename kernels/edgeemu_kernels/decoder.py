"""All blocks on one device, through the fused kernels. Knows one sequence at a time; no devices, no links."""

from __future__ import annotations

from edgeemu_kernels.linear import Array, Matrix
from edgeemu_kernels.packed import rounded
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.weights.sources import WeightSource


class Decoder:
    """Decoder of one sequence: `prefill` once, then `step` token by token."""

    def __init__(self, source: WeightSource, capacity: int = 1024) -> None:
        shape = source.shape
        every = range(shape.n_groups)
        self.shape = shape
        self._embed = source.embed()
        self._layers = [
            (source.heads(layer, every), source.proj(layer).at(shape), source.ffn(layer).at(shape))
            for layer in range(shape.n_layers)
        ]
        self._lm_head = source.lm_head(self._embed)
        self._capacity = capacity
        self.reset()

    def reset(self) -> None:
        """Forget the sequence."""
        self._caches = [heads.new_cache(self._capacity) for heads, _, _ in self._layers]

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return self._caches[0].length

    def weight_arrays(self) -> list[Matrix]:
        """Matrices that one decoding step reads completely, in the order in which it reads them."""
        arrays: list[Matrix] = []
        for heads, proj, ffn in self._layers:
            arrays += [*heads.weights, proj.weight, ffn.up, ffn.down]
        return [*arrays, self._lm_head.weight]

    def prefill(self, ids: list[int]) -> Array:
        """Prefill: logits of the token after `ids`, [vocab]."""
        sent = FORMATS[self.shape.precision.messages]
        x = rounded(self._embed.forward(ids, self.length), sent)  # [t, D]
        for (heads, proj, ffn), cache in zip(self._layers, self._caches, strict=True):
            attn = rounded(heads.forward(x, cache.length, cache), sent)  # [t, n_heads*hd]
            x = rounded(proj.forward(attn, x), sent)  # [t, D]
            x = rounded(ffn.forward(x), sent)  # [t, D]
        return self._lm_head.forward(x[-1])

    def step(self, token: int) -> Array:
        """Decode step: logits of the token after `token`, [vocab]."""
        return self.prefill([token])
