"""Dimensions and conventions of a decoder. Knows numbers and names; no weights, no files, no NumPy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

Norm = Literal["rms", "layer"]
Activation = Literal["swiglu", "gelu"]
Positions = Literal["rope-interleaved", "rope-half", "learned"]

MAX_FFN_UNITS = 64  # fine enough that shares by speed are within 1 % of what they should be


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's scaling of RoPE frequencies (Llama 3.1 model card, `rope_scaling` of type `llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


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
    tied_embeddings: bool = False
    bias: bool = False  # on Q/K/V, projection and feed-forward (GPT-2 has them, Llama has not)

    def __post_init__(self) -> None:
        for field in (
            "n_layers",
            "d_model",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "d_ff",
            "vocab_size",
            "max_context",
        ):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must be a multiple of n_kv_heads ({self.n_kv_heads})")
        if self.positions != "learned" and self.head_dim % 2:
            raise ValueError(f"RoPE needs an even head_dim, not {self.head_dim}")

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
        """Number of equal units that a layer's feed-forward can be divided into: a divisor of d_ff, at most 64."""
        return next(n for n in range(min(MAX_FFN_UNITS, self.d_ff), 0, -1) if self.d_ff % n == 0)

    @property
    def ffn_unit_dim(self) -> int:
        """Columns of the feed-forward in one unit."""
        return self.d_ff // self.ffn_units

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
        return cls(**values)
