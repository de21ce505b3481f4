"""Words about how long a comparison takes: before it, and with what its first runs have taken."""

from edgeemu.cli.expectation import Expectation
from edgeemu.report.formats import duration_text


def test_a_long_comparison_says_how_long_and_which_policy_takes_most_of_that() -> None:
    times_s = {"quick": 10.0, "slow": 300.0, "other": 20.0}
    words = Expectation(["quick", "none", "slow", "other"], 2, times_s, lambda: 0.0).before()
    assert words.startswith(
        "6 runs on device processes: about 12 min, or more if this host needs a dilation above 1, of"
    )
    assert "of which slow alone 5 min a run. --simulate" in words
    alike = Expectation(["quick", "other"], 3, {"quick": 10.0, "other": 20.0}, lambda: 0.0).before()
    assert alike.startswith("6 runs on device processes: about 2 min")
    assert "alone" not in alike


def test_a_short_one_or_one_without_placements_says_nothing() -> None:
    assert Expectation(["quick"], 1, {"quick": 10.0}, lambda: 0.0).before() == ""
    assert Expectation(["none"], 1, {}, lambda: 0.0).before() == ""


def test_what_is_left_follows_from_what_was_measured() -> None:
    now_s = [100.0]
    expectation = Expectation(["a", "none", "b", "c"], 1, {"a": 5.0, "b": 55.0, "c": 15.0}, lambda: now_s[0])
    assert expectation.left(0) == ""
    now_s[0] = 120.0  # twice as long as expected
    assert expectation.left(1) == "about 3 min left"
    assert expectation.left(2) == "about 3 min left"
    now_s[0] = 240.0
    assert expectation.left(3) == "about 40 s left"


def test_without_times_all_runs_take_as_long() -> None:
    now_s = [0.0]
    expectation = Expectation(["a", "b", "c"], 1, None, lambda: now_s[0])
    assert expectation.before().startswith("3 runs on device processes, as fast as this host computes. --simulate")
    assert expectation.left(0) == ""
    now_s[0] = 50.0
    assert expectation.left(1) == "about 2 min left"
    now_s[0] = 60.0
    assert expectation.left(2) == "about 30 s left"


def test_durations_are_rounded_as_one_says_them() -> None:
    assert [duration_text(s) for s in (39.6, 100, 5000, 7800)] == ["40 s", "2 min", "83 min", "2 h 10 min"]
