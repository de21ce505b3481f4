"""A run is trusted as far as its own clock allows, and each reason names its cause and what helps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK
from support.facts import some_facts

from edgeemu.host.load import HostLoad
from edgeemu.report import thresholds
from edgeemu.report.rows import DecisionRow, DeviceRow, LinkRow, MigrationRow, OperationRow, TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.report.summary import summarise
from edgeemu.report.thresholds import (
    INVALID_CLOCK,
    PAUSE_WALL_S,
    WARN_CLOCK,
    WARN_DELAYED,
    WARN_FIRST_CLOCK,
    WARN_LAG_OF_TOKEN,
    WARN_PAUSE_WALL_S,
    WARN_PREDICTION,
    WARN_RELATIVE,
)

TOKEN_S = 0.1
FIRST_S = 0.5
MOVED = MigrationRow(0, 4, 2, "ffn(1)", "pi", "nano", 0, FIRST_S + 3.1 * TOKEN_S, FIRST_S + 3.2 * TOKEN_S, 0.01, "")
RUN_MD = Path(__file__).parents[2] / "docs" / "run.md"


def tokens(inflation: float = 0.0, number: int = 10, first_wall_s: float = FIRST_S) -> list[TokenRow]:
    """A sequence with a first token after half a second and then one each 100 ms, by the timeline."""
    wall_latencies_s = [first_wall_s, *[TOKEN_S * (1 + inflation)] * (number - 1)]
    return tokens_at(wall_latencies_s)


def tokens_at(wall_latencies_s: Sequence[float]) -> list[TokenRow]:
    """A sequence as in `tokens`, with the latencies of the clock."""
    rows, wall_s = [], 0.0
    for step, wall_latency_s in enumerate(wall_latencies_s):
        wall_s += wall_latency_s
        latency_s = TOKEN_S if step else FIRST_S
        rows.append(TokenRow(0, step, 1, "a", FIRST_S, FIRST_S + step * TOKEN_S, latency_s, wall_s, wall_latency_s))
    return rows


def ops(late_s: Sequence[float], *, duration_s: float = 1e-3, overrun: bool = False) -> list[OperationRow]:
    """Operations of the first tokens after the prompt, one each, as late as that."""
    return [
        OperationRow("pi", 0, 1 + at % 9, 0, "ffn", *[0] * 4, -1, 0, 1e6, 1e6, 0, 0, duration_s, 0.01, late, overrun)
        for at, late in enumerate(late_s)
    ]


def certificate(
    tokens: Sequence[TokenRow] = (), ops: Sequence[OperationRow] = (), *more: Any, **facts: Any
) -> dict[str, Any]:
    """Make the certificate of a paced run from its rows and facts."""
    records = RowsInMemory()
    records.append("tokens", tokens)
    records.append("ops", ops)
    for row in more:
        table = {
            DecisionRow: "decisions", DeviceRow: "devices", LinkRow: "links", MigrationRow: "migrations"
        }[type(row)]  # fmt: skip
        records.rows[table].append(row)  # type: ignore[index]
    made: dict[str, Any] = summarise(records, some_facts(**{"mode": "realtime", "reordered": 0} | facts))["certificate"]
    return made


@pytest.mark.parametrize(
    ("inflation", "verdict"),
    [
        (0.0, "PASS"),
        (0.9 * WARN_CLOCK, "PASS"),
        (-0.9 * WARN_CLOCK, "PASS"),
        (1.1 * WARN_CLOCK, "WARN"),
        (-1.1 * WARN_CLOCK, "WARN"),
        (0.9 * INVALID_CLOCK, "WARN"),
        (1.1 * INVALID_CLOCK, "INVALID"),
        (-1.1 * INVALID_CLOCK, "INVALID"),
        (3.0, "INVALID"),
    ],
)
def test_the_verdict_follows_how_far_the_wall_clock_is_off(inflation: float, verdict: str) -> None:
    made = certificate(tokens(inflation), ops([0.0] * 10))
    assert made["verdict"] == verdict
    if verdict == "PASS":
        assert made["reasons"] == []
    else:
        (reason,) = made["reasons"]
        assert f"wall-clock TPOT is {100 * inflation:+.1f} % off" in reason


def test_a_slow_host_is_told_which_dilation_would_pass() -> None:
    made = certificate(tokens(1.0), ops([0.0] * 10), dilation=1.5)
    assert "time.dilation 3.6 would pass" in made["reasons"][0]  # 1.5 · 2, and a margin of a fifth
    hopeless = certificate(tokens(60.0), ops([0.0] * 10), dilation=1.5)
    assert "time.mode: virtual" in hopeless["reasons"][0]


def test_the_first_token_is_judged_too() -> None:
    within = certificate(tokens(first_wall_s=FIRST_S * (1 + 0.9 * WARN_FIRST_CLOCK)), ops([0.0]))
    beyond = certificate(tokens(first_wall_s=FIRST_S * (1 + 1.1 * WARN_FIRST_CLOCK)), ops([0.0]))
    single = certificate(tokens(number=1, first_wall_s=1.2 * FIRST_S), ops([0.0]))
    assert (within["verdict"], beyond["verdict"], single["verdict"]) == ("PASS", "WARN", "INVALID")
    assert "TTFT is +3.3 % off" in beyond["reasons"][0]


def test_lateness_is_judged_against_its_own_token() -> None:
    prompt = certificate(tokens(), ops([0.9 * WARN_LAG_OF_TOKEN * TOKEN_S] * 200, duration_s=0.02))
    late = certificate(tokens(), ops([1.1 * WARN_LAG_OF_TOKEN * TOKEN_S] * 200, duration_s=0.02))
    assert (prompt["verdict"], late["verdict"]) == ("PASS", "WARN")
    assert "late by up to 11 % of a token" in late["reasons"][0]
    assert late["lag_ms"] == pytest.approx({"mean": 11.0, "p99": 11.0, "max": 11.0})


def test_lateness_is_judged_against_its_own_operation() -> None:
    share = WARN_DELAYED + 0.02
    late_s = [0.06 * TOKEN_S] * round(200 * share) + [0.0] * round(200 * (1 - share))
    short, long = certificate(tokens(), ops(late_s)), certificate(tokens(), ops(late_s, duration_s=0.01))
    assert (short["verdict"], long["verdict"]) == ("WARN", "PASS")
    assert "7 % of the operations are late by more than their own duration" in short["reasons"][0]


def test_timers_of_a_calm_host_are_no_lag() -> None:
    quick = [TokenRow(0, step, 1, "a", step * 1e-3, step * 1e-3, 1e-3, step * 1e-3, 1e-3) for step in range(10)]
    assert certificate(quick, ops([0.9e-3] * 100, duration_s=1e-5))["verdict"] == "PASS"


def test_a_pause_that_is_caught_up_is_seen() -> None:
    paused = [FIRST_S, *[TOKEN_S] * 9]
    paused[4] += 0.3
    paused[5] = paused[6] = paused[7] = 0.0
    made = certificate(tokens_at(paused), ops([0.0] * 100))
    assert made["verdict"] == "WARN"
    assert made["reasons"] == [
        "the host stood still for 0.30 s at token 4 of sequence 0; the emulated figures do not contain it"
    ]
    assert made["pauses"] == [{"wall_s": pytest.approx(0.3), "sequence": 0, "step": 4, "migrating": False}]


def test_operations_that_a_pause_made_late_are_not_held_against_the_host_twice() -> None:
    paused = [FIRST_S, *[TOKEN_S] * 9]
    paused[4] += 0.09
    paused[5] -= 0.09
    late = [row._replace(late_s=0.09 if row.step in (4, 5) else 0.0) for row in ops([0.0] * 90)]
    made = certificate(tokens_at(paused), late)
    assert made["verdict"] == "PASS"
    assert "stood still for 0.09 s at token 4" in made["reasons"][0]
    assert made["lag_ms"]["max"] == pytest.approx(90.0)


def test_moving_blocks_may_take_the_host_longer_even_if_their_token_catches_up() -> None:
    """A token in ten had late operations, and the run did not pass. Where each token moves blocks, a host keeps up."""
    late = [row._replace(late_s=0.05 if row.step == 4 else 0.0) for row in ops([0.0] * 90)]
    assert certificate(tokens(), late)["verdict"] == "WARN"
    made, often = certificate(tokens(), late, MOVED), [MOVED._replace(epoch=epoch) for epoch in range(1, 6)]
    assert made["verdict"] == "PASS"
    assert "moving blocks took the host 0.05 s longer than the timeline at token 4" in made["reasons"][0]
    assert certificate(tokens(), late, *often)["verdict"] == "WARN"


@pytest.mark.parametrize(
    ("wall_s", "links", "verdict"),
    [
        (0.9 * PAUSE_WALL_S, "stamped", None),
        (0.9 * WARN_PAUSE_WALL_S, "stamped", "PASS"),
        (1.1 * WARN_PAUSE_WALL_S, "stamped", "WARN"),
        (1.1 * PAUSE_WALL_S, "hybrid", "WARN"),
    ],
)
def test_a_pause_counts_more_where_messages_are_timed(wall_s: float, links: str, verdict: str | None) -> None:
    paused = [FIRST_S, *[TOKEN_S] * 9]
    paused[4] += wall_s
    paused[5] -= wall_s
    made = certificate(tokens_at(paused), ops([0.0] * 9), links=links)
    assert made["verdict"] == (verdict or "PASS")
    assert bool(made["pauses"]) == (verdict is not None)


def test_a_pause_in_which_blocks_moved_is_named_as_that() -> None:
    paused = [FIRST_S, *[TOKEN_S] * 9]
    paused[4] += 0.3
    paused[5] = paused[6] = paused[7] = 0.0
    made = certificate(tokens_at(paused), ops([0.0] * 100), MOVED)
    assert made["verdict"] == "PASS"
    assert "moving blocks took the host 0.30 s longer than the timeline at token 4" in made["reasons"][0]


def device_row(stalled_s: float) -> DeviceRow:
    return DeviceRow("pi", 0, 1, 0, 0, 0, 0, 0, 0, 0, stalled_s, 0.0, 0.0, None)


def test_a_device_that_stood_still_is_named() -> None:
    made = certificate(tokens(number=100), ops([0.0]), device_row(0.2), device_row(0.1), links="hybrid")
    assert made["verdict"] == "WARN"
    assert made["reasons"][0].startswith("pi stood still for 0.30 s in all")
    assert made["stalled_s"] == {"pi": pytest.approx(0.3)}
    assert certificate(tokens(), ops([0.0]), device_row(0.3), links="hybrid")["verdict"] == "INVALID"


def link_row(messages: int) -> LinkRow:
    return LinkRow("pi", "nano", 0, 1, messages, 100, 0.0, 0.0, 0.0, 0.0, None)


def test_messages_out_of_order_are_a_share_of_all() -> None:
    few = certificate(tokens(), ops([0.0]), link_row(1000), reordered=9)
    many = certificate(tokens(), ops([0.0]), link_row(1000), reordered=11)
    assert (few["verdict"], many["verdict"]) == ("PASS", "WARN")
    assert "1.1 % of the messages met a link out of the order" in many["reasons"][0]
    assert (few["reordered"], many["reordered"]) == (9, 11)


def predicted(tpot_ms: float) -> dict[str, Any]:
    return {"predicted": {"ttft_ms": 500.0, "tpot_ms": tpot_ms, "makespan_s": 1.0, "throughput_tok_s": 1.0}}


@pytest.mark.parametrize("mode", ["realtime", "virtual"])
def test_a_run_that_leaves_the_prediction_is_suspicious(mode: str) -> None:
    near = certificate(tokens(), ops([0.0]), mode=mode, **predicted(100 * (1 - 0.9 * WARN_PREDICTION)))
    far = certificate(tokens(), ops([0.0]), mode=mode, **predicted(95.0))
    assert (near["verdict"], far["verdict"]) == ("PASS", "WARN")
    assert "TPOT is +5.3 % off the timeline's prediction although" in far["reasons"][-1].replace(":", "")
    assert certificate(tokens(), ops([0.0]), mode=mode, has_events=True, **predicted(95.0))["verdict"] == "PASS"


def decided(took_s: float, charged_s: float) -> list[DecisionRow]:
    return [DecisionRow(0, step, "decided", took_s, charged_s, "") for step in range(1, 10)]


def test_the_time_of_decisions_is_not_a_deviation_but_is_told() -> None:
    made = certificate(tokens(), ops([0.0]), *decided(0.02, 0.01), decided_on="pi", **predicted(90.0))
    assert made["verdict"] == "WARN"
    assert made["reasons"] == [
        "figures contain the policy's processor time on this host scaled to pi, 10.0 % of TPOT; "
        "decisions.time: 0 s leaves it out"
    ]
    little = certificate(tokens(), ops([0.0]), *decided(1e-4, 1e-4), **predicted(100.0))
    assert little["verdict"] == "PASS"
    assert little["reasons"] == [
        "figures contain the policy's processor time on this host, 0.1 % of TPOT; decisions.time: 0 s leaves it out"
    ]
    given = certificate(tokens(), ops([0.0]), *decided(0.02, 0.01), decisions_measured=False, **predicted(90.0))
    assert (given["verdict"], given["reasons"]) == ("PASS", [])


def test_decisions_that_take_long_and_that_nothing_charges_are_a_warning() -> None:
    left_out = certificate(tokens(), ops([0.0]), *decided(0.01, 0.0), decisions_measured=False, **predicted(100.0))
    assert left_out["verdict"] == "WARN"
    assert left_out["reasons"] == [
        "the policy took 10.0 % of TPOT in processor time of this host, which is not on the timeline, and which a real "
        "cluster would have to spend; decisions.time charges it, decisions.interval asks less often"
    ]
    few = certificate(tokens(), ops([0.0]), *decided(1e-6, 0.0), decisions_measured=False, **predicted(100.0))
    assert (few["verdict"], few["reasons"]) == ("PASS", [])


def test_figures_that_depend_on_the_host_say_so() -> None:
    made = certificate(tokens(), ops([0.0]), mode="virtual", relative_devices=["pi"], **predicted(95.0))
    assert made["verdict"] == "PASS"
    assert "figures contain the speed of this host: pi" in made["reasons"][0]
    off = certificate(
        tokens(), ops([0.0]), mode="virtual", relative_devices=["pi"], **predicted(100 / (1 + 1.1 * WARN_RELATIVE))
    )
    assert off["verdict"] == "WARN"


def test_failed_and_refused_decisions_are_a_warning() -> None:
    cut = DecisionRow(0, 0, "cut", None, None, "the policy did not answer within 10 s")
    failed = DecisionRow(0, 3, "decided", 0.0, 0.0, "IndexError: list index out of range")
    refused = DecisionRow(0, 5, "refused", None, None, "pi has no memory for it")
    made = certificate(tokens(), ops([0.0]), cut, failed, failed, refused, decisions_measured=False)
    assert made["verdict"] == "WARN"
    assert made["reasons"] == [
        "2 decisions failed: sequence 0, step 3: IndexError: list index out of range",
        "1 decision refused by devices: sequence 0, step 5: pi has no memory for it",
        "1 decision cut by decisions.limit, on which the figures depend as on the speed of this host: "
        "sequence 0, step 0: the policy did not answer within 10 s",
    ]


def test_a_full_host_is_the_cause_where_it_was_late() -> None:
    busy = HostLoad(2, 0.98, 0.6, 0.0, 0.4)
    made = certificate(tokens(0.03), ops([0.0] * 9), host_load=busy)
    assert "2 processors were 98 % busy, 60 % with other programs; time.dilation" in made["reasons"][0]
    assert certificate(tokens(), ops([0.0] * 9), host_load=busy)["verdict"] == "PASS"
    beside = certificate(tokens(0.03), ops([0.0] * 9), host_load=HostLoad(2, 0.5, 0.23, 0.0, 0.4))
    assert "; other programs took 23 % of 2 processors; time.dilation" in beside["reasons"][0]
    alone = certificate(tokens(0.03), ops([0.0] * 9), host_load=HostLoad(2, 0.5, 0.05, 0.0, 0.4))
    assert "other programs" not in alone["reasons"][0]
    stolen = certificate(tokens(), ops([0.0] * 9), host_load=HostLoad(2, 0.5, 0.0, 0.2, None))
    assert stolen["verdict"] == "WARN"
    assert "the hypervisor gave 20 % of the processor time" in stolen["reasons"][0]


def test_a_run_without_a_token_vouches_for_nothing() -> None:
    made = certificate()
    assert made["verdict"] == "INVALID"
    assert made["reasons"] == ["no token was generated"]
    assert (made["lag_ms"]["p99"], made["overruns"]) == (0.0, 0.0)


@QUICK
@given(st.lists(st.floats(-0.01, 5.0), max_size=30), st.floats(-0.5, 5.0), st.sampled_from(["realtime", "virtual"]))
def test_a_verdict_has_its_reasons(late_s: list[float], inflation: float, mode: str) -> None:
    made = certificate(tokens(inflation), ops(late_s), mode=mode)
    assert made["verdict"] in ("PASS", "WARN", "INVALID")
    assert made["verdict"] == "PASS" or made["reasons"]
    assert 0.0 <= made["delayed"] <= 1.0
    assert 0.0 <= made["overruns"] <= 1.0


@pytest.mark.parametrize("mode", ["virtual", "simulated"])
def test_time_that_is_computed_cannot_be_late(mode: str) -> None:
    made = certificate(tokens(9.0), ops([9.0]), mode=mode)
    assert (made["verdict"], made["reasons"]) == ("PASS" if mode == "virtual" else "UNCHECKED", [])
    assert "time is computed" in made["means"]
    assert ("not say that the timeline is a real cluster's" in made["means"]) == (mode == "virtual")


def test_every_threshold_is_documented() -> None:
    page = RUN_MD.read_text(encoding="utf-8")
    for name in (name for name in vars(thresholds) if name.isupper()):
        assert f"`{name}`" in page, name
