"""Model files with wrong values and bytes anywhere: a model that opens, or a ModelFileError."""

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builders import QUICK
from support.gguf_files import write

from edgeemu_kernels.errors import ModelFileError
from edgeemu_kernels.weights.open_model import open_gguf, open_huggingface

EXAMPLES = settings(QUICK, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHARD = "model-00004-of-00004.safetensors"  # the smallest of the fixture

texts = st.text(max_size=6) | st.sampled_from(
    ["llama3", "linear", "dynamic", "yarn", "../x", SHARD, "\ud800", "F8_E4M3"]
)
numbers = st.integers(-(2**65), 2**65) | st.sampled_from([-1, 0, 1, 2**31, 2**63, 1e308]) | st.floats()
scalars = st.none() | st.booleans() | numbers | texts
junk = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=2)

CONFIG_KEYS = [
    *("architectures", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling"),
    *("rope_parameters", "tie_word_embeddings", "sliding_window", "layer_types", "hidden_act", "attention_bias"),
    *("quantization_config", "original_max_position_embeddings", "_name_or_path", "n_head", "partial_rotary_factor"),
]


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("gguf") / "whole.gguf").read_bytes()


@EXAMPLES
@given(edits=st.lists(st.tuples(st.integers(0, 2600), st.binary(min_size=1, max_size=8)), min_size=1, max_size=3))
def test_bytes_of_a_gguf(tmp_path: Path, gguf_bytes: bytes, edits: list[tuple[int, bytes]]) -> None:
    edited = bytearray(gguf_bytes)
    for at, raw in edits:
        edited[at : at + len(raw)] = raw
    (tmp_path / "edited.gguf").write_bytes(edited)
    with suppress(ModelFileError):
        model = open_gguf(tmp_path / "edited.gguf")
        model.open_source().lm_head()


def directory(fixtures: Path, to: Path) -> Path:
    """The fixture in `to`, which an earlier example may have left damaged."""
    for file in (fixtures / "golden_llama").iterdir():
        if file.suffix != ".npz":
            (to / file.name).write_bytes(file.read_bytes())
    return to


@EXAMPLES
@given(
    keys=st.dictionaries(st.sampled_from(CONFIG_KEYS), junk, max_size=3),
    rope=st.dictionaries(st.sampled_from(["rope_type", "type", "factor", "rope_theta", "high_freq_factor"]), junk),
    weight_map=st.dictionaries(texts, junk, max_size=1),
)
def test_configs_and_indices(
    fixtures: Path, tmp_path: Path, keys: dict[str, Any], rope: dict[str, Any], weight_map: dict[str, Any]
) -> None:
    here = directory(fixtures, tmp_path)
    config = json.loads((here / "config.json").read_text())
    config["rope_parameters"] |= rope
    (here / "config.json").write_text(json.dumps(config | keys))
    index = json.loads((here / "model.safetensors.index.json").read_text())
    index["weight_map"] |= weight_map
    (here / "model.safetensors.index.json").write_text(json.dumps(index))
    with suppress(ModelFileError):
        open_huggingface(here).open_source().lm_head()


@EXAMPLES
@given(number=st.integers(0, 50), field=st.sampled_from(["dtype", "shape", "data_offsets"]), value=junk, whole=junk)
def test_headers_of_safetensors(
    fixtures: Path, tmp_path: Path, number: int, field: str, value: Any, whole: Any
) -> None:
    here = directory(fixtures, tmp_path)
    raw = (here / SHARD).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = copy.deepcopy(json.loads(raw[8:start]))
    name = sorted(header)[number % len(header)]
    if isinstance(header[name], dict):
        header[name] = header[name] | {field: value} if number % 3 else whole
    text = json.dumps(header).encode()
    (here / SHARD).write_bytes(len(text).to_bytes(8, "little") + text + raw[start:])
    with suppress(ModelFileError):
        open_huggingface(here)


def test_the_files_are_right_before_they_are_edited(fixtures: Path, tmp_path: Path, gguf_bytes: bytes) -> None:
    (tmp_path / "whole.gguf").write_bytes(gguf_bytes)
    assert np.isfinite(open_gguf(tmp_path / "whole.gguf").open_source().lm_head().weight).all()
    assert open_huggingface(directory(fixtures, tmp_path)).shape.n_layers == 2
