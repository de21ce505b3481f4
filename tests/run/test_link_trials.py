"""Slow links are tried before blocks move over them, if the change would lose where all that is slow is their rate."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.builders import LLAMA, view
from support.several import simulated

from edgeemu.cluster.devices import Compute
from edgeemu.placement.blocks import all_blocks
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.policies.view.link_factors import NO_LINKS, NONE_DOUBTFUL, Doubtful, LinkFactors, coded
from edgeemu.policies.view.link_matrix import LinkMatrix
from edgeemu.policies.view.pair_matrix import DenseMatrix
from edgeemu.report.rows import DecisionRow
from edgeemu.run.decider import MOST_WAITS
from edgeemu.run.link_trials import PATIENCE, LinkTrials
from edgeemu.run.make_plan import make_plan
from edgeemu.scenario.load import load_scenario
from edgeemu.timeline.network import Transit

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LINK = (0, 1)
X_BITS = 8e3
SMALL, LARGE = 60, 16_440  # bytes of test messages
SEEN = view(LLAMA, [2**40] * 3, [Compute(1e9, 1e9, 1e-4)] * 3, 9, 300)
S_PER_BIT, DELAY_S = SEEN.links.s_per_bit.pair(*LINK), SEEN.links.delay_s.pair(*LINK)
X_S = X_BITS * S_PER_BIT + DELAY_S
HERE = Placement(dict.fromkeys(all_blocks(LLAMA), 0))
THERE = Placement(dict.fromkeys(all_blocks(LLAMA), 1))
ALL_DOUBTFUL = Doubtful(coded([LINK]), np.array([0]))


def slow(times: float) -> ClusterView:
    """A link on which a vector takes so many times as long, told as delay as far as that goes."""
    factors = LinkFactors.of({LINK: (1.0 + (times - 1.0) * X_S / DELAY_S, 1.0)})
    return replace(SEEN, links=SEEN.links.scaled(factors), observed=factors)


def arrived(s_per_bit: float, delay_s: float) -> list[Transit]:
    """Test messages on a link that takes so long."""
    return [Transit(*LINK, size, 2, 2 * (8.0 * size * s_per_bit + delay_s)) for size in (SMALL, LARGE)]


def new() -> LinkTrials:
    return LinkTrials(SEEN.links, X_BITS, (SMALL, LARGE))


def tried(s_per_bit: float, delay_s: float) -> LinkTrials:
    trials = new()
    trials.corrected(SEEN)
    trials.trying([LINK])
    assert trials.taken(arrived(s_per_bit, delay_s), NO_LINKS) == arrived(s_per_bit, delay_s)
    return trials


def test_a_change_waits_until_test_messages_have_arrived() -> None:
    trials, now = new(), slow(20.0)
    assert trials.corrected(now) is now
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([LINK], True)
    trials.trying([LINK])
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], True), "they are under way"
    trials.taken([Transit(*LINK, SMALL, 1, 0.1), *arrived(S_PER_BIT, DELAY_S)[:1]], NO_LINKS)
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], True), "the larger one is"
    trials.taken(arrived(S_PER_BIT, 20 * DELAY_S), NO_LINKS)
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], False)


def test_messages_that_are_lost_are_sent_again() -> None:
    trials, now = new(), slow(20.0)
    trials.trying([LINK])
    for _ in range(PATIENCE):
        trials.corrected(now)
        assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], True)
    trials.corrected(now)
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([LINK], True)


def test_noise_makes_no_link_quicker_than_nominal_and_messages_of_steps_are_no_trial() -> None:
    trials = tried(-1e-8, 20 * X_S)
    assert trials.corrected(slow(20.0)).links.s_per_bit.pair(*LINK) == pytest.approx(S_PER_BIT)
    trials = new()
    trials.trying([LINK])
    steps = [Transit(*LINK, LARGE, 1, 0.1)]
    assert trials.taken(steps, coded([LINK])) == steps
    assert trials.under_way


def test_without_nominal_delay_the_estimate_stays() -> None:
    links = LinkMatrix(SEEN.links.s_per_bit, DenseMatrix(np.zeros((3, 3))))
    factors = LinkFactors.of({LINK: (1.0, 20.0)})
    now = replace(SEEN, links=links.scaled(factors), observed=factors)
    trials = LinkTrials(links, X_BITS, (SMALL, LARGE))
    trials.trying([LINK])
    trials.taken(arrived(S_PER_BIT, 19 * S_PER_BIT * X_BITS), NO_LINKS)
    assert trials.corrected(now).observed[LINK] == (1.0, 20.0)
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], False)


def test_nothing_waits_for_links_of_devices_that_have_none_in_doubt() -> None:
    now = slow(20.0)
    assert new().to_try(now, NONE_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], False)
    four = view(LLAMA, [2**40] * 4, [Compute(1e9, 1e9, 1e-4)] * 4, 9, 300)
    old, after = (Placement(dict.fromkeys(all_blocks(LLAMA), device)) for device in (2, 3))
    seen = replace(four, links=four.links.scaled(now.observed), observed=now.observed)
    trials = LinkTrials(four.links, X_BITS, (SMALL, LARGE))
    assert trials.to_try(seen, ALL_DOUBTFUL, NO_LINKS, old, after) == ([], False)


def test_a_link_that_no_step_measures_is_tried_where_another_of_an_end_is_slow() -> None:
    assert new().to_try(slow(20.0), ALL_DOUBTFUL, NO_LINKS, THERE, HERE) == ([(1, 0)], True)
    assert new().to_try(slow(20.0), ALL_DOUBTFUL, coded([(1, 0)]), THERE, HERE) == ([], False), "steps measure it"


def test_nothing_waits_where_the_change_pays_anyway() -> None:
    computes = [Compute(1e3, 1e3, 1.0), *[Compute(1e9, 1e9, 1e-4)] * 2]
    devices = tuple(replace(each, compute=compute) for each, compute in zip(SEEN.devices, computes, strict=True))
    now = replace(slow(20.0), devices=devices)
    assert new().to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([], False)


@pytest.mark.parametrize(
    ("s_per_bit", "delay_s"),
    [(S_PER_BIT, 20 * X_S - X_BITS * S_PER_BIT), ((20 * X_S - DELAY_S) / X_BITS, DELAY_S), (19 * X_S / X_BITS, X_S)],
)
def test_the_view_has_what_was_found(s_per_bit: float, delay_s: float) -> None:
    now = tried(s_per_bit, delay_s).corrected(slow(20.0))
    assert now.links.pair(*LINK, X_BITS) == pytest.approx(20 * X_S), "as measured"
    assert now.links.s_per_bit.pair(*LINK) == pytest.approx(s_per_bit)
    assert now.links.delay_s.pair(*LINK) == pytest.approx(delay_s)
    assert now.observed[LINK] == pytest.approx((delay_s / DELAY_S, s_per_bit / S_PER_BIT))


def test_what_was_found_holds_while_the_link_is_as_slow_as_then() -> None:
    trials = tried((20 * X_S - DELAY_S) / X_BITS, DELAY_S)
    for times in (20.0, 30.0, 12.0):
        assert trials.corrected(slow(times)).links.pair(*LINK, X_BITS) == pytest.approx(20 * X_S)
    assert trials.corrected(slow(1.0)).links.pair(*LINK, X_BITS) == pytest.approx(X_S)


@pytest.mark.parametrize("times", [6.0, 60.0])
def test_a_link_that_is_much_slower_or_quicker_than_then_is_tried_again(times: float) -> None:
    trials = tried(S_PER_BIT, 20 * X_S)
    assert trials.corrected(slow(20.0)).observed[LINK] != pytest.approx(slow(20.0).observed[LINK])
    now = slow(times)
    assert trials.corrected(now).observed[LINK] == pytest.approx(now.observed[LINK])
    assert trials.to_try(now, ALL_DOUBTFUL, NO_LINKS, HERE, THERE) == ([LINK], True)


def test_others_do_not_learn_from_tests_of_links_that_steps_use() -> None:
    trials = new()
    trials.trying([LINK])
    tests, other = arrived(S_PER_BIT, DELAY_S), Transit(1, 2, LARGE, 1, 0.1)
    assert trials.taken([*tests, other], coded([LINK])) == [other]


def events_at(token: int, device: str, others: Sequence[str]) -> str:
    events = [f"{{at_token: {token}, link: [{device}, {other}], bandwidth: 2 Mbit/s}}" for other in others]
    return f"events=[{', '.join(events)}]"


@pytest.mark.parametrize(
    ("tokens", "threshold"),
    [(60, "0 %"), (60, "30 %"), (160, "0 %")],  # in the longest run machine code decides
)
def test_no_blocks_are_sent_for_seconds_over_links_whose_rate_has_collapsed(tokens: int, threshold: str) -> None:
    """Outputs of heads are so small that it looks like a delay, and blocks seem to move within milliseconds.

    Below the threshold the policy is not asked again, but where a change waits.
    """
    settings = [f"workload.max_tokens={tokens}", "devices[0].load=null", f"decisions.threshold={threshold}"]
    file = SCENARIOS / "one-layer-25.yaml"
    plan = make_plan(load_scenario(file, settings), "lookahead")
    names = [plan.view.devices[device].name for device in plan.placement.devices()]
    for device in names[:3]:
        others = [name for name in names if name != device]
        run = simulated(make_plan(load_scenario(file, [*settings, events_at(10, device, others)]), "lookahead"))
        assert run.problems == []
        tokens_s = np.diff([token.emulated_s for token in run.tokens])
        assert tokens_s.max() < 0.2, f"{device}: no move takes long"
        assert np.median(tokens_s[-20:]) < 0.033, "nearly as before: 26 ms, and 61 with heads where links are slow"


def decisions_after_links_are_lost(at_token: int, *settings: str) -> list[DecisionRow]:
    """Decisions of a run of 40 tokens in which one device of many loses the rate of its links."""
    file, settings = SCENARIOS / "one-layer-25.yaml", ("workload.max_tokens=40", "devices[0].load=null", *settings)
    plan = make_plan(load_scenario(file, settings), "lookahead")
    first, *others = [plan.view.devices[device].name for device in plan.placement.devices()]
    lost = make_plan(load_scenario(file, [*settings, events_at(at_token, first, others)]), "lookahead")
    rows: list[DecisionRow] = simulated(lost).recorded.rows["decisions"]
    return rows


def test_a_change_waits_for_a_token_whatever_the_interval() -> None:
    rows = decisions_after_links_are_lost(10, "decisions.interval=8")
    tried = [row.step for row in rows if row.event == "tried"]
    assert tried[0] == 16, "at the first decision since then"
    decided = [row.step for row in rows if row.event == "decided" and row.step > tried[0]]
    assert decided[: len(tried)] == [step + 1 for step in tried]


def test_who_knows_the_links_tries_none() -> None:
    rows = decisions_after_links_are_lost(10, "knowledge=oracle")
    assert any(row.moves for row in rows)
    assert [row for row in rows if row.event == "tried"] == []


def test_no_change_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkTrials, "to_try", lambda *_: ([], True))
    changed = [row.step for row in decisions_after_links_are_lost(3) if row.moves]
    assert changed
    assert 3 + MOST_WAITS <= changed[0] <= 6 + MOST_WAITS, "the change is wanted at once"
