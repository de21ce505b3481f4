"""Costs of blocks: operations, bytes of weights, caches, messages and workspace; and the roofline of a device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, Self

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import LM_HEAD, MESSAGE_HEADER_BYTES, TOKEN_BYTES, Block, Kind, ffn, head, proj
from edgeemu_kernels.attention import QUERY_ROWS
from edgeemu_kernels.compiled_sizes import COMPILED_LANES, attention_scratch, compiles_attention
from edgeemu_kernels.shape import ModelShape


class Work(NamedTuple):
    """Work of one execution: arithmetic operations, and bytes read from memory."""

    flops: float
    bytes_read: float

    def __add__(self, other: object) -> "Work":
        if not isinstance(other, Work):
            return NotImplemented
        return Work(self.flops + other.flops, self.bytes_read + other.bytes_read)


def roofline_s(compute: Compute, work: Work) -> float:
    """Duration on an absolute device: bound by arithmetic or by memory, plus a fixed cost per block.

    Source: the roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009).
    """
    return max(work.flops / compute.flops_per_s, work.bytes_read / compute.mem_bytes_per_s) + compute.overhead_s


class Costs(Protocol):
    """Costs of a model's blocks and of the messages between them, by kind of operation.

    `rows` are the new positions of a step, `past` those that are cached already. `n_groups` KV groups, or `n_shards`
    shards, of one layer on one device are one operation.
    """

    header_bytes: ClassVar[int]  # of every message

    @property
    def shape(self) -> ModelShape: ...

    @property
    def value_bytes(self) -> int: ...

    def __hash__(self) -> int:  # implementations are frozen dataclasses, and keys of caches
        return object.__hash__(self)

    def at_step(self, rows: int, past: int) -> Self:
        """The costs of a step of `rows` new positions after `past` cached ones."""
        ...

    # -- memory that a device holds -------------------------------------------------------------------------------

    def norm_bytes(self) -> int:
        """Weights of one norm."""
        ...

    def weight_bytes(self, block: Block) -> int:
        """Weights of one block.

        The norm of heads, and of shards of a feed-forward, is not counted: those of a layer on one device share it.
        """
        ...

    def fused_weight_bytes(self, kind: Kind, layer: int, groups: Sequence[int]) -> int:
        """Weights of one operation: a block, or a layer's groups or shards on one device with the norm they share."""
        if not groups:
            return self.weight_bytes(Block(kind, layer))
        shared = self.norm_bytes() if kind in (Kind.HEAD, Kind.FFN) else 0
        return shared + sum(self.weight_bytes(Block(kind, layer, group)) for group in groups)

    def heads_weight_bytes(self, n_groups: int) -> int:
        """Weights of `n_groups` fused groups of one layer with their norm; 0 for none."""
        return n_groups * self.weight_bytes(head(0, 0)) + self.norm_bytes() if n_groups else 0

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
        """Upper bound of the messages that one of `members` devices holds while they combine results of shards."""
        ...

    def inbox_bytes(self, rows: int) -> int:
        """Messages with x that a device with any block holds."""
        ...

    def gather_bytes(self, rows: int) -> int:
        """Messages with the outputs of all groups that the device of a projection holds in addition."""
        ...

    # -- operations and bytes read of an execution -----------------------------------------------------------------

    def work(self, kind: Kind, n_groups: int, rows: int, past: int) -> Work:
        """One execution of a block, or of `n_groups` fused groups of one layer, on `rows` new positions."""
        ...

    def qkv_work(self, n_groups: int, rows: int) -> Work:
        """Queries, keys and values of `n_groups` fused groups of one layer."""
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

    def activation_bytes(self, rows: int) -> int:
        """Message with x between blocks: [rows, d_model]."""
        ...

    def chunk_bytes(self, rows: int, chunks: int) -> int:
        """Message with one of `chunks` chunks of x: [rows, d_model]."""
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
    once per step. Norms, activations and RoPE are small vectors and left out, as is usual in roofline models (Williams
    et al., CACM 2009). All values are float32.
    """

    shape: ModelShape
    value_bytes: int = 4
    header_bytes: ClassVar[int] = MESSAGE_HEADER_BYTES  # of every message

    def at_step(self, rows: int, past: int) -> Self:  # noqa: ARG002
        """These costs: they depend on the step only through the arguments of each method."""
        return self

    # -- memory -----------------------------------------------------------------------------------------------------

    def norm_bytes(self) -> int:
        """A gain (RMSNorm), or a gain and a bias (LayerNorm)."""
        return self.shape.d_model * (1 if self.shape.norm == "rms" else 2) * self.value_bytes

    def weight_bytes(self, block: Block) -> int:
        s = self.shape
        bias = int(s.bias)
        match block.kind:
            case Kind.EMBED:
                values = s.vocab_size * s.d_model
                if s.positions == "learned":
                    values += s.max_context * s.d_model
            case Kind.HEAD:
                values = (s.group_dim + 2 * s.head_dim) * (s.d_model + bias)
            case Kind.PROJ if block.is_shard:
                values = s.group_dim * s.d_model + self._last_bias(block)
            case Kind.PROJ:
                values = s.n_heads * s.head_dim * s.d_model + bias * s.d_model
            case Kind.FFN if block.is_shard:
                up = 2 if s.activation == "swiglu" else 1
                values = s.ffn_unit_dim * (s.d_model * (up + 1) + bias * up) + self._last_bias(block)
            case Kind.FFN:
                up = 2 if s.activation == "swiglu" else 1
                values = s.d_ff * s.d_model * (up + 1) + bias * (up * s.d_ff + s.d_model)
                return values * self.value_bytes + self.norm_bytes()
            case Kind.LM_HEAD:
                return s.vocab_size * s.d_model * self.value_bytes + self.norm_bytes()
        return values * self.value_bytes

    def _last_bias(self, block: Block) -> int:
        """Values of the bias that is added to a sum: it belongs to the first shard, so that it is added once."""
        return self.shape.d_model if self.shape.bias and not block.group else 0

    def kv_bytes(self, tokens: int) -> int:
        return 2 * tokens * self.shape.head_dim * self.value_bytes

    def workspace_bytes(self, kind: Kind, n_groups: int, rows: int, past: int) -> int:
        """Peak of the arrays of one execution, for any sampling. A test holds it against what NumPy allocates."""
        s = self.shape
        x = rows * s.d_model
        match kind:
            case Kind.EMBED:
                values = x
            case Kind.HEAD:
                qkv = n_groups * rows * (s.group_dim + 2 * s.head_dim)
                attention = rows * n_groups * s.group_dim + self._attention_values(n_groups, rows, past)
                values = 2 * x + qkv + max(x, 2 * qkv, attention)  # a norm, RoPE, attention: one after the other
            case Kind.PROJ:
                values = rows * s.n_heads * s.head_dim + 3 * x
            case Kind.FFN:
                values = 3 * x + 3 * rows * s.d_ff
            case Kind.LM_HEAD:
                values = 2 * s.d_model + 10 * s.vocab_size  # the logits, and their order with its 8-byte ids
        return values * self.value_bytes

    def _attention_values(self, n_groups: int, rows: int, past: int) -> int:
        """Values that attention holds beside its input and result: scores, and queries and sums in another order."""
        s, seen = self.shape, past + rows
        together = min(rows, QUERY_ROWS)  # rows of one group whose scores exist at the same time
        block = s.group_size * together * (2 * s.head_dim + seen)
        if not compiles_attention(s):
            one_row = n_groups * s.group_size * (s.head_dim + seen)  # of all groups at the same time
            return one_row if rows == 1 else max(one_row, block + 3 * together**2)  # 3: the causal mask
        one_row = attention_scratch(s.group_size, s.head_dim)
        return one_row if rows == 1 else max(one_row, block + s.group_size * together * COMPILED_LANES)

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
        x, s = self.activation_bytes, self.shape
        few = (2 * members + 4) * x(min(rows, members - 1))
        many = (members + 4) * x(rows) if star else 6 * x(rows)
        qkv = rows * n_groups * (s.group_dim + 2 * s.head_dim)
        return max(few, many) + qkv * self.value_bytes

    def shard_workspace_bytes(self, kind: Kind, n_shards: int, rows: int) -> int:
        s = self.shape
        if kind is Kind.PROJ:
            values = 2 * rows * n_shards * s.group_dim + 3 * rows * s.d_model
        else:
            values = 3 * rows * s.d_model + 3 * rows * n_shards * s.ffn_unit_dim
        return values * self.value_bytes

    def collective_workspace_bytes(self, rows: int) -> int:
        return 3 * rows * self.shape.d_model * self.value_bytes

    # -- operations and bytes read ----------------------------------------------------------------------------------

    def shard_work(self, kind: Kind, layer: int, groups: Sequence[int], rows: int, past: int) -> Work:  # noqa: ARG002
        s = self.shape
        up = 2 if s.activation == "swiglu" else 1
        width = s.group_dim if kind is Kind.PROJ else s.ffn_unit_dim * (up + 1)
        flops = 2 * rows * s.d_model * width * len(groups)
        return Work(flops, self.fused_weight_bytes(kind, layer, groups))

    def qkv_work(self, n_groups: int, rows: int) -> Work:
        width = n_groups * (self.shape.group_dim + 2 * self.shape.head_dim)
        return Work(2 * rows * self.shape.d_model * width, self.heads_weight_bytes(n_groups))

    def attention_work(self, n_groups: int, rows: int, past: int) -> Work:
        seen = rows * past + rows * (rows + 1) // 2
        return Work(4 * n_groups * self.shape.group_dim * seen, n_groups * self.kv_bytes(past + rows))

    def rows_work(self, arrays: int, rows: int, operations: int = 0) -> Work:
        values = rows * self.shape.d_model
        return Work(operations * values, arrays * values * self.value_bytes)

    def work(self, kind: Kind, n_groups: int, rows: int, past: int) -> Work:
        """Attention is causal: row i attends to past + i + 1 positions. The output matrix runs on the last row only."""
        s = self.shape
        match kind:
            case Kind.EMBED:
                return Work(0.0, rows * s.d_model * self.value_bytes)
            case Kind.HEAD:
                return self.qkv_work(n_groups, rows) + self.attention_work(n_groups, rows, past)
            case Kind.PROJ:
                return Work(2 * rows * s.n_heads * s.head_dim * s.d_model, self.weight_bytes(proj(0)))
            case Kind.FFN:
                up = 2 if s.activation == "swiglu" else 1
                return Work(2 * rows * s.d_model * s.d_ff * (up + 1), self.weight_bytes(ffn(0)))
            case Kind.LM_HEAD:
                return Work(2 * s.d_model * s.vocab_size, self.weight_bytes(LM_HEAD))

    # -- messages ---------------------------------------------------------------------------------------------------

    def activation_bytes(self, rows: int) -> int:
        return MESSAGE_HEADER_BYTES + rows * self.shape.d_model * self.value_bytes

    def chunk_bytes(self, rows: int, chunks: int) -> int:  # noqa: ARG002
        return self.activation_bytes(rows)

    def attention_bytes(self, n_groups: int, rows: int) -> int:
        return MESSAGE_HEADER_BYTES + rows * n_groups * self.shape.group_dim * self.value_bytes

    def token_bytes(self) -> int:
        return MESSAGE_HEADER_BYTES + TOKEN_BYTES
