"""Costs of blocks: operations, bytes of weights, caches, messages and workspace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, Self

from edgeemu.placement.blocks import LM_HEAD, MESSAGE_HEADER_BYTES, TOKEN_BYTES, Block, Kind, ffn, head, proj
from edgeemu.placement.weight_sizes import matrix_bytes, mean_weight_bytes, norm_bytes, weight_bytes
from edgeemu.placement.work import Work
from edgeemu_kernels.packed import WORKSPACE_BYTES
from edgeemu_kernels.precision import number_format
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.workspace import attention_values

Layers = Literal["each", "mean", "largest", "least"]

CONVERTED_BYTES = 8 * 8192  # numbers that NumPy converts to float64 at a time, where arrays of two kinds are added


class Costs(Protocol):
    """Costs of a model's blocks and of the messages between them, by kind of operation.

    `rows` are the new positions of a step, `past` those that are cached already. `n_groups` KV groups, or `n_shards`
    shards, of one layer on one device are one operation.
    """

    header_bytes: ClassVar[int]  # of every message
    of_every_step: ClassVar[bool]  # whether `at_step` always returns these: other blocks than heads have the same work

    @property
    def shape(self) -> ModelShape: ...

    @property
    def weight_value_bytes(self) -> float:
        """Bytes of a value of the largest matrices."""
        ...

    def __hash__(self) -> int:  # implementations are frozen dataclasses, and keys of caches
        return object.__hash__(self)

    def at_step(self, rows: int, past: int) -> Self:
        """The costs of a step of `rows` new positions after `past` cached ones."""
        ...

    def uniform(self, layer: Layers) -> Self:
        """Costs in which all layers are alike: each matrix in the mean, or as where it has the most or fewest bytes."""
        ...

    # -- memory that a device holds -------------------------------------------------------------------------------

    def norm_bytes(self) -> int:
        """Weights of one norm."""
        ...

    def table_bytes(self) -> int:
        """Table that a tied embedding and output matrix share."""
        ...

    def weight_bytes(self, block: Block) -> int:
        """Weights of one block.

        The norm of heads, and of shards of a feed-forward, is not counted: those of a layer on one device share it.
        """
        ...

    def fused_weight_bytes(self, kind: Kind, layer: int, groups: Sequence[int]) -> int:
        """Weights of one operation: a block, or a layer's groups or shards on one device with the norm they share.

        `groups` ascend; all are alike, but for the very first shard of a layer, which has the bias.
        """
        if not groups:
            return self.weight_bytes(Block(kind, layer))
        shared = self.norm_bytes() if kind in (Kind.HEAD, Kind.FFN) else 0
        first, last = (self.weight_bytes(Block(kind, layer, groups[at])) for at in (0, -1))
        return shared + first + (len(groups) - 1) * last

    def heads_weight_bytes(self, n_groups: int, layer: int = 0) -> int:
        """Weights of `n_groups` fused groups of a layer with their norm; 0 for none."""
        return n_groups * self.weight_bytes(head(layer, 0)) + self.norm_bytes() if n_groups else 0

    def kv_bytes(self, tokens: int) -> int:
        """K/V cache of one group of one layer after `tokens` positions."""
        ...

    # -- memory that an execution needs ----------------------------------------------------------------------------

    def workspace_bytes(self, kind: Kind, n_groups: int, rows: int, past: int) -> int:
        """Peak of the arrays that one execution of a block holds: its input, result and largest intermediates."""
        ...

    def shard_workspace_bytes(self, kind: Kind, n_shards: int, rows: int) -> int:
        """Peak of the arrays of one execution of shards of a projection or feed-forward, with their collective."""
        ...

    def collective_workspace_bytes(self, rows: int) -> int:
        """Peak of the arrays of a sum, a norm or a gathering of x."""
        ...

    def collective_inbox_bytes(self, rows: int, members: int, n_groups: int, *, star: bool) -> int:
        """Upper bound of the messages that one of `members` devices holds while they combine results of shards.

        What depends on `members`, and what depends on its `n_groups`, are added up.
        """
        ...

    def inbox_bytes(self, rows: int) -> int:
        """Messages with x that a device with any block holds."""
        ...

    def gather_bytes(self, rows: int) -> int:
        """Messages with the outputs of all groups that the device of a projection holds in addition."""
        ...

    # -- operations and bytes read of an execution -----------------------------------------------------------------

    def work(self, kind: Kind, n_groups: int, rows: int, past: int, layer: int = 0) -> Work:
        """One execution of a block, or of `n_groups` fused groups of a layer, on `rows` new positions."""
        ...

    def qkv_work(self, n_groups: int, rows: int, layer: int = 0) -> Work:
        """Queries, keys and values of `n_groups` fused groups of a layer."""
        ...

    def attention_work(self, n_groups: int, rows: int, past: int) -> Work:
        """Attention of these groups once queries, keys and values are there."""
        ...

    def shard_work(self, kind: Kind, layer: int, groups: Sequence[int], rows: int, past: int) -> Work:
        """One execution of a layer's shards on one device, fused."""
        ...

    def rows_work(self, arrays: int, rows: int, operations: int = 0) -> Work:
        """One pass over `arrays` arrays of x, [rows, d_model] each, with `operations` operations per value."""
        ...

    # -- bytes of messages -----------------------------------------------------------------------------------------

    def activation_bytes(self, rows: int, chunks: int = 1) -> int:
        """Message with x between blocks, or with one of `chunks` chunks of it: [rows, d_model]."""
        ...

    def chunk_bytes(self, rows: int, chunks: int) -> int:
        """Message with partial sums, or with x standardized: one of `chunks` chunks, [rows, d_model]."""
        ...

    def attention_bytes(self, n_groups: int, rows: int) -> int:
        """Message from a device's groups of one layer to the projection: [rows, n_groups * group_dim]."""
        ...

    def token_bytes(self) -> int:
        """Message with a sampled token."""
        ...


@dataclass(frozen=True, slots=True)
class PhysicalCosts(Costs):
    """Costs of the kernels of `edgeemu_kernels`.

    Counted are matrix products (2 operations per multiply-add) and the bytes read from memory: weights and K/V cache
    once per step, in the formats of the shape's precision. Norms, activations and RoPE are small vectors and left out,
    as is usual in roofline models (Williams et al., CACM 2009). All that is computed is float32: `value_bytes` is of
    activations, norms and biases.
    """

    shape: ModelShape
    value_bytes: int = 4
    layers: Layers = "each"
    header_bytes: ClassVar[int] = MESSAGE_HEADER_BYTES  # of every message
    of_every_step: ClassVar[bool] = True

    @property
    def weight_value_bytes(self) -> float:
        held = self.shape.precision.weights("up")
        return held.block_bytes / held.block_size

    def at_step(self, rows: int, past: int) -> Self:  # noqa: ARG002
        """These costs: they depend on the step only through the arguments of each method."""
        return self

    def uniform(self, layer: Layers) -> Self:
        if not self.shape.precision.layers:
            return self
        if layer == "least":
            return replace(self, shape=replace(self.shape, precision=self.shape.precision.leanest()))
        return replace(self, layers=layer)

    # -- memory -----------------------------------------------------------------------------------------------------

    def norm_bytes(self) -> int:
        return norm_bytes(self.shape)

    def table_bytes(self) -> int:
        return matrix_bytes(self.shape, "embed", self.shape.vocab_size, self.shape.d_model)

    def weight_bytes(self, block: Block) -> int:
        if self.layers == "mean" and block.kind in (Kind.HEAD, Kind.PROJ, Kind.FFN):
            return mean_weight_bytes(self.shape, block.kind, block.group)
        return weight_bytes(self.shape, block, largest=self.layers == "largest")

    def kv_bytes(self, tokens: int) -> int:
        return 2 * tokens * number_format(self.shape.precision.cache).row_bytes(self.shape.head_dim)

    def workspace_bytes(self, kind: Kind, n_groups: int, rows: int, past: int) -> int:
        """Peak of the arrays of one execution, for any sampling. A test holds it against what NumPy allocates."""
        s = self.shape
        x = rows * s.d_model
        match kind:
            case Kind.EMBED:
                values = x
            case Kind.HEAD:
                qkv = n_groups * rows * (s.group_dim + 2 * s.head_dim)
                attention = rows * n_groups * s.group_dim + attention_values(s, n_groups, rows, past)
                values = 2 * x + qkv + max(x, 2 * qkv, attention)  # a norm, RoPE, attention: one after the other
            case Kind.PROJ:
                values = rows * s.n_heads * s.head_dim + 3 * x
            case Kind.FFN:
                values = 3 * x + 3 * rows * s.d_ff
            case Kind.LM_HEAD:
                values = 2 * s.d_model + 10 * s.vocab_size  # the logits, and their order with its 8-byte ids
        return values * self.value_bytes + self._decoding_bytes(rows, cache=kind is Kind.HEAD)

    def _decoding_bytes(self, rows: int, *, cache: bool = False) -> int:
        """Float32 copies of inputs in another format, and the pieces of matrices and of a cache that are decoded."""
        s, precision = self.shape, self.shape.precision
        sent = 2 * s.d_model + s.n_heads * s.head_dim if precision.messages != "f32" else 0
        sent += s.d_model if precision.order_free else 0  # sums of 8 bytes each
        stored = cache and (precision.order_free or precision.cache != "f32")
        decoded = int(precision.packs_weights) + 2 * int(stored)  # 2: keys and values
        converted_bytes = CONVERTED_BYTES if precision.order_free and not cache else 0
        return rows * sent * self.value_bytes + decoded * WORKSPACE_BYTES + converted_bytes

    def inbox_bytes(self, rows: int) -> int:
        return self.activation_bytes(rows)

    def gather_bytes(self, rows: int) -> int:
        return self.attention_bytes(self.shape.n_groups, rows)

    def collective_inbox_bytes(self, rows: int, members: int, n_groups: int, *, star: bool) -> int:
        """Upper bound of the messages held in a collective.

        In a star the center has a partial sum from each member. In a ring every chunk of rows is in one state at a
        time: factor, partial sum, in transit, residual; tiles wait for the one after them. In steps of fewer rows than
        members each member has partial sums from all, of two layer boundaries if it is late.
        """
        s = self.shape
        few = (2 * members + 4) * self.chunk_bytes(min(rows, members - 1), 1)
        many = (members + 4 if star else 6) * self.chunk_bytes(rows, 1)
        qkv = rows * n_groups * (s.group_dim + 2 * s.head_dim)
        return max(few, many) + qkv * self.value_bytes

    def shard_workspace_bytes(self, kind: Kind, n_shards: int, rows: int) -> int:
        s = self.shape
        if kind is Kind.PROJ:
            values = 2 * rows * n_shards * s.group_dim + 3 * rows * s.d_model
        else:
            values = 3 * rows * s.d_model + 3 * rows * n_shards * s.ffn_unit_dim
        return values * self.value_bytes + self._decoding_bytes(rows)

    def collective_workspace_bytes(self, rows: int) -> int:
        return 3 * rows * self.shape.d_model * self.value_bytes + self._decoding_bytes(rows)

    # -- operations and bytes read ----------------------------------------------------------------------------------

    def shard_work(self, kind: Kind, layer: int, groups: Sequence[int], rows: int, past: int) -> Work:  # noqa: ARG002
        s = self.shape
        up = 2 if s.activation == "swiglu" else 1
        width = s.group_dim if kind is Kind.PROJ else s.ffn_unit_dim * (up + 1)
        flops = 2 * rows * s.d_model * width * len(groups)
        return Work(flops, self.fused_weight_bytes(kind, layer, groups))

    def qkv_work(self, n_groups: int, rows: int, layer: int = 0) -> Work:
        width = n_groups * (self.shape.group_dim + 2 * self.shape.head_dim)
        return Work(2 * rows * self.shape.d_model * width, self.heads_weight_bytes(n_groups, layer))

    def attention_work(self, n_groups: int, rows: int, past: int) -> Work:
        seen = rows * past + rows * (rows + 1) // 2
        return Work(4 * n_groups * self.shape.group_dim * seen, n_groups * self.kv_bytes(past + rows))

    def rows_work(self, arrays: int, rows: int, operations: int = 0) -> Work:
        values = rows * self.shape.d_model
        return Work(operations * values, arrays * values * self.value_bytes)

    def work(self, kind: Kind, n_groups: int, rows: int, past: int, layer: int = 0) -> Work:
        """Attention is causal: row i attends to past + i + 1 positions. The output matrix runs on the last row only."""
        s = self.shape
        match kind:
            case Kind.EMBED:
                return Work(0.0, matrix_bytes(s, "embed", rows, s.d_model))
            case Kind.HEAD:
                return self.qkv_work(n_groups, rows, layer) + self.attention_work(n_groups, rows, past)
            case Kind.PROJ:
                return Work(2 * rows * s.n_heads * s.head_dim * s.d_model, self.weight_bytes(proj(layer)))
            case Kind.FFN:
                up = 2 if s.activation == "swiglu" else 1
                return Work(2 * rows * s.d_model * s.d_ff * (up + 1), self.weight_bytes(ffn(layer)))
            case Kind.LM_HEAD:
                return Work(2 * s.d_model * s.vocab_size, self.weight_bytes(LM_HEAD))

    # -- messages ---------------------------------------------------------------------------------------------------

    def activation_bytes(self, rows: int, chunks: int = 1) -> int:  # noqa: ARG002
        return MESSAGE_HEADER_BYTES + rows * self._sent_bytes(self.shape.d_model)

    def chunk_bytes(self, rows: int, chunks: int) -> int:  # noqa: ARG002
        """[D] Float32, if the scenario says nothing else: a sum is rounded once, when it is complete."""
        return MESSAGE_HEADER_BYTES + rows * number_format(self.shape.precision.partials).row_bytes(self.shape.d_model)

    def attention_bytes(self, n_groups: int, rows: int) -> int:
        return MESSAGE_HEADER_BYTES + rows * n_groups * self._sent_bytes(self.shape.group_dim)

    def _sent_bytes(self, width: int) -> int:
        return number_format(self.shape.precision.messages).row_bytes(width)

    def token_bytes(self) -> int:
        return MESSAGE_HEADER_BYTES + TOKEN_BYTES
