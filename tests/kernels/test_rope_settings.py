"""RoPE settings in all their spellings, and the angles that they mean, by formulas written out here."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_files import SHAPE, write
from support.model_directories import MISSING, copied

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.reference import Reference
from edgeemu_kernels.rope import Rope
from edgeemu_kernels.shape import ModelShape, RopeScaling
from edgeemu_kernels.weights.open_model import open_model
from edgeemu_kernels.weights.seeded import SeededSource

LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 48}


@pytest.mark.parametrize("positions", ["rope-half", "rope-interleaved"])
def test_linear_scaling_divides_positions(positions: Any) -> None:
    shape = ModelShape.from_dict(SHAPE.to_dict() | {"positions": positions, "rope_linear_factor": 2.5})
    x = np.random.default_rng(0).standard_normal((5, 1, 16)).astype(np.float32)
    got, first = x.copy(), 37
    Rope(shape).rotate(got, first)
    for row in range(5):
        for pair in range(8):
            angle = (first + row) / 2.5 * 50_000.0 ** (-2 * pair / 16)
            a, b = (pair, pair + 8) if positions == "rope-half" else (2 * pair, 2 * pair + 1)
            expected = (
                x[row, 0, a] * math.cos(angle) - x[row, 0, b] * math.sin(angle),
                x[row, 0, a] * math.sin(angle) + x[row, 0, b] * math.cos(angle),
            )
            assert (got[row, 0, a], got[row, 0, b]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("keys", "theta", "linear", "scaled", "context"),
    [
        ({"rope_parameters": MISSING}, 10_000.0, 1.0, False, 256),
        ({"rope_parameters": None, "rope_theta": 5e5}, 5e5, 1.0, False, 256),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7e4}}, 7e4, 1.0, False, 256),
        ({"rope_parameters": LINEAR | {"rope_theta": 7e4}}, 7e4, 4.0, False, 256),
        ({"rope_parameters": None, "rope_scaling": LINEAR, "rope_theta": 7e4}, 7e4, 4.0, False, 256),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 3}}, 1e4, 3.0, False, 256),
        ({"rope_parameters": LINEAR, "rope_scaling": {"type": "linear", "factor": 4}}, 1e4, 4.0, False, 256),
        ({"rope_parameters": {"rope_type": "linear", "type": "linear", "factor": 1}}, 1e4, 1.0, False, 256),
        ({"rope_parameters": LLAMA3 | {"rope_type": "llama3"}}, 1e4, 1.0, True, 256),
        ({"rope_parameters": {"type": "dynamic", "factor": 2.0}}, 1e4, 1.0, False, 256),
        (
            {"rope_parameters": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 90}},
            *(1e4, 1.0, False, 90),
        ),
    ],
)
def test_spellings(
    fixtures: Path, tmp_path: Path, keys: dict[str, Any], theta: float, linear: float, scaled: bool, context: int
) -> None:
    model = open_model(copied(fixtures / "golden_llama", tmp_path / "model", **keys))
    shape = model.shape
    assert (shape.rope_theta, shape.rope_linear_factor, shape.max_context) == (theta, linear, context)
    assert shape.rope_scaling == (RopeScaling(8.0, 1.0, 4.0, 48) if scaled else None)
    assert ("dynamic RoPE scaling, which begins after 90 tokens" in model.context_limit) == (context == 90)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"rope_scaling": LINEAR}, "rope_parameters and rope_scaling differ; remove"),
        ({"rope_theta": 5e5}, "rope_theta and rope_parameters.rope_theta differ"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "RoPE scaling 'yarn' is not supported"),
        ({"rope_parameters": {"type": "longrope"}}, "RoPE scaling 'longrope' is not supported"),
        ({"rope_parameters": {"type": "su", "rope_type": "longrope"}}, "type and rope_type differ"),
        ({"rope_parameters": {"type": "default", "mrope_section": [8, 4]}}, "mrope_section"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "for each kind of layer"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_parameters lacks factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor: expected float > 0.0, got 0"),
        ({"rope_parameters": {"rope_type": "linear", "factor": "4"}}, "rope_parameters: factor: expected float"),
        ({"rope_parameters": LLAMA3 | {"rope_type": "llama3", "low_freq_factor": 4.0}}, "must be above"),
        ({"rope_parameters": LLAMA3 | {"type": "llama3"}, "original_max_position_embeddings": 9}, "differ"),
        ({"rope_parameters": {"rope_theta": -5.0}}, "rope_theta must be positive"),
        ({"rope_parameters": {"rope_theta": 0}}, "rope_theta must be positive"),
        ({"rope_parameters": {"rope_theta": 0.5}}, "rope_theta must be at least 1"),
        ({"rope_parameters": 7}, "rope_parameters: expected object"),
    ],
)
def test_what_is_refused(fixtures: Path, tmp_path: Path, keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelFileError, match=f"config.json: .*{problem}"):
        open_model(copied(fixtures / "golden_llama", tmp_path / "model", **keys))


@pytest.mark.parametrize(
    ("metadata", "factor"),
    [
        ({"rope.scale_linear": 4.0}, 4.0),
        ({"rope.scaling.factor": 4.0}, 4.0),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 3.0, "rope.scale_linear": 9.0}, 3.0),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 3.0}, 1.0),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 1.0}, 1.0),
        ({"rope.scaling.factor": 0.0}, 1.0),
    ],
)
def test_linear_scaling_of_a_gguf(tmp_path: Path, metadata: dict[str, Any], factor: float) -> None:
    path = write(tmp_path / "model.gguf", metadata={f"llama.{key}": value for key, value in metadata.items()})
    model = open_model(path)
    assert model.shape.rope_linear_factor == factor
    shape = ModelShape.from_dict(SHAPE.to_dict() | {"rope_linear_factor": factor})
    ids = list(range(12))
    expected = Reference(SeededSource(shape, 0)).logits(ids)
    np.testing.assert_array_equal(Reference(model.open_source()).logits(ids), expected)
    plain = Reference(SeededSource(SHAPE, 0)).logits(ids)
    assert np.array_equal(expected, plain) == (factor == 1.0)
