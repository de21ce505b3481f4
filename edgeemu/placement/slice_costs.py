"""Costs of `collectives: gather`, where devices have rows of every matrix, and one attends and holds all caches.

A device computes queries, keys and values of its groups, inner columns of its units, and as large a share of the
columns of the projection's and of the feed-forward's result: its matrices have the bytes that its shards have, but of
biases it has those of its own columns.
"""

from dataclasses import dataclass

from edgeemu.placement.blocks import MESSAGE_HEADER_BYTES, Kind, n_shards
from edgeemu.placement.weight_sizes import matrix_bytes, norm_bytes
from edgeemu.placement.work import Work
from edgeemu_kernels.packed import WORKSPACE_BYTES
from edgeemu_kernels.precision import VECTOR_BYTES, number_format
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.workspace import attention_values

_VALUE_BYTES = 4  # of what is computed


@dataclass(frozen=True, slots=True)
class SliceCosts:
    """Costs of the kernels, of messages and of memory. `rows` are a step's new positions, `past` those cached."""

    shape: ModelShape

    # -- weights and operations -------------------------------------------------------------------------------------

    def weight_bytes(self, kind: Kind, layer: int, shares: int) -> int:
        """Weights that a device has of a layer's projection or feed-forward, with the norm, for so many shares of it.

        `layer` -1: of the layer where each matrix has the most bytes.
        """
        columns = shares * self.shape.d_model // n_shards(self.shape, kind)
        if kind is Kind.PROJ:
            return self._outer_bytes(kind, layer, columns)
        return self._inner_bytes(layer, shares) + self._outer_bytes(kind, layer, columns)

    def bias_bytes(self, kind: Kind, shares: int) -> int:
        """Part of `weight_bytes` that is the bias of the columns of a result."""
        return self._bias_bytes(shares * self.shape.d_model // n_shards(self.shape, kind))

    def inner_work(self, layer: int, units: int, rows: int) -> Work:
        """First product of a feed-forward and its activation, for so many units."""
        s = self.shape
        return Work(2 * rows * s.d_model * units * s.ffn_unit_dim * self._up, self._inner_bytes(layer, units))

    def outer_work(self, kind: Kind, layer: int, columns: int, rows: int) -> Work:
        """Some columns of the result of a projection, or of a feed-forward's second product."""
        return Work(2 * rows * self._width(kind) * columns, self._outer_bytes(kind, layer, columns))

    @property
    def _up(self) -> int:
        return 2 if self.shape.activation == "swiglu" else 1

    def _width(self, kind: Kind) -> int:
        """Columns that the product takes: outputs of all groups, or all inner columns."""
        return self.shape.n_heads * self.shape.head_dim if kind is Kind.PROJ else self.shape.d_ff

    def _inner_bytes(self, layer: int, units: int) -> int:
        width = self._up * units * self.shape.ffn_unit_dim
        matrix = matrix_bytes(self.shape, "up", width, self.shape.d_model, layer)
        return norm_bytes(self.shape) + matrix + self._bias_bytes(width)

    def _outer_bytes(self, kind: Kind, layer: int, columns: int) -> int:
        matrix = matrix_bytes(self.shape, "proj" if kind is Kind.PROJ else "down", columns, self._width(kind), layer)
        return matrix + self._bias_bytes(columns)

    def _bias_bytes(self, values: int) -> int:
        return values * VECTOR_BYTES if self.shape.bias else 0

    # -- messages ---------------------------------------------------------------------------------------------------

    def message_bytes(self, width: int, rows: int) -> int:
        """Message with some columns: [rows, width]."""
        return MESSAGE_HEADER_BYTES + rows * number_format(self.shape.precision.messages).row_bytes(width)

    def projected_width(self, groups: int) -> int:
        """Queries, keys and values of so many groups."""
        return groups * (self.shape.group_dim + 2 * self.shape.head_dim)

    def inner_width(self, units: int) -> int:
        """Inner columns of so many units."""
        return units * self.shape.ffn_unit_dim

    def held_messages_bytes(self, rows: int, members: int, *, root: bool) -> int:
        """Upper bound of the messages that a device holds; of those in several parts, with a header for each."""
        s, headers = self.shape, members * MESSAGE_HEADER_BYTES
        x = self.message_bytes(s.d_model, rows) + headers
        attention = self.message_bytes(s.n_heads * s.head_dim, rows)
        inner = self.message_bytes(s.d_ff, rows) + headers
        if not root:
            return x + max(attention, inner)
        projected = self.message_bytes(self.projected_width(s.n_groups), rows) + headers
        return 2 * x + max(projected, attention + x, inner + x)

    # -- arrays of one execution ------------------------------------------------------------------------------------

    def projected_workspace_bytes(self, groups: int, rows: int) -> int:
        """Peak of the arrays for queries, keys and values."""
        width = self.projected_width(groups)
        return self._held_bytes(3 * self.shape.d_model + 2 * width, width, rows)

    def attend_workspace_bytes(self, rows: int, past: int) -> int:
        """Peak of the arrays for attention of all groups, whose queries, keys and values come from several devices."""
        s = self.shape
        qkv = self.projected_width(s.n_groups)
        attention = rows * s.n_heads * s.head_dim + attention_values(s, s.n_groups, rows, past)
        values = 2 * rows * qkv + max(2 * rows * qkv, attention)
        caches = 2 * WORKSPACE_BYTES if s.precision.order_free or s.precision.cache != "f32" else 0
        return values * _VALUE_BYTES + caches + self._rounding_bytes(s.n_heads * s.head_dim, rows)

    def inner_workspace_bytes(self, units: int, rows: int) -> int:
        """Peak of the arrays for inner columns."""
        width = self.inner_width(units)
        return self._held_bytes(3 * self.shape.d_model + 3 * width, width, rows)

    def outer_workspace_bytes(self, kind: Kind, rows: int) -> int:
        """Peak of the arrays for columns of a result."""
        return self._held_bytes(3 * self._width(kind) + self.shape.d_model, self.shape.d_model, rows)

    def lacking_workspace_bytes(self, rows: int) -> int:
        """Columns that are put side by side for a device that lacks them: at most all."""
        return self.message_bytes(self.shape.d_ff, rows)

    def _held_bytes(self, values: int, width: int, rows: int) -> int:
        pieces = WORKSPACE_BYTES if self.shape.precision.packs_weights else 0
        return rows * values * _VALUE_BYTES + pieces + self._rounding_bytes(width, rows)

    def _rounding_bytes(self, width: int, rows: int) -> int:
        """Where rows cross in another format, float32 copies of x, and what encoding a result of that width needs."""
        precision, d_model = self.shape.precision, self.shape.d_model
        values = 2 * d_model + width if precision.messages != "f32" else 0
        values += 2 * d_model if precision.order_free else 0  # sums of 8 bytes each
        return rows * values * _VALUE_BYTES
