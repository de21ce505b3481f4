"""The benchmark of policies: its clusters that change, what is possible there, and the times of decisions."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "bench" / "policies.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_policies", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_policies_are_compared_on_a_cluster_that_changes(bench: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    """A link gets slow: who moves is ahead of who does not, and nobody is better than what is possible."""
    table = bench.quality(("lookahead", "resource-aware", "static", "single"), [2])
    assert table["lookahead"]["mean"] == 0.0
    assert table["static"]["mean"] > table["resource-aware"]["mean"] + 0.5
    assert all(table[name]["above_possible"] > 0 for name in ("lookahead", "resource-aware", "static"))
    assert [row["without_placement"] for row in table.values()] == [0, 0, 0, 1]
    assert capfd.readouterr().out == ""


def test_the_optimum_of_five_devices_and_32_heads_takes_no_two_seconds(bench: ModuleType) -> None:
    row = bench.exact_times(5, 3)
    assert row["max_s"] < 2.0


@pytest.mark.parametrize("name", ["resource-aware", "lookahead"])
def test_decisions_are_timed_as_a_run_makes_them(bench: ModuleType, name: str) -> None:
    """The figures are the tool's: a test has no machine of its own."""
    row = bench.decision_times(name, bench.DECISIONS[0], 3)
    assert (row["devices"], row["blocks"]) == (25, 34)
    assert all(value > 0 for key, value in row.items() if key.endswith("_ms"))
