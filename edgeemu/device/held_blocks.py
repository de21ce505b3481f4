"""The blocks that a device holds, as kernels: loaded from a source, split into blocks and rebuilt. No caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from edgeemu.device.block_bytes import norm_layouts
from edgeemu.placement.blocks import Block, Kind
from edgeemu.placement.program import Op
from edgeemu_kernels.attention import Attention, GroupWeights, Heads, qkv_formats
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.linear import Array, Matrix
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.packed import Stored, expanded, matrix_of, raw_of
from edgeemu_kernels.precision import Matrix as MatrixName
from edgeemu_kernels.precision import NumberFormat
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.sources import WeightSource

Held = TypeVar("Held", Proj, Ffn)
Parts = Mapping[tuple[Kind, int], Sequence[int]]


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

    def load(self, kind: Kind, layer: int, groups: Sequence[int], columns: Sequence[int] = ()) -> None:
        """Loads from the source. `groups` are groups of heads, or shards of a divided block; none: it is undivided.

        `columns`: as in `Op`, for the matrix that gives these columns.
        """
        rows = range(*columns) if columns else None
        match kind:
            case Kind.EMBED:
                self.embed = self.source.embed()
            case Kind.HEAD:
                self.heads[layer] = self.source.heads(layer, groups)
            case Kind.PROJ:
                self.projs[layer] = self.source.proj(layer, groups or None, rows)
            case Kind.FFN:
                self.ffns[layer] = self.source.ffn(layer, groups or None, rows)
            case Kind.LM_HEAD:
                self.lm_head = self.source.lm_head(self.embed if self.shape.tied_embeddings else None)
        self._expand()

    def weights(self, block: Block, *, ends_meet: bool = False) -> list[Stored]:
        """Views of a held block's arrays, in the order of `block_bytes.weight_layouts`; of a shard also from the whole.

        `ends_meet`: as in `Move`.

        Raises:
            KeyError: the block is not held.
        """
        match block.kind:
            case Kind.EMBED if self.embed is not None:
                return _there(None if self._is_shared(ends_meet) else raw_of(self.embed.table), self.embed.positions)
            case Kind.HEAD:
                heads = self.heads[block.layer]
                if block.group in heads.groups:
                    return [*_norm_arrays(heads.norm), *heads.group_weights(block.group).arrays()]
            case Kind.PROJ:
                proj = self.projs[block.layer]
                if block.is_shard:
                    return list(self._in_groups(proj).group_weights(block.group))
                if proj.groups is None:
                    return _there(raw_of(proj.weight), proj.bias)
            case Kind.FFN:
                ffn = self.ffns[block.layer]
                if block.is_shard:
                    return [*_norm_arrays(ffn.norm), *self._in_units(ffn).unit_weights(block.group)]
                if ffn.units is None:
                    matrices = (raw_of(ffn.up), raw_of(ffn.down))
                    return [*_norm_arrays(ffn.norm), *_there(*matrices, ffn.up_bias, ffn.down_bias)]
            case Kind.LM_HEAD if self.lm_head is not None:
                norm = _norm_arrays(self.lm_head.norm)
                return norm if self._is_shared(ends_meet) else [*norm, raw_of(self.lm_head.weight)]
        raise KeyError(str(block))

    def holds(self, block: Block) -> bool:
        """Whether a block, or the whole that it is a part of, is held."""
        held = self.parts.get((block.kind, block.layer))
        return held is not None and (not held or block.group in held)

    def _is_shared(self, ends_meet: bool) -> bool:
        """Whether an end goes without its table, because its receiver has it, or gets it with the other end."""
        return ends_meet and self.shape.tied_embeddings

    def from_flash(self, block: Block, *, ends_meet: bool = False) -> list[Stored]:
        """The arrays of `weights`, read from the source.

        Of a tied model, an end has the table of the other that is held: one more could be more than there is room for.
        """
        if block.kind in (Kind.EMBED, Kind.LM_HEAD):
            is_embed, table = block.kind is Kind.EMBED, self._table(None) if self.shape.tied_embeddings else None
            small = _there(self.source.positions()) if is_embed else _norm_arrays(self.source.final_norm())
            if self._is_shared(ends_meet):
                return small
            if table is not None:
                return [raw_of(table), *small] if is_embed else [*small, raw_of(table)]
        fresh = HeldBlocks(self.source)
        fresh.load(block.kind, block.layer, [block.group] if block.group >= 0 else [])
        return fresh.weights(block)

    @property
    def parts(self) -> Parts:
        """Groups and shards that are held, by kind and layer; () for an undivided block."""
        held: dict[tuple[Kind, int], tuple[int, ...]] = {}
        for kind, end in ((Kind.EMBED, self.embed), (Kind.LM_HEAD, self.lm_head)):
            if end is not None:
                held[kind, -1] = ()
        held |= {(Kind.HEAD, layer): heads.groups for layer, heads in self.heads.items()}
        held |= {(Kind.PROJ, layer): proj.groups or () for layer, proj in self.projs.items()}
        held |= {(Kind.FFN, layer): ffn.units or () for layer, ffn in self.ffns.items()}
        return held

    def exchange(self, parts: Parts, arriving: dict[Block, Sequence[Stored]]) -> None:
        """Installs blocks that arrive, and drops, cuts or joins what is held, so that `parts` are held afterwards.

        `arriving` is emptied meanwhile: no more than one layer's parts are in memory twice at any time.
        """
        before, table = self.parts, self._table(None)  # before the end that has it leaves
        changed = sorted(key for key in before.keys() | parts.keys() if before.get(key) != parts.get(key))
        for kind, layer in changed:
            if (kind, layer) not in parts:
                self._drop(kind, layer)
        for kind, layer in changed:
            if (kind, layer) not in parts:
                continue
            if (arrays := arriving.pop(Block(kind, layer), None)) is not None:
                table = self._table(table)
                self._put(Block(kind, layer), list(arrays), table)
            elif kind is Kind.HEAD:
                self._rebuild_heads(layer, parts[kind, layer], arriving)
            elif kind is Kind.PROJ:
                self._rebuild_proj(layer, parts[kind, layer], arriving)
            else:
                self._rebuild_ffn(layer, parts[kind, layer], arriving)
        self._share_table()
        self._expand()

    def _drop(self, kind: Kind, layer: int) -> None:
        match kind:
            case Kind.EMBED:
                self.embed = None
            case Kind.LM_HEAD:
                self.lm_head = None
            case Kind.HEAD:
                del self.heads[layer]
            case Kind.PROJ:
                del self.projs[layer]
            case Kind.FFN:
                del self.ffns[layer]

    def _rebuild_heads(self, layer: int, groups: Sequence[int], arriving: dict[Block, Sequence[Stored]]) -> None:
        n_norm = self._n_norm
        norm = self.heads[layer].norm if layer in self.heads else None
        parts: dict[int, GroupWeights] = {}
        for group in groups:
            arrays = arriving.pop(Block(Kind.HEAD, layer, group), None)
            if arrays is None:
                parts[group] = self.heads[layer].group_weights(group)
            else:
                norm = norm or self._norm([array.copy() for array in arrays[:n_norm]])
                parts[group] = GroupWeights.of_arrays(arrays[n_norm:], qkv_formats(self.shape, layer))
        assert norm is not None
        self.heads[layer] = Heads.from_groups(self.shape, layer, norm, parts, self._rope)

    def _rebuild_proj(self, layer: int, groups: Sequence[int], arriving: dict[Block, Sequence[Stored]]) -> None:
        """Puts the groups together (none: the undivided block) from those held and those that arrive."""
        old = self._in_groups(self.projs.pop(layer)) if layer in self.projs else None
        wanted = tuple(groups) or tuple(range(self.shape.n_groups))
        if old is None or old.groups != wanted:
            held = {}
            for group in wanted:
                arrays = arriving.pop(Block(Kind.PROJ, layer, group), None)
                held[group] = _kept(old).group_weights(group) if arrays is None else arrays
            old = Proj.from_groups(held, self._form("proj", layer))
        self.projs[layer] = old if groups else old.joined()

    def _rebuild_ffn(self, layer: int, units: Sequence[int], arriving: dict[Block, Sequence[Stored]]) -> None:
        """Puts the units together (none: the undivided block) from those held and those that arrive."""
        old = self._in_units(self.ffns.pop(layer)) if layer in self.ffns else None
        wanted = tuple(units) or tuple(range(self.shape.ffn_units))
        if old is None or old.units != wanted:
            n_norm, norm = self._n_norm, None if old is None else old.norm
            held: dict[int, Sequence[Stored]] = {}
            for unit in wanted:
                arrays = arriving.pop(Block(Kind.FFN, layer, unit), None)
                if arrays is None:
                    held[unit] = _kept(old).unit_weights(unit)
                else:
                    norm = norm or self._norm([array.copy() for array in arrays[:n_norm]])
                    held[unit] = arrays[n_norm:]
            assert norm is not None
            gated = self.shape.activation == "swiglu"
            old = Ffn.from_units(norm, gated, held, self._form("up", layer), self._form("down", layer))
        self.ffns[layer] = old if units else old.joined()

    def _in_groups(self, proj: Proj) -> Proj:
        """A projection as a shard, which an undivided one is of all groups."""
        return proj.divided(self.shape.n_groups) if proj.groups is None else proj

    def _in_units(self, ffn: Ffn) -> Ffn:
        """A feed-forward as a shard, which an undivided one is of all units."""
        return ffn.divided(self.shape.ffn_units) if ffn.units is None else ffn

    def _put(self, block: Block, arrays: list[Stored], table: Matrix | None) -> None:
        """Installs a whole block. An end that arrives without its table takes `table`."""
        n_norm = self._n_norm
        match block.kind:
            case Kind.EMBED:
                n_positions = int(self.shape.positions == "learned")
                own, positions = arrays[: len(arrays) - n_positions], arrays[len(arrays) - n_positions :]
                self.embed = Embed(self._own_or(table, own, "embed"), *map(_vector, positions))
            case Kind.PROJ:
                weight = matrix_of(arrays[0], self._form("proj", block.layer))
                self.projs[block.layer] = Proj(weight, _vector(arrays[1]) if len(arrays) > 1 else None)
            case Kind.FFN:
                gated = self.shape.activation == "swiglu"
                up, down, *biases = arrays[n_norm:]
                forms = self._form("up", block.layer), self._form("down", block.layer)
                matrices = matrix_of(up, forms[0]), matrix_of(down, forms[1])
                up_bias, down_bias = map(_vector, biases) if biases else (None, None)
                self.ffns[block.layer] = Ffn(self._norm(arrays[:n_norm]), gated, *matrices, up_bias, down_bias)
            case Kind.LM_HEAD:
                weight = self._own_or(table, arrays[n_norm:], "lm_head")
                self.lm_head = LmHead(self._norm(arrays[:n_norm]), weight)

    def _own_or(self, table: Matrix | None, own: Sequence[Stored], name: MatrixName) -> Matrix:
        """The table of an end that arrives: its own, or that of the other end."""
        if own:
            return matrix_of(own[0], self._form(name, -1))
        assert table is not None, "an end comes without its table only to where the other is"
        return table

    def _table(self, otherwise: Matrix | None) -> Matrix | None:
        """The table of an end that is held."""
        if self.embed is not None:
            return self.embed.table
        return otherwise if self.lm_head is None else self.lm_head.weight

    def _share_table(self) -> None:
        """Keeps one table where both ends of a tied model are held; the table stays with the one that is left."""
        if self.lm_head is None or not self.shape.tied_embeddings:
            return
        weight = self.lm_head.weight if self.embed is None else self.embed.table
        self.lm_head = LmHead(self.lm_head.norm, weight, shared=self.embed is not None)

    def _expand(self) -> None:
        """Decode matrices that are new, where the model is to be computed from float32."""
        if not self.shape.precision.expanded:
            return
        for heads in self.heads.values():
            heads.weights = tuple(map(expanded, heads.weights))
        self.projs = {layer: replace(proj, weight=expanded(proj.weight)) for layer, proj in self.projs.items()}
        for layer, ffn in self.ffns.items():
            self.ffns[layer] = replace(ffn, up=expanded(ffn.up), down=expanded(ffn.down))
        if self.lm_head is not None:
            self.lm_head = replace(self.lm_head, weight=expanded(self.lm_head.weight))
            if self.embed is not None and self.lm_head.shared:
                self.embed = replace(self.embed, table=self.lm_head.weight)

    def attention(self, op: Op) -> Attention:
        """Attention of an operation: of the heads that are held, or of all groups, which come from several devices."""
        if op.parts:
            return Attention(self.shape, len(op.groups), self._rope)
        return self.heads[op.layer]

    @cached_property
    def _n_norm(self) -> int:
        """Number of arrays of a norm."""
        return len(norm_layouts(self.shape))

    @cached_property
    def _rope(self) -> Rope | None:
        return None if self.shape.positions == "learned" else Rope(self.shape)

    def _norm(self, arrays: Sequence[Stored]) -> Norm:
        weight, *biases = map(_vector, arrays)
        return Norm(self.shape.norm, weight, biases[0] if biases else None, self.shape.norm_eps)

    def _form(self, matrix: MatrixName, layer: int) -> NumberFormat:
        return self.shape.precision.weights(matrix, layer)


def _kept(old: Held | None) -> Held:
    assert old is not None, "a part that has not arrived was held before"
    return old


def _there(*arrays: Stored | None) -> list[Stored]:
    return [array for array in arrays if array is not None]


def _vector(stored: Stored) -> Array:
    return stored.view(np.float32)


def _norm_arrays(norm: Norm) -> list[Stored]:
    return _there(norm.weight, norm.bias)
