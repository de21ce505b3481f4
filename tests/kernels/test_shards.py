"""Parts of a projection and of a feed-forward sum up to the undivided one, from every source, however they are cut."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf_files import Q, write
from support.kernel_shapes import GPT2, SMALL, WIDE, WIDE_GPT2
from support.loaded import Loaded

from edgeemu_kernels.dense import Ffn, Proj
from edgeemu_kernels.linear import Matrix
from edgeemu_kernels.norms import Norm, standardised
from edgeemu_kernels.packed import raw_of
from edgeemu_kernels.precision import FORMATS
from edgeemu_kernels.shape import ModelShape
from edgeemu_kernels.weights.open_model import open_gguf, open_huggingface
from edgeemu_kernels.weights.seeded import SeededSource
from edgeemu_kernels.weights.sources import WeightSource

QUICK = settings(derandomize=True, deadline=None, max_examples=60)
FIXTURES = Path(__file__).parent.parent / "fixtures"
ODD = replace(SMALL, name="odd", d_ff=67)  # a prime: one unit, or 67
SHAPES = (SMALL, replace(SMALL, name="wide", d_ff=192), ODD, GPT2)


def arrays_of(kernel: Proj | Ffn) -> list[Matrix | None]:
    if isinstance(kernel, Proj):
        return [kernel.weight, kernel.bias]
    return [kernel.norm.weight, kernel.norm.bias, kernel.up, kernel.down, kernel.up_bias, kernel.down_bias]


def assert_same(one: Proj | Ffn, other: Proj | Ffn) -> None:
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            np.testing.assert_array_equal(raw_of(a), raw_of(b))


def cut(parts: Sequence[int], owners: Sequence[int]) -> list[list[int]]:
    """The parts of each owner that has any."""
    held = [[part for part, owner in zip(parts, owners, strict=True) if owner == device] for device in set(owners)]
    return [mine for mine in held if mine]


@QUICK
@given(st.data(), st.sampled_from(SHAPES), st.integers(1, 7), st.integers(0, 99))
def test_any_split_sums_up_to_the_whole(data: st.DataObject, shape: ModelShape, rows: int, seed: int) -> None:
    source, rng = SeededSource(shape, seed), np.random.default_rng(seed)
    x = rng.standard_normal((rows, shape.d_model)).astype(np.float32)  # [rows, D]
    attn = rng.standard_normal((rows, shape.n_heads * shape.head_dim)).astype(np.float32)  # [rows, n_heads*hd]
    owners = st.integers(0, 4)
    groups = data.draw(st.lists(owners, min_size=shape.n_groups, max_size=shape.n_groups))
    total = x.copy()  # [rows, D]
    for mine in cut(range(shape.n_groups), groups):
        columns = attn.reshape(rows, shape.n_groups, -1)[:, mine].reshape(rows, -1)  # [rows, n*group_dim]
        total += source.proj(1, mine).partial(columns)
    np.testing.assert_allclose(total, source.proj(1).forward(attn, x), rtol=1e-4, atol=1e-4)
    units = data.draw(st.lists(owners, min_size=shape.ffn_units, max_size=shape.ffn_units))
    total = x.copy()
    for mine in cut(range(shape.ffn_units), units):
        part = source.ffn(1, mine)
        total += part.partial(part.norm.scaled(standardised(x, shape.norm, shape.norm_eps)))
    np.testing.assert_allclose(total, source.ffn(1).forward(x), rtol=1e-4, atol=1e-4)


def check_parts(source: WeightSource, layer: int) -> None:
    """A source's part equals the part cut from the whole, and parts put together equal the whole."""
    loaded, shape, form = Loaded(source), source.shape, source.shape.precision.weights
    for groups in ([0], [shape.n_groups - 1], list(reversed(range(shape.n_groups)))):
        part = source.proj(layer, groups)
        assert_same(part, loaded.proj(layer, groups))
        assert part.groups == tuple(groups)
        again = Proj.from_groups({group: part.group_weights(group) for group in groups}, form("proj", layer))
        assert_same(again, part)
    last = shape.ffn_units - 1
    for units in ([0], [last], sorted({0, last // 2, last // 2 + 1, last} & set(range(last + 1)))):
        ffn = source.ffn(layer, units)
        assert_same(ffn, loaded.ffn(layer, units))
        assert ffn.units == tuple(units)
        parts = {unit: ffn.unit_weights(unit) for unit in units}
        assert_same(Ffn.from_units(ffn.norm, ffn.gated, parts, form("up", layer), form("down", layer)), ffn)
    check_rows(source, layer)
    assert_same(loaded.proj(layer, range(shape.n_groups)).joined(), source.proj(layer))
    assert_same(loaded.ffn(layer, range(shape.ffn_units)).joined(), source.ffn(layer))
    assert_same(loaded.proj(layer), source.proj(layer))
    every = source.ffn(layer, range(shape.ffn_units))
    assert_same(every, source.ffn(layer))


def check_rows(source: WeightSource, layer: int) -> None:
    """Some rows of the matrices that give a result are those of the whole, with their biases."""
    whole, every, units = source.proj(layer), source.ffn(layer), sorted({0, source.shape.ffn_units - 1})
    half = source.ffn(layer, units)
    for rows in (range(3), range(5, source.shape.d_model)):
        some = slice(rows.start, rows.stop)
        proj, ffn = source.proj(layer, [1], rows), source.ffn(layer, units, rows)
        for found, of, bias, of_bias in (
            (proj.weight, whole.weight, proj.bias, whole.bias),
            (ffn.down, every.down, ffn.down_bias, every.down_bias),
        ):
            np.testing.assert_array_equal(raw_of(found), raw_of(of)[some])
            assert (bias is None) == (of_bias is None)
            if bias is not None and of_bias is not None:
                np.testing.assert_array_equal(bias, of_bias[some])
        np.testing.assert_array_equal(raw_of(ffn.up), raw_of(half.up))
        assert (ffn.up_bias is None) == (half.up_bias is None)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_seeded_parts(shape: ModelShape) -> None:
    check_parts(SeededSource(shape, 3), 1)


@pytest.mark.parametrize("weights", [name for name in FORMATS if name != "f32"])
@pytest.mark.parametrize("shape", [WIDE, WIDE_GPT2], ids=lambda shape: shape.name)
def test_packed_parts(shape: ModelShape, weights: str) -> None:
    check_parts(SeededSource(shape.at_precision(weights), 3), 1)


@pytest.mark.parametrize("weights", ["f32", "q4_1"])
@pytest.mark.parametrize("name", ["golden_gpt2", "golden_llama"])
def test_parts_of_hugging_face_directories(name: str, weights: str) -> None:
    check_parts(open_huggingface(FIXTURES / name).at_precision(weights).open_source(), 1)


@pytest.mark.parametrize("quantised", [Q.F32, Q.Q8_0])
def test_parts_of_a_gguf_file(tmp_path: Path, quantised: Q) -> None:
    model = open_gguf(write(tmp_path / "tiny.gguf", WIDE, quantised=quantised))
    for weights in ("f32", "q8_0", "q4_0", "file"):
        check_parts(model.at_precision(weights).open_source(), 1)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_norm_in_two_halves_is_the_norm(kind: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 24)).astype(np.float32)  # [rows, D]
    weight, bias = rng.standard_normal((2, 24)).astype(np.float32)  # [D] each
    norm = Norm("rms", weight, None, 1e-5) if kind == "rms" else Norm("layer", weight, bias, 1e-5)
    np.testing.assert_array_equal(norm.scaled(standardised(x, norm.kind, 1e-5)), norm.forward(x))


@pytest.mark.parametrize(("d_ff", "units"), [(1, 1), (48, 48), (64, 64), (67, 1), (1536, 64), (11008, 64), (126, 63)])
def test_units_divide_the_columns(d_ff: int, units: int) -> None:
    shape = replace(SMALL, d_ff=d_ff)
    assert shape.ffn_units == units
    assert shape.ffn_units * shape.ffn_unit_dim == d_ff


@pytest.mark.parametrize(
    ("d_ff", "units"), [(14336, 64), (11008, 344), (13824, 48), (5632, 88), (1536, 48), (43 * 32, 43), (536 * 32, 8)]
)
def test_equal_devices_can_have_equal_shares_of_units_of_blocks(d_ff: int, units: int) -> None:
    shape = replace(SMALL, d_model=64, d_ff=d_ff).at_precision("q4_0")
    assert shape.ffn_units == units
    assert shape.ffn_units * shape.ffn_unit_dim == d_ff
