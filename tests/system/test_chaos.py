"""Chaos: random clusters, policies, divisions, migrations and faults; the text is the reference's, or the run says why.

Here devices are in memory (`support.memory_devices`); `test_chaos_processes` has real ones. These are a few of the
cases of `make chaos`.
"""

import os

import pytest
from support.chaos import case_of, run_case
from support.memory_devices import use_memory

from edgeemu.run.recovery import fill_caches

CASES = int(os.environ.get("CHAOS_CASES", "24"))
FIRST = int(os.environ.get("CHAOS_FIRST", "0"))


FOUND = [173, 3067]  # cases that once failed


@pytest.mark.parametrize("seed", [*range(FIRST, FIRST + CASES), *FOUND])
def test_the_text_is_the_reference_or_the_run_says_why(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use_memory(monkeypatch, seed)
    monkeypatch.setattr(fill_caches, "MOST_ROWS", 1 + seed % 5)  # so that a loss can come between two steps
    run_case(case_of(seed))
