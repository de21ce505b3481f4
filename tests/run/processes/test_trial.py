"""A trial raises the dilation as far as what it saw would need, and asks no user's policy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.report.figures import TokenFigures
from edgeemu.report.lateness import MARGIN, OperationLateness, passing_dilation
from edgeemu.report.thresholds import WARN_LAG_OF_TOKEN


def tokens(wall_s: float) -> TokenFigures:
    """Ten tokens of 0.1 s, each of which takes `wall_s` by the clock."""
    steps, latency_s = np.arange(10, dtype=np.int32), np.full(10, 0.1)
    zeros = np.zeros(10)
    return TokenFigures(steps * 0, steps, latency_s, np.full(10, wall_s), zeros, zeros, 1.0, 1.0, [], [])


def test_what_passes_keeps_its_dilation() -> None:
    late = OperationLateness(p99_of_token=0.5 * WARN_LAG_OF_TOKEN, p95_of_allowed=0.6)
    assert passing_dilation(tokens(0.1), late, 1.3) == 1.3
    assert passing_dilation(tokens(0.1), late, 1.3, headroom=1.5) == 1.3
    assert passing_dilation(tokens(0.1), late, 1.3, headroom=2.0) == pytest.approx(1.9)  # 1.3 · 1.2 · 1.2


@QUICK
@given(st.floats(0.02, 5.0), st.floats(0.0, 2.0), st.floats(0.0, 9.0), st.floats(1.0, 20.0))
def test_it_is_enough_for_all_of_them(wall_s: float, of_token: float, of_allowed: float, dilation: float) -> None:
    late = OperationLateness(p99_of_token=of_token, p95_of_allowed=of_allowed)
    found = passing_dilation(tokens(wall_s), late, dilation)
    needed = max(1.0, wall_s / 0.1 if wall_s > 0.103 else 1.0, of_token / WARN_LAG_OF_TOKEN, of_allowed)
    assert found >= dilation
    assert found >= needed * dilation * (1 - 1e-9)
    assert found == dilation or found <= MARGIN * needed * dilation + 0.1 + 1e-9
