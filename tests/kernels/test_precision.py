"""Number formats, and the precision of a shape: sizes, and what holds a matrix that is no whole number of blocks."""

from dataclasses import replace

import msgspec
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from edgeemu_kernels.precision import FORMATS, Precision, fitting
from edgeemu_kernels.shape import ModelShape

SMOLLM2 = ModelShape("smollm2", 30, 576, 9, 3, 64, 1536, 49152, 2048)


@pytest.mark.parametrize("name", FORMATS)
def test_sizes_are_those_of_ggml(name: str) -> None:
    kind = GGMLQuantizationType[name.upper()]
    assert (FORMATS[name].block_size, FORMATS[name].block_bytes) == GGML_QUANT_SIZES[kind]


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 2**16))
def test_what_holds_a_row_holds_it_in_whole_blocks(name: str, width: int) -> None:
    finer = fitting(name, width)
    assert width % FORMATS[finer].block_size == 0
    assert finer == name or width % FORMATS[name].block_size


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 4096))
def test_units_of_a_feed_forward_are_whole_blocks(name: str, d_ff: int) -> None:
    shape = replace(SMOLLM2, d_ff=d_ff).at_precision(weights=name)
    assert 1 <= shape.ffn_units <= 512
    assert shape.ffn_units * shape.ffn_unit_dim == d_ff
    block_size = shape.precision.weights("down").block_size
    for devices in (2, 4, 8):
        if block_size > 1 and d_ff // block_size % devices == 0:
            assert shape.ffn_units % devices == 0
    assert shape.ffn_unit_dim % shape.precision.weights("down").block_size == 0


def test_a_matrix_that_is_no_whole_number_of_blocks_is_held_in_a_finer_format() -> None:
    shape = SMOLLM2.at_precision(weights="q4_k", cache="q8_0", messages="f16")
    assert shape.precision == Precision("q4_1", "q4_1", "q4_1", "q4_1", "q4_k", "q4_1", "q8_0", "f16")
    assert (SMOLLM2.ffn_units, shape.ffn_units) == (64, 6)
    assert SMOLLM2.at_precision() == SMOLLM2


def test_a_shape_crosses_a_process_boundary_with_its_precision() -> None:
    shape = SMOLLM2.at_precision(weights="q8_0", messages="q8_0")
    assert ModelShape.from_dict(msgspec.json.decode(msgspec.json.encode(shape.to_dict()))) == shape


@pytest.mark.parametrize("fields", [{"weights": "q5_k"}, {"cache": "F16"}, {"messages": ""}])
def test_an_unknown_format_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown number format .*; known: f32, f16"):
        SMOLLM2.at_precision(**fields)
