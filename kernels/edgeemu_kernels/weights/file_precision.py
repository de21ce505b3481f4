"""Number formats that a GGUF file holds a model's matrices in. Knows names and types of tensors; reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.precision import FORMATS, LayerFormats, Precision, fitting
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.quants import ggml_name

_OF_LAYER = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def file_precision(path: Path, shape: ModelShape, tensors: Mapping[str, Sequence[Any]]) -> Precision:
    """Precision of the shape, with matrices as the file has them. `tensors`: name -> [offset, ggml type, dims].

    A projection is in a finer format where the columns of a KV group are not whole blocks. Raises ModelFileError for a
    format that kernels do not compute from, and where a layer's gate and up differ, which are one matrix.
    """
    names = [f"blk.{layer}.{name}.weight" for layer in range(shape.n_layers) for name in _OF_LAYER]
    ends = ["token_embd.weight", "token_embd.weight" if shape.tied_embeddings else "output.weight"]
    forms = {name: ggml_name(tensors[name][1]).lower() for name in (*ends, *names)}
    common = [form for form, _ in Counter(forms.values()).most_common()]
    instead = next((form for form in common if form in FORMATS), "q8_0")
    if (name := next((name for name, form in forms.items() if form not in FORMATS), None)) is not None:
        problem = f"tensor {name!r} has the type {forms[name].upper()}, in which kernels do not compute"
        raise ModelFileError(path, f"{problem}; instead of `weights: file`, use for example `weights: {instead}`")
    layers = tuple(_of_layer(path, layer, forms, instead, shape.group_dim) for layer in range(shape.n_layers))
    query, _, _, proj, up, down = (Counter(column).most_common(1)[0][0] for column in zip(*layers, strict=True))
    alike = len(set(layers)) == 1 and len(set(layers[0][:3])) == 1
    return Precision(
        *(forms[ends[0]], query, proj, up, down, forms[ends[1]]),
        cache=shape.precision.cache,
        messages=shape.precision.messages,
        layers=() if alike else layers,
    )


def _of_layer(path: Path, layer: int, forms: Mapping[str, str], instead: str, group_dim: int) -> LayerFormats:
    names = [f"blk.{layer}.{name}.weight" for name in _OF_LAYER]
    query, key, value, proj, gate, up, down = (forms[name] for name in names)
    if gate != up:
        problem = f"tensors {names[4]!r} ({gate.upper()}) and {names[5]!r} ({up.upper()}) have different formats"
        reason = "and `weights: file` needs one for both, which are one matrix"
        raise ModelFileError(path, f"{problem}, {reason}; use for example `weights: {instead}`")
    return LayerFormats(query, key, value, fitting(proj, group_dim), up, down)
