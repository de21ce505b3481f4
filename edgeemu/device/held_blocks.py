"""The blocks that a device holds, as kernels: loaded from a source, split into blocks and rebuilt. No caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from edgeemu.device.block_bytes import weight_shapes
from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.attention import GroupWeights, Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.sources import WeightSource

Held = TypeVar("Held", Proj, Ffn)


@dataclass(eq=False)
class HeldBlocks:
    """Kernels by kind and layer. Tied embedding and output matrix share one table where both are held."""

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
        """Loads from the source. `groups` are groups of heads, or shards of a divided block; none: it is undivided."""
        match kind:
            case Kind.EMBED:
                self.embed = self.source.embed()
            case Kind.HEAD:
                self.heads[layer] = self.source.heads(layer, groups)
            case Kind.PROJ:
                self.projs[layer] = self.source.proj(layer, groups or None)
            case Kind.FFN:
                self.ffns[layer] = self.source.ffn(layer, groups or None)
            case Kind.LM_HEAD:
                self.lm_head = self.source.lm_head(self.embed if self.shape.tied_embeddings else None)

    def weights(self, block: Block) -> list[Array]:
        """Views of a held block's arrays, in the order of `block_bytes.weight_shapes`.

        Raises:
            KeyError: the block is not held.
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
                if not block.is_shard and proj.groups is None:
                    return _there(proj.weight, proj.bias)
                if block.group in (proj.groups or ()):
                    return list(proj.group_weights(block.group))
            case Kind.FFN:
                ffn = self.ffns[block.layer]
                if block.group in (ffn.units or ()):
                    return [*_norm_arrays(ffn.norm), *ffn.unit_weights(block.group)]
                if block.is_shard or ffn.units is not None:
                    raise KeyError(str(block))
                return [*_norm_arrays(ffn.norm), *_there(ffn.up, ffn.down, ffn.up_bias, ffn.down_bias)]
            case Kind.LM_HEAD if self.lm_head is not None:
                return [*_norm_arrays(self.lm_head.norm), self.lm_head.weight]
        raise KeyError(str(block))

    def from_flash(self, block: Block) -> list[Array]:
        """The arrays of `weights`, read from the source."""
        fresh = HeldBlocks(self.source)
        fresh.load(block.kind, block.layer, [block.group] if block.group >= 0 else [])
        return fresh.weights(block)

    def exchange(
        self,
        parts: Mapping[tuple[Kind, int], Sequence[int]],
        leaving: Sequence[Block],
        arriving: dict[Block, Sequence[Array]],
    ) -> None:
        """Drops blocks that leave and installs those that arrive; `parts` are the groups and shards held afterwards.

        `arriving` is emptied meanwhile: no more than one layer's parts are in memory twice at any time.
        """
        for kind, layer in sorted({(block.kind, block.layer) for block in (*leaving, *arriving) if block.group >= 0}):
            held = parts.get((kind, layer), ())
            match kind:
                case Kind.HEAD:
                    self._rebuild_heads(layer, held, arriving)
                case Kind.PROJ:
                    self._rebuild_proj(layer, held, arriving)
                case _:
                    self._rebuild_ffn(layer, held, arriving)
        for block in leaving:
            if block.group >= 0:
                continue
            match block.kind:
                case Kind.EMBED:
                    self.embed = None
                case Kind.PROJ:
                    del self.projs[block.layer]
                case Kind.FFN:
                    del self.ffns[block.layer]
                case Kind.LM_HEAD:
                    self.lm_head = None
        for block in sorted(block for block in arriving if block.group < 0):
            self._put(block, list(arriving.pop(block)))
        self._share_table()

    def _rebuild_heads(self, layer: int, groups: Sequence[int], arriving: dict[Block, Sequence[Array]]) -> None:
        n_norm = len(self._norm_shapes)
        norm = self.heads[layer].norm if layer in self.heads else None
        parts: dict[int, GroupWeights] = {}
        for group in groups:
            arrays = arriving.pop(Block(Kind.HEAD, layer, group), None)
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

    def _rebuild_proj(self, layer: int, groups: Sequence[int], arriving: dict[Block, Sequence[Array]]) -> None:
        old = self.projs.pop(layer, None)
        held = {}
        for group in groups:
            arrays = arriving.pop(Block(Kind.PROJ, layer, group), None)
            held[group] = _kept(old).group_weights(group) if arrays is None else arrays
        if held:
            self.projs[layer] = Proj.from_groups(held)

    def _rebuild_ffn(self, layer: int, units: Sequence[int], arriving: dict[Block, Sequence[Array]]) -> None:
        old = self.ffns.pop(layer, None)
        n_norm, norm = len(self._norm_shapes), None if old is None else old.norm
        held: dict[int, Sequence[Array]] = {}
        for unit in units:
            arrays = arriving.pop(Block(Kind.FFN, layer, unit), None)
            if arrays is None:
                held[unit] = _kept(old).unit_weights(unit)
            else:
                norm = norm or self._norm([array.copy() for array in arrays[:n_norm]])
                held[unit] = arrays[n_norm:]
        if held:
            assert norm is not None
            self.ffns[layer] = Ffn.from_units(norm, self.shape.activation == "swiglu", held)

    def _put(self, block: Block, arrays: list[Array]) -> None:
        n_norm = len(self._norm_shapes)
        match block.kind:
            case Kind.EMBED:
                self.embed = Embed(*arrays)
            case Kind.PROJ:
                self.projs[block.layer] = Proj(arrays[0], arrays[1] if len(arrays) > 1 else None)
            case Kind.FFN:
                gated = self.shape.activation == "swiglu"
                up, down, *biases = arrays[n_norm:]
                up_bias, down_bias = biases or (None, None)
                self.ffns[block.layer] = Ffn(self._norm(arrays[:n_norm]), gated, up, down, up_bias, down_bias)
            case Kind.LM_HEAD:
                self.lm_head = LmHead(self._norm(arrays[:n_norm]), arrays[n_norm])

    def _share_table(self) -> None:
        """Keeps one table where both ends of a tied model are held; the table stays with the one that is left."""
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


def _kept(old: Held | None) -> Held:
    assert old is not None, "a part that has not arrived was held before"
    return old


def _there(*arrays: Array | None) -> list[Array]:
    return [array for array in arrays if array is not None]


def _norm_arrays(norm: Norm) -> list[Array]:
    return _there(norm.weight, norm.bias)
