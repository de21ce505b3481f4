"""A run is trusted as far as its own clock allows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK
from support.watching import Recording

from edgeemu.report.certificate import INVALID_INFLATION, WARN_INFLATION, WARN_LAG
from edgeemu.report.certificate import certify as certify_figures
from edgeemu.report.figures import operation_figures, token_figures
from edgeemu.report.rows import OperationRow, TokenRow

TOKEN_S = 0.1


def tokens(inflation: float, number: int = 10, first_wall_s: float = 0.5) -> list[TokenRow]:
    """A sequence with a first token after half a second and then one each 100 ms, by the timeline."""
    rows = [TokenRow(0, 0, 1, "a", 0.5, 0.5, first_wall_s, first_wall_s)]
    for step in range(1, number):
        wall_s = first_wall_s + step * TOKEN_S * (1 + inflation)
        rows.append(TokenRow(0, step, 1, "a", 0.5 + step * TOKEN_S, TOKEN_S, wall_s, TOKEN_S * (1 + inflation)))
    return rows


def certify(tokens: list[TokenRow], ops: list[OperationRow], *, mode: str, reordered: int) -> dict[str, Any]:
    records = Recording()
    records.append("tokens", tokens)
    records.append("ops", ops)
    figures = token_figures(records, []), operation_figures(records, paced=mode == "realtime")
    return certify_figures(*figures, mode=mode, reordered=reordered)


def ops(late_s: list[float], overruns: int = 0) -> list[OperationRow]:
    return [
        OperationRow("pi", 0, step, 0, "ffn", 0, 1, 0.0, 0.0, 0.1, 0.01, late, step < overruns)
        for step, late in enumerate(late_s)
    ]


@pytest.mark.parametrize(
    ("inflation", "verdict"),
    [
        (0.0, "PASS"),
        (0.9 * WARN_INFLATION, "PASS"),
        (-0.9 * WARN_INFLATION, "PASS"),
        (1.1 * WARN_INFLATION, "WARN"),
        (-1.1 * WARN_INFLATION, "WARN"),
        (0.9 * INVALID_INFLATION, "WARN"),
        (1.1 * INVALID_INFLATION, "INVALID"),
        (-1.1 * INVALID_INFLATION, "INVALID"),
        (3.0, "INVALID"),
    ],
)
def test_the_verdict_follows_how_far_the_wall_clock_is_off(inflation: float, verdict: str) -> None:
    made = certify(tokens(inflation), ops([0.0] * 10), mode="realtime", reordered=0)
    assert made["verdict"] == verdict
    if verdict == "PASS":
        assert made["reasons"] == []
    else:
        (reason,) = made["reasons"]
        assert f"TPOT is {inflation:+.1%} off" in reason
        assert "time.dilation" in reason


def test_results_late_by_a_good_part_of_a_token_are_a_warning_at_most() -> None:
    prompt = certify(tokens(0.0), ops([0.9 * WARN_LAG * TOKEN_S] * 200), mode="realtime", reordered=0)
    late = certify(tokens(0.0), ops([1.1 * WARN_LAG * TOKEN_S] * 200), mode="realtime", reordered=0)
    assert (prompt["verdict"], late["verdict"]) == ("PASS", "WARN")
    assert late["reasons"] == ["p99 lateness 11.0 ms, over 10% of a token"]
    assert late["lag_p99_ms"] == pytest.approx(11.0)
    both = certify(tokens(0.06), ops([1.0] * 200), mode="realtime", reordered=0)
    assert both["verdict"] == "INVALID"
    assert len(both["reasons"]) == 2


def test_a_single_late_result_among_hundreds_is_forgiven() -> None:
    made = certify(tokens(0.0), ops([0.0] * 499 + [5.0]), mode="realtime", reordered=0)
    assert (made["verdict"], made["lag_p99_ms"]) == ("PASS", 0.0)


def test_overruns_are_a_share_of_the_operations() -> None:
    made = certify(tokens(0.0), ops([0.0] * 8, overruns=2), mode="realtime", reordered=7)
    assert (made["overruns"], made["reordered"]) == (0.25, 7)


def test_single_tokens_are_judged_by_their_first() -> None:
    good = certify(tokens(0.0, number=1), ops([0.0]), mode="realtime", reordered=0)
    assert good["verdict"] == "PASS"
    bad = certify(tokens(0.0, number=1, first_wall_s=0.6), ops([0.0]), mode="realtime", reordered=0)
    assert bad["verdict"] == "INVALID"
    assert "TTFT is +20.0% off" in bad["reasons"][0]


def test_a_run_without_a_token_vouches_for_nothing() -> None:
    made = certify([], [], mode="realtime", reordered=0)
    assert made["verdict"] == "INVALID"
    assert made["reasons"] == ["no token was generated"]
    assert (made["lag_p99_ms"], made["overruns"]) == (0.0, 0.0)


@QUICK
@given(st.lists(st.floats(-0.01, 5.0), max_size=30), st.floats(-0.5, 5.0), st.integers(0, 30), st.booleans())
def test_a_verdict_has_its_reasons(late_s: list[float], inflation: float, overruns: int, paced: bool) -> None:
    made = certify(tokens(inflation), ops(late_s, overruns), mode="realtime" if paced else "virtual", reordered=1)
    assert set(made) >= {"verdict", "reasons", "lag_p99_ms", "overruns", "reordered"}
    assert made["verdict"] in ("PASS", "WARN", "INVALID")
    assert made["verdict"] == "PASS" or made["reasons"]
    assert 0.0 <= made["overruns"] <= 1.0


def test_virtual_time_cannot_be_late() -> None:
    made = certify(tokens(9.0), ops([9.0]), mode="virtual", reordered=0)
    assert made["verdict"] == "PASS"
    assert "virtual mode" in made["reasons"][0]
