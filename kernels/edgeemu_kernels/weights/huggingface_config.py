"""Config and tensor index of a Hugging Face directory. Read once, where a run is planned; no weights.

Formats: `config.json` as transformers writes it; safetensors' header (8 bytes little-endian length, then
JSON).
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.shape import ModelShape, RopeScaling
from edgeemu_kernels.weights.json_files import read_json
from edgeemu_kernels.weights.quants import named_format

Entry = tuple[str, int, str, tuple[int, ...]]  # file, offset in it, dtype, dims

_LLAMA = ("LlamaForCausalLM", "MistralForCausalLM")
_GPT2 = ("GPT2LMHeadModel",)
_BASE_PREFIXES = ("model.", "transformer.")  # what the head model puts before the base model's names
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def read_config(directory: Path) -> tuple[ModelShape, str]:
    """Shape, and the architecture ("llama" or "gpt2") that says how tensors are named and stored."""
    path = directory / "config.json"
    config = read_json(path)
    names = config.get("architectures") or []
    try:
        if any(name in _LLAMA for name in names):
            return _llama_shape(path, config), "llama"
        if any(name in _GPT2 for name in names):
            return _gpt2_shape(path, config), "gpt2"
    except KeyError as error:
        raise ModelFileError(path, f"lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(path, str(error)) from error
    known = ", ".join((*_LLAMA, *_GPT2))
    raise ModelFileError(path, f"architecture {names} is not supported (supported: {known})")


def _llama_shape(path: Path, config: dict[str, Any]) -> ModelShape:
    for key, supported in (("hidden_act", "silu"), ("attention_bias", False), ("mlp_bias", False)):
        if config.get(key, supported) != supported:
            raise ModelFileError(path, f"{key} = {config[key]!r} is not supported")
    if config.get("sliding_window"):
        raise ModelFileError(path, "sliding-window attention is not supported")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    # transformers 5 keeps theta and scaling together in `rope_parameters`; before, apart
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return ModelShape(
        name=directory_name(path, config),
        n_layers=config["num_hidden_layers"],
        d_model=width,
        n_heads=heads,
        n_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or width // heads,
        d_ff=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        max_context=config["max_position_embeddings"],
        norm_eps=config["rms_norm_eps"],
        positions="rope-half",
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        rope_scaling=_rope_scaling(path, rope),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _rope_scaling(path: Path, rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelFileError(path, f"RoPE scaling {kind!r} is not supported")
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )


def _gpt2_shape(path: Path, config: dict[str, Any]) -> ModelShape:
    activation = config.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise ModelFileError(path, f"activation_function = {activation!r} is not supported")
    if not config.get("scale_attn_weights", True) or config.get("scale_attn_by_inverse_layer_idx", False):
        raise ModelFileError(path, "GPT-2 with another scaling of the attention is not supported")
    heads, width = config["n_head"], config["n_embd"]
    return ModelShape(
        name=directory_name(path, config),
        n_layers=config["n_layer"],
        d_model=width,
        n_heads=heads,
        n_kv_heads=heads,
        head_dim=width // heads,
        d_ff=config.get("n_inner") or 4 * width,
        vocab_size=config["vocab_size"],
        max_context=config["n_positions"],
        norm="layer",
        norm_eps=config["layer_norm_epsilon"],
        activation="gelu",
        positions="learned",
        tied_embeddings=bool(config.get("tie_word_embeddings", True)),
        bias=True,
    )


def directory_name(path: Path, config: dict[str, Any]) -> str:
    """Name of the model: the one it was published under, else its directory's."""
    return str(config.get("_name_or_path") or path.parent.name)


def read_index(directory: Path) -> dict[str, Entry]:
    """Index of every tensor of the directory's safetensors, named without the base model's prefix.

    ModelFileError if one does not lie within its file.
    """
    index_path = directory / _INDEX
    weight_map = read_json(index_path).get("weight_map", {}) if index_path.exists() else {"": _SINGLE}
    entries: dict[str, Entry] = {}
    for file in sorted(set(weight_map.values())):
        for name, entry in _read_safetensors(directory / file).items():
            prefix = next((prefix for prefix in _BASE_PREFIXES if name.startswith(prefix)), "")
            entries[name.removeprefix(prefix)] = entry
    return entries


def _read_safetensors(path: Path) -> dict[str, Entry]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ModelFileError(path, f"is truncated: it ends at byte {size}, within its header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelFileError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelFileError(path, f"has no safetensors header: {error}") from error
    if not isinstance(header, dict):
        raise ModelFileError(path, "has no safetensors header: not a JSON object")
    entries: dict[str, Entry] = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        dtype, dims, (start, stop) = tensor["dtype"], tuple(tensor["shape"]), tensor["data_offsets"]
        end = 8 + length + stop
        if end > size:
            raise ModelFileError(path, f"is truncated: tensor {name!r} ends at byte {end}, the file at byte {size}")
        number_format = named_format(dtype)
        if number_format is None or not dims:
            continue  # masks, counters: nothing that a decoder's blocks ask for
        if stop - start != prod(dims) * number_format.block_bytes:
            raise ModelFileError(path, f"tensor {name!r} has {stop - start} bytes for {list(dims)} {dtype}")
        entries[name] = (path.name, 8 + length + start, dtype, dims)
    return entries
