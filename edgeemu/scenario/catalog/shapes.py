"""A model's dimensions as they are written in YAML. Knows the fields of `ModelShape`; nothing of weights."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from edgeemu.scenario.validation import Strict
from edgeemu_kernels.shape import Activation, ModelShape, Norm, Positions

Count = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(strict=True, gt=0)]


class RopeScalingFields(Strict):
    """Llama 3's frequency scaling, as `edgeemu_kernels.shape.RopeScaling`."""

    factor: Positive
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_context: Count


class ShapeFields(Strict):
    """The fields of `edgeemu_kernels.shape.ModelShape`, but for its name."""

    n_layers: Count
    d_model: Count
    n_heads: Count
    n_kv_heads: Count
    head_dim: Count
    d_ff: Count
    vocab_size: Count
    max_context: Count
    norm: Norm = "rms"
    norm_eps: Positive = 1e-5
    activation: Activation = "swiglu"
    positions: Positions = "rope-half"
    rope_theta: Positive = 10_000.0
    rope_scaling: RopeScalingFields | None = None
    tied_embeddings: bool = False
    bias: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.model_shape("a shape")  # raises ValueError where the fields contradict each other
        return self

    def model_shape(self, name: str, n_layers: int | None = None) -> ModelShape:
        """The shape under this name, with another number of layers where one is given."""
        fields: dict[str, Any] = self.model_dump() | {"name": name}
        return ModelShape.from_dict(fields | ({"n_layers": n_layers} if n_layers is not None else {}))
