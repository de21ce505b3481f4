"""RoPE settings of a `config.json` in all their spellings. Knows keys; no angles.

transformers 5 keeps theta and scaling together in `rope_parameters`; before, `rope_theta` and `rope_scaling` were
apart. Both also occur in one file, added by hand: then they must agree. Formulas: transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.shape import MAX_CONTEXT, RopeScaling
from edgeemu_kernels.weights.json_files import short, typed

_DEFAULT_THETA = 10_000.0

Context = Annotated[int, msgspec.Meta(ge=1, le=MAX_CONTEXT)]
Factor = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


@dataclass(frozen=True, slots=True)
class Rope:
    """RoPE of a model. Up to `unscaled_context` tokens, if it is given, dynamic scaling changes nothing."""

    theta: float
    linear_factor: float = 1.0
    scaling: RopeScaling | None = None
    unscaled_context: int | None = None


class _TopLevel(msgspec.Struct):
    """Keys of RoPE at the top of a config."""

    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_theta: float | None = None
    original_max_position_embeddings: Context | None = None


class _Settings(msgspec.Struct):
    """Keys within `rope_parameters` or `rope_scaling`."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    partial_rotary_factor: float | None = None
    mrope_section: Any = None
    factor: Factor | None = None
    low_freq_factor: Factor | None = None
    high_freq_factor: Factor | None = None
    original_max_position_embeddings: Context | None = None


def read_rope(path: Path, config: dict[str, Any], max_position_embeddings: int) -> Rope:
    """Read the RoPE settings. ModelFileError for a kind that we do not have, and for two that differ."""
    top = typed(path, config, _TopLevel)
    given = {key: value for key in ("rope_parameters", "rope_scaling") if (value := getattr(top, key))}
    thetas = {} if top.rope_theta is None else {"rope_theta": top.rope_theta}
    scalings: dict[str, Rope] = {}
    for key, raw in given.items():
        if any(isinstance(value, dict) for value in raw.values()):
            raise ModelFileError(path, f"{key}: settings for each kind of layer are not supported")
        settings = typed(path, raw, _Settings, within=key)
        if settings.rope_theta is not None:
            thetas[f"{key}.rope_theta"] = settings.rope_theta
        scalings[key] = _scaling(path, key, settings, top, max_position_embeddings)
    for found in (thetas, scalings):
        if len(set(found.values())) > 1:
            both = " and ".join(found)
            raise ModelFileError(path, f"{both} differ; remove the one that is not meant")
    theta = next(iter(thetas.values()), _DEFAULT_THETA)
    scaling = next(iter(scalings.values()), Rope(theta))
    return Rope(theta, scaling.linear_factor, scaling.scaling, scaling.unscaled_context)


def _scaling(path: Path, key: str, settings: _Settings, top: _TopLevel, max_position_embeddings: int) -> Rope:
    """Scaling of one object of settings, with theta left open."""
    kinds = {kind for kind in (settings.rope_type, settings.type) if kind is not None} or {"default"}
    if len(kinds) > 1:
        raise ModelFileError(path, f"{key}: type and rope_type differ ({', '.join(map(short, sorted(kinds)))})")
    kind = kinds.pop()
    if settings.partial_rotary_factor not in (None, 1.0):
        raise ModelFileError(path, f"{key}: partial_rotary_factor = {settings.partial_rotary_factor} is not supported")
    if settings.mrope_section is not None:
        raise ModelFileError(path, f"{key}: RoPE of several dimensions (mrope_section) is not supported")
    if kind == "default":
        return Rope(0.0)
    if kind == "linear":
        return Rope(0.0, linear_factor=_given(path, key, "factor", settings.factor))
    originals = {top.original_max_position_embeddings, settings.original_max_position_embeddings} - {None}
    if len(originals) > 1:
        raise ModelFileError(path, f"original_max_position_embeddings and that of {key} differ")
    original = originals.pop() if originals else None
    if kind == "dynamic":
        _given(path, key, "factor", settings.factor)
        return Rope(0.0, unscaled_context=min(original or max_position_embeddings, max_position_embeddings))
    if kind == "llama3":
        scaling = RopeScaling(
            factor=_given(path, key, "factor", settings.factor),
            low_freq_factor=_given(path, key, "low_freq_factor", settings.low_freq_factor),
            high_freq_factor=_given(path, key, "high_freq_factor", settings.high_freq_factor),
            original_context=original or max_position_embeddings,
        )
        return Rope(0.0, scaling=scaling)
    raise ModelFileError(path, f"{key}: RoPE scaling {short(kind)} is not supported (linear, dynamic, llama3)")


def _given(path: Path, key: str, name: str, value: float | None) -> float:
    if value is None:
        raise ModelFileError(path, f"{key} lacks {name}")
    return value
