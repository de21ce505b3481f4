"""Model as a run needs it: shape, source of its weights, tokenizer. Reads headers once; no weights.

What devices need of it is `spec`, small plain data for `edgeemu_kernels.weights.sources.open_source`. Readers of files
are imported where a file is read: seeded models have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.precision import Precision
from edgeemu_kernels.shape import ModelShape

if TYPE_CHECKING:
    from edgeemu_kernels.tokenizer.tokenizer import Tokenizer
    from edgeemu_kernels.weights.sources import WeightSource


@dataclass(frozen=True)
class Model:
    """Opened model. `tokenizer` is None for a seeded model or without its file; else it is built when first needed.

    `context_limit` is what limits `shape.max_context`, "" if it is simply the model's context. `end_ids` are the tokens
    that end a text by the files of a model without a tokenizer; else the tokenizer knows them.
    """

    name: str
    shape: ModelShape
    spec: dict[str, Any] = field(repr=False)
    _make_tokenizer: Callable[[], Tokenizer] | None = field(default=None, repr=False)
    context_limit: str = ""
    end_ids: frozenset[int] = frozenset()

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        return None if self._make_tokenizer is None else self._make_tokenizer()

    def open_source(self) -> WeightSource:
        from edgeemu_kernels.weights.sources import open_source

        return open_source(self.spec)

    def at_precision(self, weights: str = "f32", cache: str = "f32", messages: str = "f32") -> Model:
        """Return the model in another precision; see `ModelShape.at_precision`.

        `weights` "file": as a GGUF file has them, but a projection in a finer format where KV groups are not whole
        blocks. Raises ValueError for a format that is unknown, and ModelFileError where "file" cannot be done.
        """
        if weights != "file":
            shape = self.shape.at_precision(weights, cache, messages)
        elif self.spec["kind"] == "gguf":
            shape = self.shape.at_precision("f32", cache, messages)
            from edgeemu_kernels.weights.file_precision import file_precision

            precision = file_precision(Path(self.spec["path"]), shape, self.spec["tensors"])
            shape = replace(shape, precision=precision)
        else:
            raise ModelFileError(
                self.spec.get("path", self.name), "is not a GGUF file: `weights: file` is for GGUF files"
            )
        return replace(self, shape=shape, spec={**self.spec, "shape": shape.to_dict()})

    def with_expanded(self) -> Model:
        """Return the model whose devices keep decoded matrices beside the packed ones."""
        return self._with(replace(self.shape.precision, expanded=True))

    def with_rounded_partials(self) -> Model:
        """Return the model whose devices send partial sums in the format of messages."""
        return self._with(replace(self.shape.precision, rounds_partials=True))

    def _with(self, precision: Precision) -> Model:
        shape = replace(self.shape, precision=precision)
        return replace(self, shape=shape, spec={**self.spec, "shape": shape.to_dict()})


def open_model(location: Path | str, weights: str = "f32", cache: str = "f32", messages: str = "f32") -> Model:
    """Open a GGUF file or a Hugging Face directory, at a precision (see `Model.at_precision`).

    ModelFileError if it is missing or of a kind that we do not have.
    """
    path = Path(location)
    model = open_huggingface(path) if path.is_dir() else open_gguf(path)
    return model.at_precision(weights, cache, messages)


def open_gguf(location: Path | str) -> Model:
    """Open a Llama-architecture GGUF file. Raises ModelFileError if it is missing, truncated or not supported."""
    from edgeemu_kernels.weights.gguf_header import read_header
    from edgeemu_kernels.weights.gguf_shape import ROPE_FREQS, gguf_shape
    from edgeemu_kernels.weights.gguf_source import required_tensors
    from edgeemu_kernels.weights.tensorfile import check_complete

    path = Path(location).absolute()
    header = read_header(path)
    shape, context_limit = gguf_shape(header)

    def make_tokenizer() -> Tokenizer:
        from edgeemu_kernels.tokenizer.gguf import gguf_tokenizer

        return gguf_tokenizer(path, header.metadata)

    dims_of = {name: dims for name, (_, _, dims) in header.tensors.items()}
    wanted = required_tensors(shape)
    check_complete(path, dims_of, wanted)
    strange = next((name for name in dims_of if name not in wanted and name != ROPE_FREQS), None)
    if strange is not None:
        raise ModelFileError(path, f"has tensor {strange[:60]!r}, which a Llama model of its metadata does not have")
    tensors = {name: [*header.tensors[name][:2], list(header.tensors[name][2])] for name in wanted}
    spec = {"kind": "gguf", "path": str(path), "shape": shape.to_dict(), "tensors": tensors}
    return Model(shape.name, shape, spec, make_tokenizer, context_limit)


def open_huggingface(location: Path | str) -> Model:
    """Open a directory with `config.json` and *.safetensors (Llama family, GPT-2). Raises ModelFileError."""
    from edgeemu_kernels.weights.huggingface_config import read_config
    from edgeemu_kernels.weights.huggingface_source import EMBEDDINGS, required_tensors
    from edgeemu_kernels.weights.safetensors_index import check_tensors, has_own_head, read_index

    path = Path(location).absolute()
    config = read_config(path)
    shape, architecture = config.shape, config.architecture
    index = read_index(path)
    if shape.tied_embeddings and has_own_head(path, index, EMBEDDINGS[architecture]):
        shape = replace(shape, tied_embeddings=False)
    wanted = required_tensors(shape, architecture)
    check_tensors(path, index, wanted)
    tensors = {name: [*index[name][:3], list(index[name][3])] for name in wanted}

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
    if (path / "tokenizer.json").exists():
        return Model(shape.name, shape, spec, make_tokenizer, config.context_limit)

    from edgeemu_kernels.tokenizer.huggingface_files import model_token_ids

    _, end_ids = model_token_ids(path, shape.vocab_size)
    return Model(shape.name, shape, spec, None, config.context_limit, frozenset(end_ids))


def seeded_model(shape: ModelShape, seed: int) -> Model:
    """Model of any shape with random weights; no tokenizer."""
    return Model(shape.name, shape, {"kind": "seeded", "seed": seed, "shape": shape.to_dict()})
