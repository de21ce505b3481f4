"""Number formats that a GGUF file holds a model's matrices in. Knows names and types of tensors; reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.precision import FORMATS, Matrix
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.quants import ggml_name

_PER_LAYER: dict[Matrix, tuple[str, ...]] = {
    "heads": ("attn_q", "attn_k", "attn_v"),
    "proj": ("attn_output",),
    "up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}


def file_formats(path: Path, shape: ModelShape, tensors: Mapping[str, Sequence[Any]]) -> dict[Matrix, str]:
    """Names of the formats of the six matrices as the file has them. `tensors`: name -> [offset, ggml type, dims].

    Raises ModelFileError for a format that kernels do not compute from, and where tensors of one matrix differ.
    """
    names = {matrix: list(_tensors(matrix, shape)) for matrix in (*_PER_LAYER, "embed", "lm_head")}
    every = [name for each in names.values() for name in each]
    common = Counter(ggml_name(tensors[name][1]).lower() for name in every).most_common()
    instead = next((form for form, _ in common if form in FORMATS), "q8_0")
    found: dict[Matrix, str] = {}
    for matrix, of_one in names.items():
        forms = [ggml_name(tensors[name][1]) for name in of_one]
        if forms[0].lower() not in FORMATS:
            problem = f"tensor {of_one[0]!r} has the type {forms[0]}, in which kernels do not compute"
            raise ModelFileError(path, f"{problem}; instead of `weights: file`, use for example `weights: {instead}`")
        other = next((i for i, form in enumerate(forms) if form != forms[0]), None)
        if other is not None:
            problem = (
                f"tensors {of_one[0]!r} ({forms[0]}) and {of_one[other]!r} ({forms[other]}) have different formats"
            )
            reason = f"and `weights: file` needs one for {matrix} in all layers"
            raise ModelFileError(path, f"{problem}, {reason}; use for example `weights: {instead}`")
        found[matrix] = forms[0].lower()
    return found


def _tensors(matrix: Matrix, shape: ModelShape) -> Iterator[str]:
    """Names of the tensors that one of the six matrices consists of."""
    if matrix == "embed" or (matrix == "lm_head" and shape.tied_embeddings):
        yield "token_embd.weight"
    elif matrix == "lm_head":
        yield "output.weight"
    else:
        for layer in range(shape.n_layers):
            yield from (f"blk.{layer}.{name}.weight" for name in _PER_LAYER[matrix])
