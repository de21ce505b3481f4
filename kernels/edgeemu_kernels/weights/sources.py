"""Sources of a device's blocks, of three kinds. Imports nothing too big for a device.

A source reads or generates only what is requested. `open_source` takes plain data (it crosses a process
boundary as JSON or msgpack) that `edgeemu_kernels.weights.open_model` prepares once for all devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edgeemu_kernels.attention import Heads
from edgeemu_kernels.dense import Embed, Ffn, LmHead, Proj
from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.linear import Array
from edgeemu_kernels.norms import Norm
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.gguf_source import GgufSource
from edgeemu_kernels.weights.huggingface_source import HuggingFaceSource
from edgeemu_kernels.weights.seeded import SeededSource

__all__ = ["ModelFileError", "WeightSource", "files_of", "open_source"]


class WeightSource(Protocol):
    """Source of the blocks of one model.

    Every method raises ModelFileError if a tensor is missing, cut off or of another size.
    """

    @property
    def shape(self) -> ModelShape: ...

    def embed(self) -> Embed: ...

    def positions(self) -> Array | None:
        """Learned positions of the embedding [max_context, D]; None where the model has none."""
        ...

    def heads(self, layer: int, groups: Sequence[int]) -> Heads:
        """Kernel of these groups of a layer, fused in this order."""
        ...

    def proj(self, layer: int, groups: Sequence[int] | None = None, rows: range | None = None) -> Proj:
        """Undivided projection of a layer, or the shard of these KV groups in this order, or these rows of it."""
        ...

    def ffn(self, layer: int, units: Sequence[int] | None = None, rows: range | None = None) -> Ffn:
        """Undivided feed-forward of a layer, or the shard of these of its `shape.ffn_units` units in this order.

        `rows`: its second matrix has these rows of the whole, in place of the columns of the units.
        """
        ...

    def lm_head(self, embed: Embed | None = None) -> LmHead:
        """Output matrix; shares `embed`'s table if the model ties the two."""
        ...

    def final_norm(self) -> Norm:
        """The norm of the output matrix."""
        ...


def files_of(spec: dict[str, Any]) -> tuple[str, ...]:
    """Files that the source of this `spec` reads; see `open_source`."""
    match spec["kind"]:
        case "gguf":
            return (spec["path"],)
        case "huggingface":
            return tuple(sorted({str(Path(spec["path"], file)) for file, *_ in spec["tensors"].values()}))
        case _:
            return ()


def open_source(spec: dict[str, Any]) -> WeightSource:
    """Open the source that `spec` describes: `{"kind": "gguf" | "huggingface" | "seeded", "shape": …, …}`.

    gguf: `path`, `tensors` {name: [offset, ggml type, dims]}. huggingface: `path`, `tensors`
    {name: [file, offset, dtype, dims]}, `architecture`. seeded: `seed`. ValueError for another kind.
    """
    shape = ModelShape.from_dict(spec["shape"])
    match spec["kind"]:
        case "gguf":
            return GgufSource(Path(spec["path"]), shape, spec["tensors"])
        case "huggingface":
            return HuggingFaceSource(Path(spec["path"]), shape, spec["architecture"], spec["tensors"])
        case "seeded":
            return SeededSource(shape, spec["seed"])
        case kind:
            raise ValueError(f"unknown kind of weights: {kind!r}")
