"""Values that attention holds while it computes, for whoever plans memory. Knows shapes; allocates nothing."""

from __future__ import annotations

from edgeemu_kernels.compiled_sizes import COMPILED_LANES, attention_scratch, compiles_attention
from edgeemu_kernels.shape import ModelShape

QUERY_ROWS = 128  # queries that prefill scores at a time: bounds the memory of the score matrix


def attention_values(shape: ModelShape, n_groups: int, rows: int, past: int) -> int:
    """Peak of the float32 values beside attention's input and result: scores, and queries and sums in another order.

    `rows` new positions of `n_groups` fused groups, after `past` cached ones. It grows with each of the three.
    """
    together, seen = min(rows, QUERY_ROWS), past + rows  # rows whose scores exist at the same time
    mask = 3 * together**2
    if shape.precision.cache != "f32" or shape.precision.order_free:  # one group at a time, from rows as stored
        scores = seen if shape.head_dim % (2 * COMPILED_LANES) == 0 else 2 * seen  # others are copied for products
        return together * shape.group_size * (4 * shape.head_dim + scores) + mask
    block = shape.group_size * together * (2 * shape.head_dim + seen)  # of one group
    if compiles_attention(shape):
        one_row = attention_scratch(shape.group_size, shape.head_dim)
        return one_row if rows == 1 else max(one_row, block + shape.group_size * together * COMPILED_LANES)
    one_row = n_groups * shape.group_size * (shape.head_dim + seen)  # of all groups
    return one_row if rows == 1 else max(one_row, block + mask)
