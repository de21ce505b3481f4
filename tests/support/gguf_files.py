"""Small GGUF files of the Llama architecture, written with the `gguf` package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers

from edgeemu_kernels.packed import pack
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.seeded import SeededSource

Q = gguf.GGMLQuantizationType

SHAPE = ModelShape(
    "tiny", 2, 64, 4, 2, 16, 96, 40, 128, positions="rope-interleaved", rope_theta=50_000.0, tied_embeddings=False
)


def byte_tokenizer() -> dict[str, Any]:
    """Metadata of a tokenizer of single bytes that adds BOS; 257 tokens."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["<s>", *alphabet],
        "tokenizer.ggml.token_type": [3] + [1] * len(alphabet),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
    }


def tensors(shape: ModelShape, seed: int = 0) -> dict[str, np.ndarray]:
    """The seeded model of this shape, by GGUF's names."""
    source, every = SeededSource(shape, seed), range(shape.n_groups)
    found = {"token_embd.weight": source.embed().table}
    for layer in range(shape.n_layers):
        heads, ffn = source.heads(layer, every), source.ffn(layer)
        parts = [heads.group_weights(group) for group in every]
        block = {
            "attn_norm": heads.norm.weight,
            "attn_q": np.concatenate([part.wq for part in parts]),
            "attn_k": np.concatenate([part.wk for part in parts]),
            "attn_v": np.concatenate([part.wv for part in parts]),
            "attn_output": source.proj(layer).weight,
            "ffn_norm": ffn.norm.weight,
            "ffn_gate": ffn.up[: shape.d_ff],
            "ffn_up": ffn.up[shape.d_ff :],
            "ffn_down": ffn.down,
        }
        found |= {f"blk.{layer}.{name}.weight": array for name, array in block.items()}
    lm_head = source.lm_head()
    found["output_norm.weight"] = lm_head.norm.weight
    if not shape.tied_embeddings:
        found["output.weight"] = lm_head.weight
    return found


# As `Q4_K_M` files are, with a float in each of two layers.
MIXED = {
    "output.weight": Q.Q6_K,
    "blk.0.attn_v.weight": Q.Q6_K,
    "blk.0.ffn_down.weight": Q.Q6_K,
    "blk.1.attn_k.weight": Q.F16,
    "blk.1.attn_output.weight": Q.F32,
}


def write(
    path: Path,
    shape: ModelShape = SHAPE,
    *,
    architecture: str = "llama",
    quantised: Q = Q.F32,
    kinds: Mapping[str, Q] | None = None,
    without: str = "",
    extra: dict[str, np.ndarray] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """`quantised` is the type of the matrices, but of those in `kinds`; `metadata` adds or overrides keys."""
    writer = gguf.GGUFWriter(path, architecture)
    pairs: dict[str, Any] = {
        "general.name": shape.name,
        "llama.block_count": shape.n_layers,
        "llama.context_length": shape.max_context,
        "llama.embedding_length": shape.d_model,
        "llama.feed_forward_length": shape.d_ff,
        "llama.attention.head_count": shape.n_heads,
        "llama.attention.head_count_kv": shape.n_kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
        "llama.rope.freq_base": shape.rope_theta,
    } | (metadata or {})
    for key, value in pairs.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    for name, array in (tensors(shape) | (extra or {})).items():
        if name == without:
            continue
        kind = (kinds or {}).get(name, quantised) if array.ndim == 2 else Q.F32
        known = kind in (Q.Q4_K, Q.Q6_K)  # which the gguf package cannot encode
        raw = pack(array, FORMATS[kind.name.lower()]).raw if known else gguf.quantize(array, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
