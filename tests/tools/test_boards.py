"""The catalog's boards.yaml: up to date, and made of the measurements as its tool says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgeemu.scenario.catalog import device_profile, device_profiles, model_entry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import boards

        yield boards
    finally:
        sys.path.remove(str(ROOT / "tools"))


def test_the_file_is_what_the_measurements_give(tool):
    assert tool.BOARDS.read_text("utf-8") == tool.text()


def test_there_are_boards_with_measured_power_and_price(tool):
    names = [name for name, _ in tool.entries()]
    assert len(names) == len(set(names)) >= 25
    for name in names:
        profile = device_profiles()[name]
        assert profile.power.idle.label == profile.power.busy.label == profile.price_usd.label == "measured"


def test_a_token_of_llama_3_2_3b_reads_its_file_in_q4_k_m(tool):
    """Ollama's llama3.2:3b has 2.02 GB: these weights and the tokenizer; the embedding is the output matrix."""
    assert tool.finer_layers(28) == 14
    assert tool.q4_k_m_bytes(model_entry("llama-3.2-3b").model_shape()) == pytest.approx(2.02e9, rel=0.006)


def test_figures_follow_from_the_measurements():
    board = device_profile("radxa-orion-o6")  # 124.42 GFLOPS, 11352.6 MB/s, 9.33 tokens/s, 1412 of 15222 MiB taken
    assert board.gflops.value == pytest.approx(2 * 124.42e9, rel=5e-3)
    assert board.mem_bandwidth.value == pytest.approx(2 * 11352.6e6, rel=5e-3)
    assert board.decode_bandwidth.value == pytest.approx(9.33 * 2.0115e9, rel=5e-3)
    assert board.memory_reserved.value == (16384 - 15222 + 1412) * 2**20
