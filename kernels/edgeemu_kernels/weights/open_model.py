"""Model as a run needs it: shape, source of its weights, tokenizer. Reads headers once; no weights.

What devices need of it is `spec`, small plain data for `edgeemu_kernels.weights.sources.open_source`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights import gguf_source, huggingface_source
from edgeemu_kernels.weights.gguf_header import gguf_shape, read_header
from edgeemu_kernels.weights.huggingface_config import read_config, read_index
from edgeemu_kernels.weights.sources import WeightSource, open_source
from edgeemu_kernels.weights.tensorfile import check_complete

if TYPE_CHECKING:
    from edgeemu_kernels.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Model:
    """Opened model. `tokenizer` is None for a seeded model or without its file; else it is built when first needed."""

    name: str
    shape: ModelShape
    spec: dict[str, Any] = field(repr=False)
    _make_tokenizer: Callable[[], Tokenizer] | None = field(default=None, repr=False)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        return None if self._make_tokenizer is None else self._make_tokenizer()

    def open_source(self) -> WeightSource:
        return open_source(self.spec)


def open_model(location: Path | str) -> Model:
    """Open a GGUF file or a Hugging Face directory.

    ModelFileError if it is missing or of a kind that we do not have.
    """
    path = Path(location)
    return open_huggingface(path) if path.is_dir() else open_gguf(path)


def open_gguf(location: Path | str) -> Model:
    """Open a Llama-architecture GGUF file. Raises ModelFileError if it is missing, truncated or not supported."""
    path = Path(location).absolute()
    header = read_header(path)
    shape = gguf_shape(header)

    def make_tokenizer() -> Tokenizer:
        from edgeemu_kernels.tokenizer.gguf import gguf_tokenizer

        return gguf_tokenizer(path, header.metadata)

    dims_of = {name: dims for name, (_, _, dims) in header.tensors.items()}
    check_complete(path, dims_of, gguf_source.required_tensors(shape))
    tensors = {name: [offset, kind, list(dims)] for name, (offset, kind, dims) in header.tensors.items()}
    spec = {"kind": "gguf", "path": str(path), "shape": shape.to_dict(), "tensors": tensors}
    return Model(shape.name, shape, spec, make_tokenizer)


def open_huggingface(location: Path | str) -> Model:
    """Open a directory with `config.json` and *.safetensors (Llama family, GPT-2). Raises ModelFileError."""
    path = Path(location).absolute()
    shape, architecture = read_config(path)
    index = read_index(path)
    dims_of = {name: dims for name, (_, _, _, dims) in index.items()}
    check_complete(path, dims_of, huggingface_source.required_tensors(shape, architecture))
    tensors = {name: [*entry[:3], list(entry[3])] for name, entry in index.items()}

    def make_tokenizer() -> Tokenizer:
        from edgeemu_kernels.tokenizer.huggingface import huggingface_tokenizer

        return huggingface_tokenizer(path)

    spec = {
        "kind": "huggingface",
        "path": str(path),
        "architecture": architecture,
        "shape": shape.to_dict(),
        "tensors": tensors,
    }
    return Model(shape.name, shape, spec, make_tokenizer if (path / "tokenizer.json").exists() else None)


def seeded_model(shape: ModelShape, seed: int) -> Model:
    """Model of any shape with random weights; no tokenizer."""
    return Model(shape.name, shape, {"kind": "seeded", "seed": seed, "shape": shape.to_dict()})
