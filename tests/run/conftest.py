"""Surroundings of tests of runs: clusters and policies that they start in this process start warm."""

import pytest


@pytest.fixture(autouse=True)
def always_warm(clusters_start_warm: None, policies_start_warm: None) -> None: ...
