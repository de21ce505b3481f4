"""Model of a scenario: a catalog name, a file, a directory, or a shape with seeded weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from edgeemu.scenario.catalog import model_entry
from edgeemu.scenario.catalog.shapes import Layers, ShapeFields
from edgeemu.scenario.distributions import Seed
from edgeemu.scenario.files import base_of, existing
from edgeemu.scenario.validation import Shorthand, at, exactly_one_of
from edgeemu_kernels.shape import ModelShape


@dataclass(frozen=True)
class WeightsSource:
    """Source of weights: a GGUF file, a Hugging Face directory, or a `seed` and a `shape`.

    `shape` is None where only the file knows it.
    """

    name: str
    shape: ModelShape | None
    gguf: Path | None = None
    directory: Path | None = None
    seed: int | None = None


class ModelSpec(Shorthand):
    """Model: exactly one of a name in the catalog, a GGUF file, a Hugging Face directory and a shape."""

    text_is: ClassVar[str] = "name"

    name: str | None = Field(
        default=None,
        description="Model of the catalog (`edgeemu models`), with its real weights where a package has them, else with"
        " seeded weights.",
    )
    gguf: Path | None = Field(
        default=None,
        description="GGUF file of the Llama architecture, relative to the scenario; `precision` says in which format "
        "its weights are held.",
    )
    directory: Path | None = Field(
        default=None,
        description="Directory of a Hugging Face model (Llama family or GPT-2), relative to the scenario: config.json, "
        "*.safetensors, and for texts tokenizer.json.",
    )
    shape: ShapeFields | None = Field(default=None, description="Dimensions only; the weights are seeded.")
    layers: Layers | None = Field(
        default=None, description="Number of layers in place of the model's own; the weights are then seeded."
    )
    weights_seed: Seed | None = Field(
        default=None, description="Seed of the weights; seeds them also where real weights exist."
    )

    @field_validator("name")
    @classmethod
    def _in_catalog(cls, name: str | None) -> str | None:
        return name if name is None else model_entry(name).name

    @field_validator("gguf", "directory")
    @classmethod
    def _exists(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        """Make a path absolute and check that it exists; relative paths are relative to the scenario's directory."""
        if path is None:
            return None
        kind: Literal["file", "directory"] = "file" if info.field_name == "gguf" else "directory"
        full = existing(path, base_of(info), kind)
        if kind == "directory" and not (full / "config.json").is_file():
            raise ValueError(f'there is no config.json in "{path}"')
        return full

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        source = exactly_one_of(self, "name", "gguf", "directory", "shape")
        for key in ("layers", "weights_seed"):
            if source in ("gguf", "directory") and getattr(self, key) is not None:
                raise at([key], f"is for seeded weights; these come from the {source}")
        return self

    @property
    def title(self) -> str:
        """Name of the model in reports."""
        path = self.gguf or self.directory
        return self.name or (path.stem if path else "custom")

    @property
    def is_seeded(self) -> bool:
        """Whether the weights are made from a seed."""
        if self.gguf is not None or self.directory is not None:
            return False
        asked = self.layers is not None or self.weights_seed is not None
        return asked or self.name is None or model_entry(self.name).package is None

    def known_shape(self) -> ModelShape | None:
        """Shape of the model if it is known without reading weights."""
        if self.shape is not None:
            return self.shape.model_shape(self.title, self.layers)
        return model_entry(self.name).shape.model_shape(self.name, self.layers) if self.name else None

    def weights(self) -> WeightsSource:
        """Source of the weights. Raises `RequestError` if a package that should have them is missing."""
        if self.is_seeded:
            return WeightsSource(self.title, self.known_shape(), seed=self.weights_seed or 0)
        gguf = model_entry(self.name).weights_file() if self.name else self.gguf
        return WeightsSource(self.title, self.known_shape(), gguf=gguf, directory=self.directory)
