"""Shape of a model from `config.json`: each key that changes the computation is honored or refused. No weights.

Keys and defaults as in transformers' LlamaConfig, MistralConfig and GPT2Config; docs/models.md lists each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.shape import MAX_CONTEXT, MAX_DIM, MAX_LAYERS, ModelShape
from edgeemu_kernels.weights.huggingface_rope import read_rope
from edgeemu_kernels.weights.json_files import read_json, short, typed

_LLAMA, _MISTRAL, _GPT2 = "LlamaForCausalLM", "MistralForCausalLM", "GPT2LMHeadModel"
_MISTRAL_WINDOW = 4096  # what MistralConfig means when the key is missing
_MISTRAL_KV_HEADS = 8
_MODEL_TYPES = {_LLAMA: ("llama", "mistral"), _MISTRAL: ("llama", "mistral"), _GPT2: ("gpt2",)}
_GPT2_SYNONYMS = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
}

Layers = Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)]
Dim = Annotated[int, msgspec.Meta(ge=1, le=MAX_DIM)]
Context = Annotated[int, msgspec.Meta(ge=1, le=MAX_CONTEXT)]

# Keys of other computations, with the values that mean "none of it"; a key that is null or missing does so, too.
_REFUSED_EVERYWHERE: dict[str, tuple[object, ...]] = {
    "quantization_config": (),
    "compression_config": (),
    "text_config": (),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}
_REFUSED_LLAMA: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "attention_chunk_size": (),
    "use_qk_norm": (False,),
    "num_local_experts": (0, 1),
}
_REFUSED_GPT2: dict[str, tuple[object, ...]] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}


class _Llama(msgspec.Struct):
    """Keys of a Llama or Mistral config that give its shape."""

    hidden_size: Dim
    intermediate_size: Dim
    num_hidden_layers: Layers
    num_attention_heads: Dim
    vocab_size: Dim
    max_position_embeddings: Context
    rms_norm_eps: float
    num_key_value_heads: Dim | msgspec.UnsetType | None = msgspec.UNSET
    head_dim: Dim | None = None
    tie_word_embeddings: bool = False
    sliding_window: Context | msgspec.UnsetType | None = msgspec.UNSET
    layer_types: list[str] | None = None


class _Gpt2(msgspec.Struct):
    """Keys of a GPT-2 config that give its shape."""

    n_embd: Dim
    n_head: Dim
    n_layer: Layers
    vocab_size: Dim
    n_positions: Context
    layer_norm_epsilon: float
    n_inner: Dim | None = None
    tie_word_embeddings: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """Meaning of a config.

    `architecture` ("llama" or "gpt2") says how tensors are named and stored; `context_limit` is what limits the
    context if it is not the model's own length ("").
    """

    shape: ModelShape
    architecture: str
    context_limit: str = ""


def read_config(directory: Path) -> Config:
    """Read `config.json`. Raises ModelFileError for what is not there, not valid, or not supported."""
    path = directory / "config.json"
    config = read_json(path)
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    known = next((name for name in (_LLAMA, _MISTRAL, _GPT2) if name in names), None)
    try:
        if known is not None:
            kind = _model_type(path, config, known)
            if known == _GPT2:
                return _gpt2(path, config)
            return _llama(path, config, mistral=_MISTRAL in names or kind == "mistral")
    except ValueError as error:  # of ModelShape
        raise ModelFileError(path, str(error)) from error
    asked = ", ".join(short(name) for name in names[:3]) or short(named)
    raise ModelFileError(path, f"architectures: {asked} is not supported (supported: {_LLAMA}, {_MISTRAL}, {_GPT2})")


def _model_type(path: Path, config: dict[str, Any], architecture: str) -> str | None:
    """Type of the model, if it is given. transformers computes what the type says, whatever the architecture."""
    kind: str | None = config.get("model_type")
    if kind is not None and kind not in _MODEL_TYPES[architecture]:
        raise ModelFileError(path, f"model_type {short(kind)} is of another architecture than {architecture}")
    return kind


def _llama(path: Path, config: dict[str, Any], *, mistral: bool) -> Config:
    _refuse(path, config, _REFUSED_EVERYWHERE | _REFUSED_LLAMA)
    keys = typed(path, config, _Llama)
    heads, width = keys.num_attention_heads, keys.hidden_size
    if keys.head_dim is None and width % heads:
        raise ModelFileError(path, f"hidden_size ({width}) is not a multiple of num_attention_heads ({heads})")
    kv_heads = keys.num_key_value_heads
    if kv_heads is msgspec.UNSET:
        kv_heads = _MISTRAL_KV_HEADS if mistral else None
    rope = read_rope(path, config, keys.max_position_embeddings)
    limits = {"": keys.max_position_embeddings}
    window = _window(path, keys, mistral=mistral)
    if window is not None:
        limits[f"its sliding window of {window} tokens"] = window
    if rope.unscaled_context is not None:
        limits[f"its dynamic RoPE scaling, which begins after {rope.unscaled_context} tokens"] = rope.unscaled_context
    reason = min(limits, key=lambda each: limits[each])
    shape = ModelShape(
        name=directory_name(path, config),
        n_layers=keys.num_hidden_layers,
        d_model=width,
        n_heads=heads,
        n_kv_heads=kv_heads or heads,
        head_dim=keys.head_dim or width // heads,
        d_ff=keys.intermediate_size,
        vocab_size=keys.vocab_size,
        max_context=limits[reason],
        norm_eps=keys.rms_norm_eps,
        positions="rope-half",
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        rope_linear_factor=rope.linear_factor,
        tied_embeddings=keys.tie_word_embeddings,
    )
    return Config(shape, "llama", reason)


def _window(path: Path, keys: _Llama, *, mistral: bool) -> int | None:
    """Sliding window of the attention. Sequences within it are computed exactly; longer ones are refused."""
    if keys.layer_types is not None and len(keys.layer_types) != keys.num_hidden_layers:
        raise ModelFileError(
            path, f"layer_types has {len(keys.layer_types)} entries for {keys.num_hidden_layers} layers"
        )
    kinds = set(keys.layer_types or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ModelFileError(path, f"layer_types: {short(min(kinds))} is not supported")
    window = keys.sliding_window
    if window is msgspec.UNSET:
        window = _MISTRAL_WINDOW if mistral else None
    if window is None and "sliding_attention" in (keys.layer_types or ()):
        raise ModelFileError(path, "layer_types has sliding_attention, but there is no sliding_window")
    return window


def _gpt2(path: Path, config: dict[str, Any]) -> Config:
    _refuse(path, config, _REFUSED_EVERYWHERE | _REFUSED_GPT2)
    keys = typed(path, config, _Gpt2)
    for synonym, name in _GPT2_SYNONYMS.items():
        if config.get(synonym, config[name]) != config[name]:
            raise ModelFileError(path, f"{synonym} and {name} differ; remove the one that is not meant")
    if keys.n_embd % keys.n_head:
        raise ModelFileError(path, f"n_embd ({keys.n_embd}) is not a multiple of n_head ({keys.n_head})")
    shape = ModelShape(
        name=directory_name(path, config),
        n_layers=keys.n_layer,
        d_model=keys.n_embd,
        n_heads=keys.n_head,
        n_kv_heads=keys.n_head,
        head_dim=keys.n_embd // keys.n_head,
        d_ff=keys.n_inner or 4 * keys.n_embd,
        vocab_size=keys.vocab_size,
        max_context=keys.n_positions,
        norm="layer",
        norm_eps=keys.layer_norm_epsilon,
        activation="gelu",
        positions="learned",
        tied_embeddings=keys.tie_word_embeddings,
        bias=True,
    )
    return Config(shape, "gpt2")


def _refuse(path: Path, config: dict[str, Any], refused: dict[str, tuple[object, ...]]) -> None:
    """Refuse keys that ask for what the kernels do not compute."""
    for key, without in refused.items():
        value = config.get(key)
        if value is None or value in without:
            continue
        if key in ("quantization_config", "compression_config"):
            method = value.get("quant_method") if isinstance(value, dict) else value
            raise ModelFileError(
                path,
                f"{key}: quantized weights ({short(method)}) are not supported; take the model in bf16, f16 or f32, "
                "or as GGUF",
            )
        raise ModelFileError(path, f"{key} = {short(value)} is not supported")


def directory_name(path: Path, config: dict[str, Any]) -> str:
    """Name of the model: the one it was published under, else its directory's."""
    published = config.get("_name_or_path")
    return published if isinstance(published, str) and published else path.parent.name
