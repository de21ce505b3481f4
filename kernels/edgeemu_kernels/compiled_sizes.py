"""Where compiled kernels are used instead of NumPy. Knows sizes; compiles nothing."""

from __future__ import annotations

from edgeemu_kernels.shape import ModelShape

COMPILED_BYTES = 2**18  # of a matrix: below, NumPy and BLAS lose no time that matters
COMPILED_LANES = 16  # values of a vector; compiled kernels take heads and rows of a multiple of these
COMPILED_BLOCK = 512  # positions whose scores the compiled attention has at the same time, a multiple of the above
FEW_ROWS = 8  # that are multiplied by a matrix while it is read once


def compiles_attention(shape: ModelShape) -> bool:
    """Whether a layer of this shape is large enough for the compiled attention, wherever its groups are."""
    values = (shape.n_heads + 2 * shape.n_kv_heads) * shape.head_dim * shape.d_model  # of Q/K/V of all groups
    return 4 * values > COMPILED_BYTES and shape.head_dim % COMPILED_LANES == 0


def compiled_modules(shape: ModelShape) -> tuple[str, ...]:
    """Modules that kernels of this shape may import while they compute: better imported before that."""
    widest = max(
        shape.vocab_size, shape.d_ff * (2 if shape.activation == "swiglu" else 1), shape.n_heads * shape.head_dim
    )
    large = 4 * widest * shape.d_model > COMPILED_BYTES or compiles_attention(shape)
    compiled = ("edgeemu_kernels.compiled",) if large else ()
    return (*compiled, "edgeemu_kernels.order_free") if shape.precision.order_free else compiled


def compiled_formats(shape: ModelShape) -> list[str]:
    """Names of the number formats for which machine code may be made while kernels of this shape compute."""
    precision = shape.precision
    return sorted({*precision.packed, precision.cache}) if precision.order_free else precision.packed


def attention_scratch(group_size: int, head_dim: int) -> int:
    """Values that the compiled attention of one position needs beside its input and result, for one group at a time."""
    pairs = group_size + group_size % 2  # queries go by two
    return pairs * (2 * head_dim + COMPILED_BLOCK + 2)
