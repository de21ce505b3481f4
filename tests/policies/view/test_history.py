"""How long states last is learned from turns, and acting on it loses little, whatever the states do."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import LLAMA, view, with_workload

from edgeemu.cluster.devices import Compute
from edgeemu.policies.search.change_rule import LUCK, MARGIN, WAYS, prospects
from edgeemu.policies.view.history import KEPT, DecisionTime, History
from edgeemu.policies.view.levels import TURN
from edgeemu.policies.view.link_factors import LinkFactors
from edgeemu.policies.view.outlook import Forecasts, Outlook

LOSS_S, MOVE_S = 1.0, 4.0  # of a step in the wrong place, and of a move


def outlook(history: History, token: int, slowdown: float, links: dict[tuple[int, int], float]) -> Outlook:
    factors = LinkFactors.of({pair: (1.0, slow) for pair, slow in links.items()})
    return history.outlook(at(token), np.array([slowdown]), factors, factors.per_bit)


def at(token: int) -> DecisionTime:
    """Before a token, of which each takes a second."""
    return DecisionTime(token, float(token), 1.0)


class Forecast(NamedTuple):
    lasts_tokens: float
    mean: float
    whole_tokens: float
    parts: tuple[float, ...] = ()


def of_devices(found: Outlook) -> dict[int, Forecast]:
    lasts, means, wholes, _ = (each.tolist() for each in found.of_devices)
    return dict(zip(found.devices.tolist(), map(Forecast, lasts, means, wholes), strict=True))


def of_links(found: Outlook) -> dict[tuple[int, int], Forecast]:
    pairs = zip(found.sources.tolist(), found.targets.tolist(), strict=True)
    lasts, means, wholes, parts = (each.tolist() for each in found.of_links)
    return dict(zip(pairs, map(Forecast, lasts, means, wholes, zip(*parts, strict=True)), strict=True))


def outlook_after(values: list[float]) -> dict[int, Forecast]:
    history = History()
    for token, value in enumerate(values):
        found = outlook(history, token, value, {})
    return of_devices(found)


def test_a_first_change_is_expected_to_stay() -> None:
    assert outlook_after([1.0] * 20 + [3.0]) == {}
    assert outlook_after([1.0 + 0.05 * t for t in range(60)]) == {}, "a slow change in one direction"
    assert outlook_after([1.0, 1.1] * 20) == {}, "within the threshold"


def test_what_has_turned_is_expected_to_turn_after_as_long() -> None:
    wave = [1.0] * 20 + ([3.0] * 5 + [1.0] * 5) * 4
    assert outlook_after([*wave, 3.0])[0].lasts_tokens == 5
    assert outlook_after([*wave, 3.0, 3.0])[0].lasts_tokens == 4
    assert outlook_after([*wave, *[3.0] * 12])[0].lasts_tokens == 11, "what has outlasted that, as long again"
    assert abs(outlook_after([*wave, 3.0])[0].mean * 3.0 - 2.0) < 0.2


def test_links_begin_as_the_scenario_has_them() -> None:
    history = History()
    outlook(history, 0, 1.0, {(0, 1): 50.0})
    assert of_links(outlook(history, 9, 1.0, {(2, 0): 1.0, (0, 1): 1.0}))[0, 1].lasts_tokens == 9


def test_a_link_that_loses_its_rate_is_not_expected_to_delay_small_messages() -> None:
    history = History()
    for token, value in enumerate([1.0] * 9 + [50.0] * 5 + [1.0] * 5 + [50.0] * 5 + [1.0] * 3):
        found = outlook(history, token, 1.0, {(0, 1): value})
    delay, per_bit = found.link_factors(64)[0, 1]
    assert delay == 1.0
    assert 20 < per_bit < 40


def of_many(values: list[list[float]], step_s: float = 1.0) -> Outlook:
    """Outlook after values of some devices, one row for each token, of which each takes a second."""
    history, none = History(), LinkFactors.of({})
    for token, row in enumerate(values):
        found = history.outlook(DecisionTime(token, float(token), step_s), np.array(row), none, none.per_bit)
    return found


def test_a_third_of_the_devices_and_three_make_a_cluster_unsteady() -> None:
    before = [[1.0] * 9] * 20
    assert not of_many([*before, [3.0] * 2 + [1.0] * 7]).unsteady
    found = of_many([*before, [3.0] * 3 + [1.0] * 6])
    assert found.unsteady
    assert found.devices.tolist() == list(range(9)), "all are expected to change"
    assert not of_many([[1.0] * 10] * 20 + [[3.0] * 3 + [1.0] * 7]).unsteady, "less than a third"
    assert not of_many([[1.0] * 2] * 20 + [[3.0] * 2]).unsteady, "two"


def test_devices_that_are_not_as_the_scenario_has_them_at_first_have_changed_too() -> None:
    assert of_many([[3.0] * 3 + [1.0] * 6]).unsteady
    assert not of_many([[3.0] * 2 + [1.0] * 7]).unsteady


def test_states_of_an_unsteady_cluster_last_as_long_as_those_of_all_devices() -> None:
    values = [[(1.0, 4.0)[(token // 5 + device) % 2] for device in range(6)] for token in range(61)]
    lasts = of_many(values).of_devices.lasts_tokens
    assert (lasts == lasts[0]).all(), "however long the present state of one has lasted"
    assert 4.0 < lasts[0] <= 5.0
    changed = [[*row[:5], 1.0] for row in values]
    stays = of_many([*changed, *[[1.0] * 6] * 120]).of_devices.lasts_tokens
    assert stays[5] > 100, "what lasts much longer than ever has changed its ways"


def test_the_mean_of_a_device_counts_with_that_of_all_while_little_is_known() -> None:
    def mean_of_first(tokens: int) -> float:
        """Expected slowdown of a device that was always slow, beside others that are slow every other token."""
        values = [[4.0] + [(4.0, 1.0)[(token + n) % 2] for n in range(5)] for token in range(tokens)]
        return float(of_many(values).of_devices.mean[0]) * 4.0

    assert 1.6 < mean_of_first(8) < 2.5
    assert mean_of_first(400) > 3.8


def test_states_are_as_many_tokens_as_come_in_their_time() -> None:
    wave = [1.0] * 20 + ([3.0] * 5 + [1.0] * 5) * 4 + [3.0]

    def lasts_tokens(step_s: float) -> float:
        history, none = History(), LinkFactors.of({})
        for token, value in enumerate(wave):
            found = history.outlook(DecisionTime(token, float(token), step_s), np.array([value]), none, none.per_bit)
        return of_devices(found)[0].lasts_tokens

    assert lasts_tokens(1.0) == 5
    assert lasts_tokens(2.5) == 2, "tokens take longer than they did"


def test_the_time_of_a_token_is_that_of_steps_without_migrations() -> None:
    first = DecisionTime(0, 0.0, 0.0).later(1, 0.5, paused=False)
    assert first == DecisionTime(1, 0.5, 0.5)
    assert first.later(4, 0.9, paused=False).step_s == pytest.approx(0.1)
    assert first.later(1, 9.0, paused=True) == DecisionTime(2, 9.0, 0.5)
    assert first.later(0, 0.5, paused=False) == first, "asked twice at an instant"
    assert first.later(0, 9.0, paused=False).later(1, 9.4, paused=False).step_s == pytest.approx(0.4)


def regret(lengths: list[int]) -> tuple[float, float]:
    """Times lost by the rule, and by the best of {stay, move} for each state, of two places that take turns."""
    history, at, token, lost_s, best_s = History(), 0, 0, 0.0, 0.0
    for number, length in enumerate(lengths):
        good = number % 2
        for _ in range(length):
            devices = of_devices(outlook(history, token, (1.0, 3.0)[good], {}))
            lasts, ways = (devices[0].lasts_tokens, WAYS) if devices else (64.0, 1)
            if at != good and lasts * LOSS_S > ways * MOVE_S:
                at, lost_s = good, lost_s + MOVE_S
            lost_s += LOSS_S * (at != good)
            token += 1
        best_s += min(length * LOSS_S, WAYS * MOVE_S)
    return lost_s, best_s


@given(st.lists(st.integers(1, 40), min_size=2, max_size=60))
def test_regret_is_bounded_whatever_the_states_do(lengths: list[int]) -> None:
    lost_s, best_s = regret(lengths)
    assert lost_s <= 2 * best_s + 2 * WAYS * MOVE_S


def test_a_quick_wave_causes_no_flapping() -> None:
    lost_s, best_s = regret([20] + [2] * 80)
    assert lost_s <= best_s + 2 * WAYS * MOVE_S


def test_that_a_state_lasts_is_known_only_while_it_is_seen() -> None:
    history, link = History(), (0, 1)
    for token, value in enumerate([3.0] * 5 + [1.0] * 5 + [3.0] * 6):
        outlook(history, token, 1.0, {link: value})
    lasts = [of_links(outlook(history, token, 1.0, {}))[link].lasts_tokens for token in range(16, 26)]
    assert lasts == [4, 3, 2, 1, 1, 1, 1, 1, 1, 1], "twice as long as it was seen to last, and not for ever"


@pytest.mark.parametrize(("tokens", "expected"), [(5, [5, 64]), (32, [32, 64]), (33, [33]), (50, [50]), (64, [64])])
def test_a_change_that_is_far_away_is_not_acted_upon_early(tokens: int, expected: list[int]) -> None:
    seen = with_workload(view(LLAMA, [2**40] * 2, [Compute(1e9, 1e9, 1e-5)] * 2, 8, 200), length=12)
    one = np.array([float(tokens)])
    known = Outlook(np.array([0]), Forecasts(one, np.array([3.0]), one))
    found = list(prospects(replace(seen, outlook=known)))
    assert [prospect.steps for prospect in found] == expected
    assert [prospect.early for prospect in found] == [False, True][: len(expected)]
    assert found[0].ahead.flops_per_s[0] == seen.flops_per_s[0]


@pytest.mark.parametrize(
    ("lasts", "expected"),
    [((5.0, 9.0), [(9, 9 / LUCK), (64, 64 / LUCK)]), ((40.0,), [(40, 40 / LUCK)]), ((9999.0,), [(64, 64 / MARGIN)])],
)
def test_in_an_unsteady_cluster_a_move_must_gain_much(
    lasts: tuple[float, ...], expected: list[tuple[int, float]]
) -> None:
    seen = with_workload(view(LLAMA, [2**40] * 2, [Compute(1e9, 1e9, 1e-5)] * 2, 8, 200), length=12)
    tokens = np.array(lasts)
    known = Outlook(np.arange(len(lasts)), Forecasts(tokens, np.full(len(lasts), 3.0), tokens), unsteady=True)
    found = list(prospects(replace(seen, outlook=known)))
    assert [(prospect.steps, prospect.tokens) for prospect in found] == expected


@dataclass(slots=True)
class Course:
    """Course of one time, from turn to turn: what `view.history` computes for many."""

    seen_at: int  # the token of the last observation
    value: float  # since then
    extreme: float  # in the present direction; at first, the value that it started from
    rising: bool | None = None  # None: it has never changed
    turned_at: int = 0
    lasted: tuple[int, ...] = ()  # tokens between turns, the newest last
    tokens: int = 0  # since it first changed
    total: float = 0.0  # of the values of those tokens
    parts: tuple[float, ...] = ()  # that the value is made of, and their totals
    part_totals: tuple[float, ...] = ()

    def add(self, token: int, value: float, parts: tuple[float, ...] = ()) -> None:
        """Add an observation before a token; tokens do not go down."""
        if self.rising is not None:
            since = token - self.seen_at
            self.tokens += since
            self.total += self.value * since
            if parts:
                totals = zip(self.part_totals or (0.0,) * len(parts), self.parts, strict=True)
                self.part_totals = tuple(total + part * since for total, part in totals)
        up, down = value > TURN * self.extreme, TURN * value < self.extreme
        if (up and self.rising is not True) or (down and self.rising is not False):
            if self.rising is not None:
                self.lasted = (*self.lasted, token - self.turned_at)[-KEPT:]
            self.rising, self.extreme, self.turned_at = up, value, token
        elif self.rising is not None:
            self.extreme = max(self.extreme, value) if self.rising else min(self.extreme, value)
        self.seen_at, self.value, self.parts = token, value, parts

    def forecast(self, token: int) -> Forecast | None:
        """How long the present state lasts from a token on; None: for ever, as far as is known.

        That it lasts is known up to the last observation.
        """
        if not self.lasted or not self.tokens:
            return None
        age, expected = self.seen_at - self.turned_at, min(self.lasted)
        whole = expected if age < expected else 2 * age
        mean, lasts = self.total / self.tokens / self.value, float(max(1, self.turned_at + whole - token))
        if not self.parts:
            return Forecast(lasts, mean, float(whole))
        parts = tuple(total / self.tokens / part for total, part in zip(self.part_totals, self.parts, strict=True))
        return Forecast(lasts, mean, float(whole), parts)


@given(st.lists(st.lists(st.sampled_from([1.0, 1.2, 2.0, 3.0, 50.0]), min_size=3, max_size=3), max_size=40), st.data())
def test_many_courses_are_those_of_each(values: list[list[float]], data: st.DataObject) -> None:
    history, pairs = History(), [(2, 0), (0, 1), (1, 2)]
    alone: dict[tuple[int, int], Course] = {}
    for token, row in enumerate(values):
        seen = [number for number in range(3) if data.draw(st.booleans())]
        delays = [1.0 + number for number in seen]
        slow = np.array([row[number] for number in seen])
        ends = np.array([pairs[number] for number in seen], np.int64).reshape(-1, 2)
        found = history.outlook(at(token), np.ones(1), LinkFactors(*ends.T, np.array(delays), slow), slow)
        for number, delay in zip(seen, delays, strict=True):
            value, pair = row[number], pairs[number]
            if pair in alone or value > TURN or TURN * value < 1.0:
                alone.setdefault(pair, Course(token, 1.0, 1.0)).add(token, value, (delay, value))
        known = {pair: forecast for pair, course in alone.items() if (forecast := course.forecast(token)) is not None}
        assert of_links(found) == known
