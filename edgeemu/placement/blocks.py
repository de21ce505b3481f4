"""Blocks of a decoder, the units that a placement puts on devices. Knows a model's shape; no devices.

A layer has one block for each KV group (with its cache), one for the projection, one for the feed-forward.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from edgeemu_kernels.shape import ModelShape

MESSAGE_HEADER_BYTES = 64
TOKEN_BYTES = 8  # a sampled id, sent back to the embedding


class Kind(StrEnum):
    EMBED = "embed"
    HEAD = "head"
    PROJ = "proj"
    FFN = "ffn"
    LM_HEAD = "lm_head"


class Block(NamedTuple):
    """Block, the unit that a placement puts on a device. `layer` and `group` are -1 where they have no meaning.

    A projection or a feed-forward is undivided (`group` -1), or divided into shards whose results are partial sums:
    `proj(l, g)` has the columns of KV group g, `ffn(l, c)` the c-th of `shape.ffn_units` units of the inner width.
    """

    kind: Kind
    layer: int = -1
    group: int = -1

    def __str__(self) -> str:
        match self.kind:
            case Kind.HEAD:
                return f"head({self.layer},{self.group})"
            case Kind.PROJ | Kind.FFN:
                return f"{self.kind}({self.layer},{self.group})" if self.is_shard else f"{self.kind}({self.layer})"
            case _:
                return self.kind.value

    @property
    def is_shard(self) -> bool:
        return self.group >= 0 and self.kind in (Kind.PROJ, Kind.FFN)

    @property
    def whole(self) -> "Block":
        """The undivided block that a shard is a part of."""
        return Block(self.kind, self.layer)


EMBED = Block(Kind.EMBED)
LM_HEAD = Block(Kind.LM_HEAD)


def head(layer: int, group: int) -> Block:
    return Block(Kind.HEAD, layer, group)


def proj(layer: int, group: int = -1) -> Block:
    return Block(Kind.PROJ, layer, group)


def ffn(layer: int, unit: int = -1) -> Block:
    return Block(Kind.FFN, layer, unit)


def n_shards(shape: ModelShape, kind: Kind) -> int:
    """Number of shards of a layer's projection or feed-forward, if it is divided."""
    return shape.n_groups if kind is Kind.PROJ else shape.ffn_units


def shards(shape: ModelShape, kind: Kind, layer: int) -> list[Block]:
    """Shards that together stand for a layer's undivided projection or feed-forward."""
    return [Block(kind, layer, index) for index in range(n_shards(shape, kind))]


def layer_blocks(shape: ModelShape, layer: int) -> Iterator[Block]:
    """Blocks of one undivided layer, in the order in which they run."""
    for group in range(shape.n_groups):
        yield head(layer, group)
    yield proj(layer)
    yield ffn(layer)


def all_blocks(shape: ModelShape) -> Iterator[Block]:
    """Blocks of the undivided model, in the order in which they run."""
    yield EMBED
    for layer in range(shape.n_layers):
        yield from layer_blocks(shape, layer)
    yield LM_HEAD
