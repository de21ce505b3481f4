"""All blocks of a model, loaded once for many tests."""

from collections.abc import Sequence

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.weights.sources import WeightSource


class Loaded:
    """All blocks of a source in memory, itself a `WeightSource`: loaded once, shared by many readers."""

    def __init__(self, source: WeightSource) -> None:
        self.shape = source.shape
        every = range(self.shape.n_groups)
        self._embed = source.embed()
        self._heads = [source.heads(layer, every) for layer in range(self.shape.n_layers)]
        self._proj = [source.proj(layer) for layer in range(self.shape.n_layers)]
        self._ffn = [source.ffn(layer) for layer in range(self.shape.n_layers)]
        self._lm_head = source.lm_head(self._embed)

    def embed(self) -> Embed:
        return self._embed

    def positions(self) -> Array | None:
        return self._embed.positions

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        """Kernel of the layer: the shared object for all groups in order, a copy of the rows for any other choice."""
        heads = self._heads[layer]
        if tuple(groups) == heads.groups:
            return heads
        parts = {group: heads.group_weights(group) for group in groups}
        rope = None if self.shape.positions == "learned" else Rope(self.shape)
        return Heads.from_groups(self.shape, layer, heads.norm, parts, rope)

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        assert rows is None
        proj = self._proj[layer]
        if groups is None:
            return proj
        every = proj.divided(self.shape.n_groups)
        parts = {group: every.group_weights(group) for group in groups}
        return Proj.from_groups(parts, self.shape.precision.weights("proj", layer))

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        assert rows is None
        ffn = self._ffn[layer]
        if units is None:
            return ffn
        every = ffn.divided(self.shape.ffn_units)
        parts = {unit: every.unit_weights(unit) for unit in units}
        form = self.shape.precision.weights
        up, down = form("up", layer), form("down", layer)
        return Ffn.from_units(ffn.norm, ffn.gated, parts, up, down)

    def lm_head(self, embed: Embed | None = None) -> LmHead:  # noqa: ARG002 - one table serves all here
        return self._lm_head

    def final_norm(self) -> Norm:
        return self._lm_head.norm
