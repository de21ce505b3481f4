"""Advice is what simulations of the same scenarios say: speed, energy, what reaches a target, and what bounds it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from support.two_boards import TWO_BOARDS

from edgeemu.errors import RequestError
from edgeemu.report.advice import ChangeKind, Figures, Target
from edgeemu.report.advice_tables import SpeedAdvice, advice_document, advice_lines, advice_tables, command_line
from edgeemu.report.basis import HeldAgainst
from edgeemu.run.advise.advise import advise, fewer_steps
from edgeemu.run.advise.simulated_figures import covered_s, simulated_figures
from edgeemu.run.make_plan import make_plan
from edgeemu.run.simulate_plan import FEWEST_TOKENS
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario

Phases = list[tuple[str, int, int]]


@cache
def advice(target: str, *settings: str, ttft: str | None = None) -> tuple[SpeedAdvice, Phases]:
    phases: Phases = []

    def read(more: Sequence[str]) -> Scenario:
        return parse_scenario(TWO_BOARDS, overrides=(*settings, *more))

    return advise(read, Target.read(target, ttft), lambda *phase: phases.append(phase)), phases


def figures(*settings: str, lengths: Sequence[int] = (6,)) -> Figures:
    return simulated_figures(make_plan(parse_scenario(TWO_BOARDS, overrides=settings)), lengths)


def words(judged: SpeedAdvice) -> str:
    return "\n".join(advice_lines(judged))


def test_the_least_change_reaches_the_target_as_its_settings_say() -> None:
    now = figures()
    judged, phases = advice(f"{1.2 * now.tokens_per_s} tokens/s")
    assert judged.options[0].figures == now
    least = judged.reached[0]
    assert figures(*least.settings) == least.figures
    assert least.figures is not None
    assert least.figures.tokens_per_s >= 1.2 * now.tokens_per_s
    smaller = [each for each in judged.options if each.cost < least.cost and each.figures]
    assert smaller
    assert all(each.figures.tokens_per_s < 1.2 * now.tokens_per_s for each in smaller if each.figures)
    assert {name for name, *_ in phases} == {"one change"}
    assert phases[0] == ("one change", 0, len(judged.options))
    assert phases[-1] == ("one change", len(judged.options), len(judged.options))
    assert judged.lost is None
    assert f"the least change is {least.words}" in words(judged)
    refused = next(each for each in judged.options if each.words == "1 more pi")
    assert refused.problem == "distributed-llama runs on 1, 2, 4, 8 … nodes, and this cluster has 3 devices"
    assert f"cannot be: 1 more pi: {refused.problem}" in words(judged)


def test_nothing_has_to_change_where_the_target_is_reached() -> None:
    judged, _ = advice("1 s", ttft="9 s")
    assert judged.reached[0].changes == ()
    assert "nothing has to change" in words(judged)
    assert command_line(judged, ["edgeemu", "plan", "x y"]) == "edgeemu plan 'x y'"
    assert advice_document(judged)["advised"]["change"] == "nothing changed"


def test_two_changes_are_tried_where_none_alone_reaches_it_and_what_bounds_the_nearest_is_said() -> None:
    judged, phases = advice("1 us")
    assert judged.reached == []
    two = [each for each in judged.options if len(each.changes) == 2]
    assert two
    assert all(len({change.kind for change in each.changes}) == 2 for each in two)
    assert ("two changes", len(two), len(two)) in phases
    nearest = judged.shown
    assert nearest is not None
    assert nearest.figures is not None
    assert nearest.figures.token_s == min(each.figures.token_s for each in judged.options if each.figures)
    assert judged.lost is not None
    assert judged.lost.total_ms == pytest.approx(1000 * nearest.figures.token_s, rel=0.01)
    assert judged.possible_ms is not None
    assert judged.possible_ms <= 1000 * nearest.figures.token_s
    said = words(judged)
    assert f"nothing of {len(judged.options)} simulations reaches it" in said
    assert f"the nearest is {nearest.words}" in said
    assert "what bounds it: of " in said
    document = advice_document(judged)
    assert document["reached"] is False
    assert document["nearest"]["change"] == nearest.words
    assert document["bounded_by"]["ms_per_token"] == judged.lost.total_ms


def test_a_model_that_does_not_fit_is_advised_what_makes_it_fit() -> None:
    settings = ("devices=[{name: pi, profile: raspberry-pi-5, memory: 3 MiB}]", "engine=ideal", "policy=layers")
    judged, _ = advice("1 s", *settings)
    assert judged.options[0].figures is None
    assert judged.options[0].problem.startswith("the chain has room for 0 of the 2 layers")
    assert judged.reached
    assert judged.reached[0].changes[0].kind in (ChangeKind.PRECISION, ChangeKind.BOARDS)
    assert "cannot be: nothing changed: " in words(judged)


def test_tables_have_what_reaches_it_and_the_front_and_every_figure_that_is_known() -> None:
    judged, _ = advice("1 s")
    reaching, front = advice_tables(judged)
    assert list(reaching.columns)[1:] == [">tokens/s", ">per token", ">first token", ">J/token", ">boards"]
    assert [row[0] for row in front.rows] == [each.words for each in judged.front.options]
    unknown, _ = advice("1 s", "devices[0].power.idle=1 W", "devices[0].profile=phone", "engine=ideal", "policy=layers")
    (columns, *_), *_ = advice_tables(unknown)
    assert ">J/token" not in columns
    assert ">boards" not in columns
    assert "price is not compared: that of pi is not known" in words(unknown)
    assert "energy is not compared" in words(unknown)


def test_a_target_that_is_reached_by_less_than_predictions_were_off_is_within_the_error() -> None:
    now = figures()
    held = HeldAgainst("Raspberry Pi 5", "V0", 0.05, 0.14, calibrated=True)
    for share, within in ((1.1, True), (1.5, False)):
        judged, _ = advice(f"{share * now.token_s} s")
        judged = judged._replace(basis=replace(judged.basis, held=held))
        assert advice_document(judged)["within_error"] is within
        assert ("within the error" in words(judged)) is within
        assert "off by 14 % at most" in words(judged)
    assert "how far such predictions are off is not known" in words(advice("1 s")[0])


def test_what_a_change_costs_beside_boards_is_said() -> None:
    now = figures()
    judged, _ = advice(f"{1.0001 * now.tokens_per_s} tokens/s")
    by_kind = {each.changes[0].kind: each for each in judged.reached if each.changes}
    links = judged._replace(reached=[by_kind[ChangeKind.LINK]])
    assert "a faster link needs a switch" in words(links)
    formats = judged._replace(reached=[by_kind[ChangeKind.PRECISION]])
    assert "whether distributed-llama can do that is not known here" in words(formats)
    assert "changes the answers" in words(formats)


def test_one_token_has_no_speed() -> None:
    with pytest.raises(RequestError, match="two at least"):
        advice("1 s", "workload.max_tokens=1")


def test_figures_of_shortened_sequences_are_near_those_of_whole_ones() -> None:
    settings = ("workload={prompts: [{tokens: 8, repeat: 4}], max_tokens: 60, concurrency: 2}",)
    whole, short = figures(*settings, lengths=(60,) * 4), figures(*settings, lengths=(20, 20, 0, 0))
    assert short.token_s == pytest.approx(whole.token_s, rel=0.05)
    assert short.tokens_per_s == pytest.approx(whole.tokens_per_s, rel=0.1)
    assert short.token_j == pytest.approx(whole.token_j, rel=0.05)


def test_sequences_are_shortened_before_they_are_left_out_and_as_many_stay_as_run_at_once() -> None:
    assert fewer_steps([60, 40], 100, 1) == [60, 40]
    assert fewer_steps([60, 40], 50, 1) == [30, 20]
    assert fewer_steps([60, 40, 40], 17, 1) == [FEWEST_TOKENS, FEWEST_TOKENS, 0]
    assert fewer_steps([60, 40, 40], 1, 2) == [FEWEST_TOKENS, FEWEST_TOKENS, 0]
    assert fewer_steps([3, 60], 11, 2) == [3, 10]


def test_time_is_covered_once() -> None:
    assert covered_s([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]) == 4.0
    assert covered_s([]) == 0.0
