"""Targets are read, the least option that reaches one comes first, and the front holds what none beats and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemu.errors import RequestError
from edgeemu.report.advice import (
    ChangeKind,
    Figures,
    Option,
    ScenarioChange,
    Target,
    beats,
    nearest,
    pareto_front,
    that_reach,
    unbeaten,
)

GOODS = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=30)


def option(
    words: str,
    token_s: float | None,
    *,
    kind: ChangeKind = ChangeKind.BOARDS,
    things: int = 1,
    added: float | None = 0.0,
    joules: float | None = 1.0,
    price: float | None = 100.0,
) -> Option:
    change = ScenarioChange(kind, words, things, (f"{words}=1",), added)
    figures = None if token_s is None else Figures(token_s, 1 / token_s, 1.0, joules, price)
    return Option((change,) if words else (), figures, "" if figures else "no room")


@given(GOODS)
def test_the_front_holds_all_that_none_beats_and_nothing_else(goods: list[tuple[float, ...]]) -> None:
    front = unbeaten(goods)
    for n, mine in enumerate(goods):
        assert (n in front) == (not any(beats(other, mine) for other in goods))
    for n in set(range(len(goods))) - set(front):
        assert any(beats(goods[m], goods[n]) for m in front), "what is off the front is beaten by something on it"


@given(GOODS)
def test_the_front_of_options_is_that_of_their_figures(goods: list[tuple[float, ...]]) -> None:
    options = [
        option(str(n), 1 / (1 + speed), joules=1 + joules, price=1 + price)
        for n, (speed, joules, price) in enumerate(goods)
    ]
    front = pareto_front(options)
    found = {goods[options.index(each)] for each in front.options}
    assert found == {goods[n] for n in unbeaten([(speed, -joules, -price) for speed, joules, price in goods])}
    assert len(front.options) == len(found), "each set of figures is there once"
    assert front.left_out == []


def test_the_least_has_fewest_kinds_then_fewest_things_then_the_lowest_price_then_the_least_time() -> None:
    pair = Option(
        (*option("a", 0.1).changes, *option("b", 0.1, kind=ChangeKind.LINK).changes), Figures(0.1, 10, 1, 1, 1)
    )
    options = [
        pair,
        option("four", 0.1, things=4, added=10.0),
        option("unknown", 0.1, added=None),
        option("dear", 0.01, added=80.0),
        option("slow", 0.2, added=20.0),
        option("cheap", 0.1, added=20.0),
        option("refused", None),
        option("short", 0.3),
    ]
    reached = that_reach(options, Target.read("200 ms"))
    assert [each.words for each in reached] == ["cheap", "slow", "dear", "unknown", "four", "a + b"]


def test_the_nearest_is_the_fastest_of_those_without_a_refusal() -> None:
    options = [option("", 0.5), option("refused", None), option("much", 0.3, things=3), option("less", 0.3)]
    assert [each.words for each in nearest(options, Target.read("9 tokens/s"))] == ["less", "much", "nothing changed"]


def test_a_faster_link_and_a_smaller_format_beat_nothing_that_does_without() -> None:
    options = [
        option("", 0.5),
        option("link", 0.4, kind=ChangeKind.LINK, added=None),
        option("cache", 0.3, kind=ChangeKind.PRECISION),
        option("policy", 0.5, kind=ChangeKind.POLICY, joules=0.9),
        option("board", 0.4, price=200.0),
    ]
    front = pareto_front(options)
    assert [each.words for each in front.options] == ["cache", "link", "board", "policy"], (
        "only that as it is is beaten"
    )


def test_what_is_not_known_is_not_compared() -> None:
    options = [option("", 0.5), option("unpriced", 0.1, price=None), option("unmeasured", 0.1, joules=None)]
    front = pareto_front(options)
    assert [each.words for each in front.options] == ["nothing changed"]
    assert [each.words for each in front.left_out] == ["unpriced", "unmeasured"]
    alone = pareto_front([option("", 0.5, joules=None, price=None), *options[1:]])
    assert (alone.energy, alone.price, alone.left_out) == (False, False, [])


@pytest.mark.parametrize(
    ("text", "rate", "token_s"),
    [
        ("5 tokens/s", 5.0, None),
        ("0.5tok/s", 0.5, None),
        ("1 token/s", 1.0, None),
        (".5 t/s", 0.5, None),
        ("200 ms", None, 0.2),
        ("0.2s", None, 0.2),
    ],
)
def test_a_target_is_a_rate_or_a_time(text: str, rate: float | None, token_s: float | None) -> None:
    assert Target.read(text) == (rate, token_s, None)


@pytest.mark.parametrize(
    ("text", "ttft", "message"),
    [
        ("fast", None, '--target: "fast" is not a duration (write e.g. "25 ms"); a speed is e.g. 5 tokens/s'),
        ("5", None, '--target: "5" is not a duration (no unit; write e.g. "25 ms"); a speed is e.g. 5 tokens/s'),
        ("0 tokens/s", None, '--target: "0 tokens/s" is no speed; write more than 0 tokens/s'),
        ("5 tokens/s", "soon", '--ttft: "soon" is not a duration (write e.g. "25 ms")'),
    ],
)
def test_what_is_no_target_is_said(text: str, ttft: str | None, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        Target.read(text, ttft)
    assert str(refused.value) == message


def test_the_margin_is_that_of_what_is_reached_least() -> None:
    figures = Figures(token_s=0.1, tokens_per_s=20.0, ttft_s=2.0, token_j=None, price_usd=None)
    assert Target.read("10 tokens/s").margin(figures) == pytest.approx(1.0)
    assert Target.read("0.11 s").margin(figures) == pytest.approx(0.1)
    assert Target.read("0.11 s", "1 s").margin(figures) == pytest.approx(-0.5)
    assert str(Target.read("0.11 s", "1 s")) == "110 ms per token, first token within 1 s"
    assert Target.read("20 tokens/s").is_met(Option((), figures))
