"""Model dimensions as YAML has them. Knows the fields of `ModelShape`; nothing of weights."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from edgeemu.scenario.names import KindName
from edgeemu.scenario.validation import Strict
from edgeemu_kernels.shape import MAX_LAYERS, Activation, ModelShape, Norm, Positions

MAX_COUNT = 2**31 - 1  # what NumPy and the wire can hold, and more than any model has of anything
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT), KindName("count")]
Layers = Annotated[int, Field(strict=True, ge=1, le=MAX_LAYERS), KindName("count")]
Positive = Annotated[float, Field(strict=True, gt=0)]


class RopeScalingFields(Strict):
    """Llama 3's scaling of RoPE frequencies, as `edgeemu_kernels.shape.RopeScaling`."""

    factor: Positive = Field(description="Factor by which low frequencies are divided.")
    low_freq_factor: Positive = Field(
        description="Wavelengths above `original_context / low_freq_factor` are scaled by the whole factor."
    )
    high_freq_factor: Positive = Field(
        description="Wavelengths below `original_context / high_freq_factor` are not scaled."
    )
    original_context: Count = Field(description="Context length that the model was trained with before scaling.")


class ShapeFields(Strict):
    """Dimensions of a model: the fields of `edgeemu_kernels.shape.ModelShape` without its name."""

    n_layers: Layers = Field(description="Number of layers.")
    d_model: Count = Field(description="Width of the residual stream.")
    n_heads: Count = Field(description="Number of query heads; a multiple of `n_kv_heads`.")
    n_kv_heads: Count = Field(description="Number of KV groups, the units that a placement moves.")
    head_dim: Count = Field(description="Width of a head; even unless positions are learned.")
    d_ff: Count = Field(description="Width of the feed-forward block.")
    vocab_size: Count = Field(description="Number of tokens in the vocabulary.")
    max_context: Count = Field(description="Number of positions that the model can attend to.")
    norm: Norm = Field(default="rms", description="Normalization: RMSNorm or LayerNorm.")
    norm_eps: Positive = Field(default=1e-5, description="Constant added to the variance in the normalization.")
    activation: Activation = Field(default="swiglu", description="Activation of the feed-forward block.")
    positions: Positions = Field(
        default="rope-half",
        description="Position encoding: RoPE that rotates the halves of a head (Hugging Face) or neighboring values "
        "(GGUF), or GPT-2's learned table.",
    )
    rope_theta: Positive = Field(default=10_000.0, description="Base of the RoPE frequencies.")
    rope_scaling: RopeScalingFields | None = Field(
        default=None, description="Scaling of the RoPE frequencies, as in Llama 3."
    )
    rope_linear_factor: Positive = Field(
        default=1.0, description="Linear scaling of RoPE: positions are divided by this."
    )
    tied_embeddings: bool = Field(default=False, description="Whether the output matrix is the embedding.")
    bias: bool = Field(default=False, description="Whether Q/K/V, projection and feed-forward have biases.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.model_shape("a shape")  # raises ValueError where the fields contradict each other
        return self

    def model_shape(self, name: str, n_layers: int | None = None) -> ModelShape:
        """Shape with this name, and with another number of layers if one is given."""
        fields: dict[str, Any] = self.model_dump() | {"name": name}
        return ModelShape.from_dict(fields | ({"n_layers": n_layers} if n_layers is not None else {}))
