"""Predictions of other people's measurements stay as near as they are, and the page says what comes out."""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from edgeemu.scenario.catalog.profile_files import read_profile
from edgeemu.scenario.document import read
from edgeemu.units import FRACTION

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
VALIDATED = ROOT / "edgeemu" / "scenario" / "catalog" / "validated.yaml"
RECORDED = read(VALIDATED.read_text("utf-8"), VALIDATED.name).data

# Largest errors of rows on up to four nodes that were only predicted; of all of them together, the median.
WORST, MEDIAN = 0.15, 0.07
WORST_OF_MDI_LLM = 0.07
WORST_OF_ONE_BOARD = 0.12  # of rows that were fitted, with one bandwidth and one overhead for each board
WORST_COMPUTING_ON_EIGHT = 0.07  # of the part in which boards compute: what the network takes there is not predicted
ROUNDING = 0.0006  # of the errors that are recorded


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import validation

        yield validation
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def sets(tool: ModuleType) -> dict[str, Any]:
    return {each.name: each for each in tool.data_sets()}


@pytest.mark.parametrize("name", RECORDED)
def test_no_error_is_larger_than_what_is_recorded(sets, name):
    entry = RECORDED[name]
    assert sets[name].typical <= FRACTION.parse(entry["median_error"]) + ROUNDING
    assert sets[name].worst <= FRACTION.parse(entry["worst_error"]) + ROUNDING


def test_everything_that_is_predicted_is_recorded(sets):
    assert set(RECORDED) == {name for name, each in sets.items() if each.held}


@pytest.mark.parametrize("name", ["V1", "V2", "V4", "V11-rpc", "V11-exo"])
def test_clusters_of_up_to_four_are_predicted(sets, name):
    assert sets[name].worst <= WORST


def test_mdi_llm_on_three_boards_is_predicted(sets):
    assert sets["V8"].worst <= WORST_OF_MDI_LLM


@pytest.mark.usefixtures("tool")
def test_the_median_of_all_clusters_is_small(sets):
    from validationpage.page import multi_node

    assert median(map(abs, multi_node(list(sets.values())))) <= MEDIAN


def test_a_bandwidth_and_an_overhead_tell_all_models_of_one_board(sets):
    alone = [each for each in sets.values() if each.left_out]
    assert len(alone) == 5
    for each in alone:
        assert max(map(abs, each.made.errors(fitted=True))) <= WORST_OF_ONE_BOARD, each.name


def test_what_eight_boards_compute_is_predicted(sets):
    eight = [(row, made) for row, made in sets["V1"].made.rows if row.nodes == 8]
    assert len(eight) == 2
    for row, made in eight:
        assert abs(made.compute_s / row.compute_s - 1) <= WORST_COMPUTING_ON_EIGHT
        assert row.taken_s - row.compute_s > made.taken_s - made.compute_s + 0.2  # a retransmission timeout of Linux


def test_no_row_is_both_fitted_and_predicted(sets):
    for each in sets.values():
        if not each.left_out:
            fitted = {row.where for row, _ in each.made.rows if row.fitted}
            assert not fitted & {row.where for row, _ in each.predicted}, each.name
    assert {row.nodes for row, _ in sets["V1"].made.rows if row.fitted} == {1, 2}
    assert {row.model for row, _ in sets["V1"].made.rows if row.fitted} == {"llama-2-7b"}


def test_the_page_is_what_would_be_written(sets, tool):
    written = tool.page(list(sets.values()))
    shown = tool.PAGE.read_text("utf-8")
    assert shown == written, "stale; run: make validation"
    assert {path.stem for path in tool.PICTURES.glob("*.svg")} == set(sets)


@pytest.mark.parametrize("file", sorted((ROOT / "boards").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_calibrated_board_has_the_figures_that_were_fitted(sets, file):
    profile = read_profile(file)
    (each,) = [each for each in sets.values() if each.profile == file.stem]
    assert profile.engine == each.engine
    for field, value in each.made.figures.items():
        assert getattr(profile, field).value == pytest.approx(value, rel=1e-3), field
