"""Dimensions and conventions of a decoder. Knows numbers and names; no weights, no files, no NumPy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, Self

from edgeemu_kernels.precision import F32, Precision, fitting

Norm = Literal["rms", "layer"]
Activation = Literal["swiglu", "gelu"]
Positions = Literal["rope-interleaved", "rope-half", "learned"]

MAX_FFN_UNITS = 64  # fine enough that shares by speed are within 1 % of what they should be
FEW_FFN_UNITS, MOST_FFN_UNITS = 32, 512  # blocks are divided into more units than 64 where that leaves few
MAX_LAYERS = 4096  # far above any model: beyond these, a number is a mistake, or an attack
MAX_DIM = 2**24
MAX_CONTEXT = 2**31


@cache
def _ffn_units(d_ff: int, block_size: int) -> int:
    blocks = d_ff // block_size
    even = 1 if block_size == 1 else math.gcd(blocks, 8)
    units = next(n for n in range(min(MAX_FFN_UNITS, blocks) // even * even, 0, -even) if blocks % n == 0)
    if even == 1 or units >= FEW_FFN_UNITS:
        return units
    more = range(MAX_FFN_UNITS + even, min(MOST_FFN_UNITS, blocks) + 1, even)
    return next((n for n in more if blocks % n == 0), units)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's scaling of RoPE frequencies (Llama 3.1 model card, `rope_scaling` of type `llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            _check_positive(f"RoPE scaling: {name}", getattr(self, name))
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"RoPE scaling: high_freq_factor ({self.high_freq_factor}) must be above "
                f"low_freq_factor ({self.low_freq_factor})"
            )
        _check_count("RoPE scaling: original_context", self.original_context, MAX_CONTEXT)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions and conventions of a model that its blocks need.

    `positions` names where in a head the two halves of a rotated pair lie: `rope-interleaved` pairs (0, 1),
    (2, 3) … (GGUF's Llama files are permuted for it), `rope-half` pairs (0, d/2), (1, d/2+1) … (Hugging
    Face).
    """

    name: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    max_context: int
    norm: Norm = "rms"
    norm_eps: float = 1e-5
    activation: Activation = "swiglu"
    positions: Positions = "rope-half"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rope_linear_factor: float = 1.0  # linear scaling of RoPE: positions are divided by it
    tied_embeddings: bool = False
    bias: bool = False  # on Q/K/V, projection and feed-forward (GPT-2 has them, Llama has not)
    precision: Precision = F32

    def __post_init__(self) -> None:
        _check_count("n_layers", self.n_layers, MAX_LAYERS)
        for name in ("d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "vocab_size"):
            _check_count(name, getattr(self, name), MAX_DIM)
        _check_count("max_context", self.max_context, MAX_CONTEXT)
        _check_positive("norm_eps", self.norm_eps, at_most=1.0)
        _check_positive("rope_theta", self.rope_theta)
        _check_positive("rope_linear_factor", self.rope_linear_factor)
        if self.rope_theta < 1:
            raise ValueError(f"rope_theta must be at least 1, not {self.rope_theta}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})")
        if self.positions != "learned" and self.head_dim % 2:
            raise ValueError(f"RoPE needs an even head_dim, not {self.head_dim}")

    def __hash__(self) -> int:  # shapes are keys of caches: to hash all fields takes longer than to look one up
        return hash((self.name, self.n_layers, self.d_model, self.d_ff))

    @property
    def n_groups(self) -> int:
        """Number of KV groups per layer: the unit that a placement moves."""
        return self.n_kv_heads

    @property
    def group_size(self) -> int:
        """Number of query heads that share one K/V head."""
        return self.n_heads // self.n_kv_heads

    @property
    def group_dim(self) -> int:
        """Width of one group's attention output: group_size * head_dim."""
        return self.group_size * self.head_dim

    @property
    def ffn_units(self) -> int:
        """Number of equal units that a layer's feed-forward can be divided into, each of whole blocks: at most 64.

        If columns are in blocks, 2, 4 or 8 devices can have equal shares where blocks can be divided so. Units are more
        than 64 where few would remain (the 344 blocks of 32 of Llama 2 7B's 11008 columns: 344 in place of 8).
        """
        return _ffn_units(self.d_ff, self.precision.down_block_size)

    @property
    def ffn_unit_dim(self) -> int:
        """Columns of the feed-forward in one unit."""
        return self.d_ff // self.ffn_units

    def at_precision(self, weights: str = "f32", cache: str = "f32", messages: str = "f32") -> Self:
        """Return the shape with all matrices in one format, or in the next finer one where their parts need it.

        The parts of a projection are the columns of KV groups. Raises ValueError for a format that is unknown.
        """
        wide = fitting(weights, self.d_model)
        precision = Precision(
            embed=wide,
            heads=wide,
            proj=fitting(weights, self.group_dim),
            up=wide,
            down=fitting(weights, self.d_ff),
            lm_head=wide,
            cache=fitting(cache, self.head_dim),
            messages=fitting(messages, math.gcd(self.d_model, self.group_dim)),
        )
        return replace(self, precision=precision)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a message or a file; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        scaling = values.get("rope_scaling")
        if isinstance(scaling, dict):
            values["rope_scaling"] = RopeScaling(**scaling)
        if isinstance(precision := values.get("precision"), dict):
            values["precision"] = Precision.from_dict(precision)
        return cls(**values)


def _check_count(name: str, value: int, limit: int) -> None:
    if not 1 <= value <= limit:
        raise ValueError(f"{name} must be at least 1 and at most {limit}, not {value}")


def _check_positive(name: str, value: float, at_most: float = 1e18) -> None:
    if not (math.isfinite(value) and 0 < value <= at_most):
        raise ValueError(f"{name} must be positive and at most {at_most:g}, not {value}")
