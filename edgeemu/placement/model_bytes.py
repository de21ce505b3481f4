"""Bytes of all weights of a model at several precisions, which say what a board can hold."""

from functools import lru_cache

from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.costs import PhysicalCosts
from edgeemu.placement.memory import Usage
from edgeemu_kernels.shape import ModelShape

SHOWN = ("f32", "f16", "q8_0", "q4_0")  # of the formats, those that a table has room for


@lru_cache(maxsize=256)  # the catalog's models in several formats, which tables, documents and searches by size ask for
def model_bytes(shape: ModelShape) -> int:
    """Bytes of all weights of a model at the precision of its shape."""
    whole = Usage(PhysicalCosts(shape), prompt_tokens=1, total_tokens=1)
    for block in all_blocks(shape):
        whole.add(block)
    return whole.page().weights_bytes


def bytes_by_format(shape: ModelShape) -> dict[str, int]:
    """Bytes of all weights of a model in each of the formats `SHOWN`, by name."""
    return {name: model_bytes(shape.at_precision(weights=name)) for name in SHOWN}
