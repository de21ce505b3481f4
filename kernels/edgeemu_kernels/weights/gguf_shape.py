"""Shape of a model from a GGUF header: what its metadata says is honored or refused. Reads no weights but RoPE's.

Keys as llama.cpp reads them (`llama_model::load_hparams`, `llama-arch.cpp`); docs/models.md lists each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.rope import frequencies
from edgeemu_kernels.shape import ModelShape, RopeScaling
from edgeemu_kernels.weights.gguf_header import GgufHeader
from edgeemu_kernels.weights.json_files import short
from edgeemu_kernels.weights.quants import ggml_format
from edgeemu_kernels.weights.tensorfile import Tensor, TensorFiles

ROPE_FREQS = "rope_freqs.weight"

# Keys of other computations, with the values that mean "none of it".
_REFUSED: dict[str, tuple[object, ...]] = {
    "attention.scale": (0,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.causal": (True,),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "residual_scale": (0, 1),
    "logit_scale": (0, 1),
    "use_parallel_residual": (False,),
    "rope.scaling.attn_factor": (0, 1),
    "rope.dimension_sections": (),
}


def gguf_shape(header: GgufHeader) -> tuple[ModelShape, str]:
    """Shape of a Llama-architecture file, and what limits its context if it is not the model's own length ("").

    Raises ModelFileError for what the kernels cannot run.
    """
    path = header.path
    _check_kind(header)
    heads, width = header.count("llama.attention.head_count"), header.count("llama.embedding_length")
    head_dim = header.count("llama.attention.key_length", width // max(heads, 1))
    if header.count("llama.attention.value_length", head_dim) != head_dim:
        raise ModelFileError(path, "values of another width than keys are not supported")
    if header.count("llama.rope.dimension_count", head_dim) != head_dim:
        raise ModelFileError(path, "rotary embedding of a part of each head is not supported")
    if "token_embd.weight" not in header.tensors:
        raise ModelFileError(path, "tensor 'token_embd.weight' is missing")
    context = header.count("llama.context_length")
    window = header.count("llama.attention.sliding_window", 0) or context
    try:
        shape = ModelShape(
            name=header.text("general.name", path.stem),
            n_layers=header.count("llama.block_count"),
            d_model=width,
            n_heads=heads,
            n_kv_heads=header.count("llama.attention.head_count_kv", heads),
            head_dim=head_dim,
            d_ff=header.count("llama.feed_forward_length"),
            vocab_size=header.tensors["token_embd.weight"][2][0],
            max_context=min(context, window),
            norm_eps=header.real("llama.attention.layer_norm_rms_epsilon"),
            positions="rope-interleaved",
            rope_theta=header.real("llama.rope.freq_base", 10_000.0),
            rope_linear_factor=_linear_factor(header),
            tied_embeddings="output.weight" not in header.tensors,
        )
        shape = replace(shape, rope_scaling=_rope_scaling(header, shape))
    except ValueError as error:
        raise ModelFileError(path, str(error)) from error
    return shape, f"its sliding window of {window} tokens" if window < context else ""


def _check_kind(header: GgufHeader) -> None:
    """Check that the file is a whole model of the kernels' architecture."""
    path, meta = header.path, header.metadata
    architecture = header.text("general.architecture")
    if architecture != "llama":
        raise ModelFileError(path, f"architecture {short(architecture)} is not supported (GGUF files: 'llama')")
    parts = header.count("split.count", 0)
    if parts > 1:
        number = header.count("split.no", 0) + 1
        raise ModelFileError(
            path,
            f"is part {number} of {parts} of a split file; join them with llama.cpp: "
            "llama-gguf-split --merge FIRST-PART WHOLE.gguf",
        )
    if header.count("llama.expert_count", 0):
        raise ModelFileError(path, "mixtures of experts are not supported")
    for key, without in _REFUSED.items():
        value = meta.get(f"llama.{key}")
        if value is not None and value not in without:
            raise ModelFileError(path, f"metadata llama.{key} = {short(value)} is not supported")
    biased = next((name for name in header.tensors if name.startswith("blk.") and name.endswith(".bias")), None)
    if biased:
        raise ModelFileError(path, f"a Llama model with biases ({short(biased)}) is not supported")


def _linear_factor(header: GgufHeader) -> float:
    """Factor of linear RoPE scaling, 1 without. As in llama.cpp, a factor without a type is linear, and 0 is none."""
    kind = header.text("llama.rope.scaling.type", "linear")
    factor = header.real("llama.rope.scaling.factor", header.real("llama.rope.scale_linear", 0.0))
    if kind not in ("none", "linear", "yarn", "longrope"):  # those that llama.cpp has
        raise ModelFileError(header.path, f"RoPE scaling {short(kind)} is not known")
    if kind == "none" or factor in (0.0, 1.0):
        return 1.0
    if kind != "linear":
        raise ModelFileError(header.path, f"RoPE scaling {short(kind)} is not supported")
    return factor


def _rope_scaling(header: GgufHeader, shape: ModelShape) -> RopeScaling | None:
    """Scaling of RoPE frequencies as in Llama 3.

    GGUF keeps its effect, a divisor for each frequency, so its parameters are found again.
    """
    if ROPE_FREQS not in header.tensors:
        return None
    offset, ggml_type, dims = header.tensors[ROPE_FREQS]
    number_format = ggml_format(ggml_type)
    assert number_format is not None  # read_header checked it
    files = TensorFiles(header.path, {ROPE_FREQS: Tensor(header.path, offset, number_format, dims)})
    divisors = files.vector(ROPE_FREQS, shape.head_dim // 2)
    if np.all(divisors == 1):
        return None
    if not (np.all(np.isfinite(divisors)) and divisors.min() > 0):
        raise ModelFileError(header.path, f"tensor {ROPE_FREQS!r} has divisors that are not positive numbers")
    plain = frequencies(shape.head_dim, shape.rope_theta, None)
    scaling = RopeScaling(float(divisors.max()), 1.0, 4.0, 8192)  # Llama 3.1 to 3.3 differ in the factor alone
    if not np.allclose(plain / frequencies(shape.head_dim, shape.rope_theta, scaling), divisors, rtol=1e-3):
        raise ModelFileError(header.path, f"tensor {ROPE_FREQS!r} is not Llama 3's RoPE scaling")
    return scaling
