"""The blocks that a device holds, as kernels: filled from a source, taken apart and put together again. No caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgeemu.blocks import Block, Kind
from edgeemu.device.parcels import weight_shapes
from edgeemu_kernels.attention import GroupWeights, Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights import WeightSource


@dataclass(eq=False)
class Holding:
    """Kernels by what they compute. Tied embedding and output matrix share one table where both are here."""

    source: WeightSource
    embed: Embed | None = None
    lm_head: LmHead | None = None
    heads: dict[int, Heads] = field(default_factory=dict)
    projs: dict[int, Proj] = field(default_factory=dict)
    ffns: dict[int, Ffn] = field(default_factory=dict)

    @property
    def shape(self) -> ModelShape:
        return self.source.shape

    @property
    def weight_bytes(self) -> int:
        kernels = [self.embed, self.lm_head, *self.heads.values(), *self.projs.values(), *self.ffns.values()]
        return sum(kernel.weight_bytes for kernel in kernels if kernel is not None)

    def load(self, kind: Kind, layer: int, groups: Sequence[int]) -> None:
        """From the source."""
        match kind:
            case Kind.EMBED:
                self.embed = self.source.embed()
            case Kind.HEAD:
                self.heads[layer] = self.source.heads(layer, groups)
            case Kind.PROJ:
                self.projs[layer] = self.source.proj(layer)
            case Kind.FFN:
                self.ffns[layer] = self.source.ffn(layer)
            case Kind.LM_HEAD:
                self.lm_head = self.source.lm_head(self.embed if self.shape.tied_embeddings else None)

    def weights(self, block: Block) -> list[Array]:
        """A held block's arrays, in the order of `parcels.weight_shapes`; views.

        Raises:
            KeyError: the block is not here.
        """
        match block.kind:
            case Kind.EMBED if self.embed is not None:
                return _there(self.embed.table, self.embed.positions)
            case Kind.HEAD:
                heads = self.heads[block.layer]
                if block.group in heads.groups:
                    return [*_norm_arrays(heads.norm), *heads.group_weights(block.group).arrays()]
            case Kind.PROJ:
                proj = self.projs[block.layer]
                return _there(proj.weight, proj.bias)
            case Kind.FFN:
                ffn = self.ffns[block.layer]
                return [*_norm_arrays(ffn.norm), *_there(ffn.up, ffn.down, ffn.up_bias, ffn.down_bias)]
            case Kind.LM_HEAD if self.lm_head is not None:
                return [*_norm_arrays(self.lm_head.norm), self.lm_head.weight]
        raise KeyError(str(block))

    def from_flash(self, block: Block) -> list[Array]:
        """The same arrays, fresh from the source."""
        fresh = Holding(self.source)
        fresh.load(block.kind, block.layer, [block.group])
        return fresh.weights(block)

    def exchange(
        self, groups: Mapping[int, Sequence[int]], leaving: Sequence[Block], arriving: Mapping[Block, Sequence[Array]]
    ) -> None:
        """Drops what has left and takes what has come; `groups` are those of every layer that are then here."""
        for layer in sorted({block.layer for block in (*leaving, *arriving) if block.kind is Kind.HEAD}):
            self._rebuild_heads(layer, groups.get(layer, ()), arriving)
        for block in leaving:
            match block.kind:
                case Kind.EMBED:
                    self.embed = None
                case Kind.PROJ:
                    del self.projs[block.layer]
                case Kind.FFN:
                    del self.ffns[block.layer]
                case Kind.LM_HEAD:
                    self.lm_head = None
        for block, arrays in arriving.items():
            if block.kind is not Kind.HEAD:
                self._put(block, [array.copy() for array in arrays])
        self._share_table()

    def _rebuild_heads(self, layer: int, groups: Sequence[int], arriving: Mapping[Block, Sequence[Array]]) -> None:
        n_norm = len(self._norm_shapes)
        norm = self.heads[layer].norm if layer in self.heads else None
        parts: dict[int, GroupWeights] = {}
        for group in groups:
            arrays = arriving.get(Block(Kind.HEAD, layer, group))
            if arrays is None:
                parts[group] = self.heads[layer].group_weights(group)
            else:
                norm = norm or self._norm([array.copy() for array in arrays[:n_norm]])
                parts[group] = GroupWeights(*arrays[n_norm:])
        if parts:
            assert norm is not None
            self.heads[layer] = Heads.from_groups(self.shape, norm, parts, self._rope)
        else:
            self.heads.pop(layer, None)

    def _put(self, block: Block, arrays: list[Array]) -> None:
        n_norm = len(self._norm_shapes)
        match block.kind:
            case Kind.EMBED:
                self.embed = Embed(*arrays)
            case Kind.PROJ:
                self.projs[block.layer] = Proj(*arrays)
            case Kind.FFN:
                gated = self.shape.activation == "swiglu"
                self.ffns[block.layer] = Ffn(self._norm(arrays[:n_norm]), gated, *arrays[n_norm:])
            case Kind.LM_HEAD:
                self.lm_head = LmHead(self._norm(arrays[:n_norm]), arrays[n_norm])

    def _share_table(self) -> None:
        """One table where both ends of a tied model are here; the table stays with the one that is left."""
        if self.lm_head is None or not self.shape.tied_embeddings:
            return
        weight = self.lm_head.weight if self.embed is None else self.embed.table
        self.lm_head = LmHead(self.lm_head.norm, weight, shared=self.embed is not None)

    @cached_property
    def _norm_shapes(self) -> list[tuple[int, ...]]:
        return weight_shapes(self.shape, Block(Kind.LM_HEAD))[:-1]

    @cached_property
    def _rope(self) -> Rope | None:
        return None if self.shape.positions == "learned" else Rope(self.shape)

    def _norm(self, arrays: Sequence[Array]) -> Norm:
        return Norm(self.shape.norm, arrays[0], arrays[1] if len(arrays) > 1 else None, self.shape.norm_eps)


def _there(*arrays: Array | None) -> list[Array]:
    return [array for array in arrays if array is not None]


def _norm_arrays(norm: Norm) -> list[Array]:
    return _there(norm.weight, norm.bias)
