"""Number formats in which a model's weights, caches and messages are held and sent. Knows sizes; no arrays, no files.

The quantised formats are ggml's (`ggml-common.h`): a row is a sequence of blocks, each with its own scale.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, NamedTuple, Self

Matrix = Literal["embed", "query", "key", "value", "proj", "up", "down", "lm_head"]
VECTOR_BYTES = 4  # of a value of norms and biases, which are float32 at every precision, as in GGUF files


class NumberFormat(NamedTuple):
    """Number format: `block_size` numbers of one row are stored in `block_bytes` bytes."""

    name: str
    block_size: int
    block_bytes: int

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` numbers. Raises ValueError if that is not a whole number of blocks."""
        blocks, rest = divmod(width, self.block_size)
        if rest:
            raise ValueError(f"{width} numbers are not a whole number of {self.name} blocks of {self.block_size}")
        return blocks * self.block_bytes


FORMATS = {
    made.name: made
    for made in (
        NumberFormat("f32", 1, 4),
        NumberFormat("f16", 1, 2),
        NumberFormat("bf16", 1, 2),
        NumberFormat("q8_0", 32, 34),
        NumberFormat("q4_0", 32, 18),
        NumberFormat("q4_1", 32, 20),
        NumberFormat("q4_k", 256, 144),
        NumberFormat("q6_k", 256, 210),
    )
}
# What holds a matrix whose rows, or the parts into which they are divided, are not whole blocks; llama.cpp does alike.
FINER = {"q4_k": "q4_1", "q6_k": "q8_0", "q8_0": "f16", "q4_0": "f16", "q4_1": "f16"}


def number_format(name: str) -> NumberFormat:
    """Number format of that name. Raises ValueError if there is none."""
    if name not in FORMATS:
        raise ValueError(f"unknown number format {name!r}; known: {', '.join(FORMATS)}")
    return FORMATS[name]


class LayerFormats(NamedTuple):
    """Names of the number formats of one layer's matrices; `up` holds the gate too."""

    query: str
    key: str
    value: str
    proj: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class Precision:
    """Names of the number formats of a model's matrices, of its caches and of the messages between its blocks.

    `heads` holds queries, keys and values, `up` the gate too. A cache's rows are per head, a message's per position.
    Where layers, or a layer's queries, keys and values, differ, `layers` has the formats of each layer, and the others
    are those of most.
    """

    embed: str = "f32"
    heads: str = "f32"
    proj: str = "f32"
    up: str = "f32"
    down: str = "f32"
    lm_head: str = "f32"
    cache: str = "f32"
    messages: str = "f32"
    layers: tuple[LayerFormats, ...] = ()
    expanded: bool = False  # devices keep their matrices decoded too, in memory that is the host's and not theirs
    rounds_partials: bool = False  # partial sums cross in the format of messages too, and not as float32

    def __post_init__(self) -> None:
        for name in (*self._common(), *(name for layer in self.layers for name in layer)):
            number_format(name)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Precision from plain data, as `dataclasses.asdict` and JSON make it."""
        return cls(**{**data, "layers": tuple(LayerFormats(*each) for each in data.get("layers", ()))})

    def weights(self, matrix: Matrix, layer: int | None = None) -> NumberFormat:
        """Number format of a matrix of a layer; without one, the largest of all layers."""
        if self.layers and matrix in LayerFormats._fields:
            if layer is None:
                return _largest(self.layers, matrix)
            return FORMATS[str(getattr(self.layers[layer], matrix))]
        return FORMATS[str(getattr(self, "heads" if matrix in ("query", "key", "value") else matrix))]

    def leanest(self) -> Precision:
        """Return the precision in which each matrix has the smallest format that it has in any layer, in all layers."""
        if not self.layers:
            return self
        least = LayerFormats(*(min(column, key=_bits) for column in zip(*self.layers, strict=True)))
        return replace(self, layers=(least,) * len(self.layers))

    @property
    def partials(self) -> str:
        """Format of partial sums, and of the rows that a ring passes on."""
        return self.messages if self.rounds_partials else "f32"

    @property
    def order_free(self) -> bool:
        """Whether sums must be the same however a layer is divided.

        Where caches or messages are rounded, the last bit of a sum can become a step of their format.
        """
        return (self.cache, self.messages) != ("f32", "f32") and not self.rounds_partials

    @property
    def down_block_size(self) -> int:
        """Numbers of which a part of `down`'s rows is a multiple, in every layer."""
        return max(FORMATS[name].block_size for name in {self.down, *(layer.down for layer in self.layers)})

    @property
    def packed(self) -> list[str]:
        """Names of the formats other than float32, in alphabetical order."""
        return sorted({*self._common(), *(name for layer in self.layers for name in layer)} - {"f32"})

    @property
    def packs_weights(self) -> bool:
        """Whether a matrix is not float32, and has to be decoded."""
        return _packs_weights(self)

    def held_bytes(self, packed_bytes: int) -> int:
        """Bytes that a process takes at most where so many are of packed matrices: with the decoded ones, if kept."""
        if not self.expanded:
            return packed_bytes
        least = min(map(_bits, [*self._common()[:-2], *(name for layer in self.layers for name in layer)]))
        return packed_bytes + int(packed_bytes * 8 * VECTOR_BYTES / least)

    def _common(self) -> list[str]:
        """Formats that do not depend on the layer; those of caches and messages are last."""
        return [value for field in fields(self) if isinstance(value := getattr(self, field.name), str)]


def _bits(name: str) -> float:
    """Bits of a number in a format, in the mean."""
    return 8 * FORMATS[name].block_bytes / FORMATS[name].block_size


@cache
def _packs_weights(precision: Precision) -> bool:
    return bool(precision.layers) or set(precision._common()[:-2]) != {"f32"}


@cache
def _largest(layers: tuple[LayerFormats, ...], matrix: str) -> NumberFormat:
    """Format of a matrix in the layer where it has the most bytes."""
    return FORMATS[max((str(getattr(layer, matrix)) for layer in layers), key=_bits)]


F32 = Precision()


def fitting(name: str, width: int) -> str:
    """Name of the format itself, or of the next finer one in which `width` numbers are whole blocks.

    Raises ValueError for a name that is unknown.
    """
    while width % number_format(name).block_size:
        name = FINER[name]
    return name
