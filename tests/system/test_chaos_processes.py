"""Chaos with real processes, which are really killed and stopped: cases of `test_chaos`, and some with a wall clock."""

import os

import pytest
from support.chaos import case_of, run_case, run_case_over
from support.kernel_links import KINDS, Links, named

CASES = int(os.environ.get("CHAOS_PROCESS_CASES", "8"))
FIRST = int(os.environ.get("CHAOS_FIRST", "0"))


@pytest.mark.parametrize("seed", range(FIRST + 100_000, FIRST + 100_000 + CASES))
def test_the_text_is_the_reference_or_the_run_says_why(seed: int) -> None:
    run_case(case_of(seed))


@pytest.mark.parametrize("links", KINDS[:1], indirect=True, ids=named)
@pytest.mark.parametrize("seed", range(FIRST + 200_000, FIRST + 200_000 + CASES))
def test_the_text_is_the_reference_over_links_of_the_kernel_too(seed: int, links: Links) -> None:
    run_case_over(links[0], case_of(seed))
