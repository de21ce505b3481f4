"""On instances drawn as in the head-level paper: how far from the optimum, and quickly enough.

`tools/bench/policies.py` prints the same of 200 instances, and the times.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "bench" / "policies.py"
NAMES = ("lookahead", "resource-aware", "greedy", "round-robin", "dynamic-layers", "layers", "single")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_policies", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("delay_s", [0.0, 2e-4])
def test_gaps_to_the_optimum(bench: ModuleType, delay_s: float, capfd: pytest.CaptureFixture[str]) -> None:
    table = bench.gaps(NAMES, 18, 4, delay_s)
    assert table["lookahead"]["mean"] <= 0.03
    assert table["lookahead"]["worst_against_best_other"] <= 0.01
    assert table["resource-aware"]["mean"] <= 0.20
    for name in ("greedy", "round-robin"):
        assert table[name]["mean"] > table["resource-aware"]["mean"]
    assert all(row["without_placement"] == 0 for row in table.values())
    assert capfd.readouterr().out == ""  # whatever HiGHS prints, standard output is ours


def test_the_optimum_of_five_devices_and_32_heads_takes_no_two_seconds(bench: ModuleType) -> None:
    row = bench.exact_times(5, 3)
    assert row["max_s"] < 2.0


@pytest.mark.parametrize("name", ["resource-aware", "lookahead"])
def test_decisions_are_timed_as_a_run_makes_them(bench: ModuleType, name: str) -> None:
    """The figures are the tool's: a test has no machine of its own."""
    row = bench.decision_times(name, bench.DECISIONS[0], 3)
    assert (row["devices"], row["blocks"]) == (25, 34)
    assert all(value > 0 for key, value in row.items() if key.endswith("_ms"))
