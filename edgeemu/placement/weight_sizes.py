"""Bytes of the weights of a model's blocks, in the formats of each layer."""

from functools import lru_cache

from edgeemu.placement.blocks import Block, Kind
from edgeemu_kernels.precision import VECTOR_BYTES, Matrix
from edgeemu_kernels.shape import ModelShape


def norm_bytes(shape: ModelShape) -> int:
    """Weights of a norm: a gain (RMSNorm), or a gain and a bias (LayerNorm)."""
    return shape.d_model * (1 if shape.norm == "rms" else 2) * VECTOR_BYTES


def matrix_bytes(shape: ModelShape, matrix: Matrix, rows: int, width: int, layer: int | None = None) -> int:
    """Rows of a matrix of a layer; without one, of the layer where it is largest."""
    return rows * shape.precision.weights(matrix, layer).row_bytes(width)


@lru_cache(maxsize=64)
def mean_weight_bytes(shape: ModelShape, kind: Kind, group: int) -> int:
    """Weights of a block of that kind in the mean of the layers, rounded up."""
    total = sum(weight_bytes(shape, Block(kind, layer, group)) for layer in range(shape.n_layers))
    return -(-total // shape.n_layers)


@lru_cache(maxsize=1024)
def weight_bytes(shape: ModelShape, block: Block, *, largest: bool = False) -> int:
    """Weights of one block, or of such a block in the layer where each matrix is `largest`.

    The norm of heads, and of shards of a feed-forward, is not counted: those of a layer on one device share it.
    """
    d, hd, layer = shape.d_model, shape.head_dim, None if largest else block.layer

    def matrix(name: Matrix, rows: int, width: int) -> int:
        return matrix_bytes(shape, name, rows, width, layer)

    def ffn(columns: int) -> int:
        rows = columns * (2 if shape.activation == "swiglu" else 1)
        return matrix("up", rows, d) + matrix("down", d, columns) + _bias_bytes(shape, rows)

    last_bias = 0 if block.group > 0 else _bias_bytes(shape, d)  # of a sum: the first shard has it
    match block.kind:
        case Kind.EMBED:
            positions = shape.max_context * d if shape.positions == "learned" else 0
            return matrix("embed", shape.vocab_size, d) + positions * VECTOR_BYTES
        case Kind.HEAD:
            qkv = matrix("query", shape.group_dim, d) + matrix("key", hd, d) + matrix("value", hd, d)
            return qkv + _bias_bytes(shape, shape.group_dim + 2 * hd)
        case Kind.PROJ:
            return matrix("proj", d, shape.group_dim if block.is_shard else shape.n_heads * hd) + last_bias
        case Kind.FFN if block.is_shard:
            return ffn(shape.ffn_unit_dim) + last_bias
        case Kind.FFN:
            return ffn(shape.d_ff) + last_bias + norm_bytes(shape)
        case Kind.LM_HEAD:
            return matrix("lm_head", shape.vocab_size, d) + norm_bytes(shape)


def _bias_bytes(shape: ModelShape, values: int) -> int:
    return values * VECTOR_BYTES if shape.bias else 0
