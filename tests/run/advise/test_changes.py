"""Changes of a scenario: what they are, that each can be read, and which of them are combined."""

import pytest
from support.two_boards import TWO_BOARDS

from edgeemu.report.advice import ChangeKind, Figures, Option, ScenarioChange
from edgeemu.run.advise.changes import MAX_PAIRS, pairs, single_changes
from edgeemu.run.advise.replacements import faster_boards
from edgeemu.scenario.load import parse_scenario
from edgeemu.scenario.scenario import Scenario


def scenario(*settings: str) -> Scenario:
    return parse_scenario(TWO_BOARDS, overrides=("devices[0].count=4", *settings))


def by_words(of: Scenario) -> dict[str, ScenarioChange]:
    return {change.words: change for change in single_changes(of)}


def test_changes_of_boards_links_formats_and_policies_are_settings() -> None:
    found = by_words(scenario())
    assert found["2 more pi"] == (ChangeKind.BOARDS, "2 more pi", 2, ("devices[0].count=6",), 160.0)
    assert found["1 fewer pi"] == (ChangeKind.BOARDS, "1 fewer pi", 1, ("devices[0].count=3",), -80.0)
    assert found["cache q8_0"] == (ChangeKind.PRECISION, "cache q8_0", 2, ("precision.cache=q8_0",), 0.0)
    assert found["messages q4_0"].things == 1
    assert not any(words.startswith("weights") for words in found), "there is no smaller format than q4_0"
    assert found["policy layers"].settings == ("policy=layers",)
    assert "policy distributed-llama" not in found
    with_adapters = ("network.default=ethernet-2.5g", "devices[0].nic=2.5 Gbit/s")
    assert found["links ethernet-2.5g"] == (ChangeKind.LINK, "links ethernet-2.5g", 1, with_adapters, None)
    assert not any("thunderbolt" in words or "wifi" in words for words in found)
    whole = found["4 gmktec-g3-plus for 4 pi"]
    assert whole.settings == ("devices[0].profile=gmktec-g3-plus",)
    assert (whole.things, whole.added_usd) == (4, pytest.approx(4 * 79.99))
    one = scenario(*found["1 gmktec-g3-plus for 1 pi"].settings)
    assert one.device_names == ("pi-1", "pi-2", "pi-3", "gmktec-g3-plus")
    assert one.devices[1].profile == "gmktec-g3-plus"


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("devices[0].count=1",),
        ("devices[0].count=1", "devices[0].memory=4 GiB", "devices[0].load=10 %"),
        ("engine=ideal", "network.default=wifi-4", "precision={weights: bf16, cache: q4_1}"),
        ("network.default={bandwidth: 20 Mbit/s, delay: 3 ms}", "source=pi-2"),
        ("devices=[{name: a, profile: raspberry-pi-4}, {name: b, profile: raspberry-pi-5, count: 2}]", "source=b-1"),
    ],
)
def test_every_change_is_read(settings: tuple[str, ...]) -> None:
    found = single_changes(scenario(*settings))
    assert found
    assert len({change.words for change in found}) == len(found)
    before = scenario(*settings)
    for change in found:
        assert scenario(*settings, *change.settings) != before, change


def test_a_device_that_is_alone_of_its_kind_can_go_and_can_be_the_source() -> None:
    two = ("devices=[{name: a, profile: raspberry-pi-4, memory: 1 GiB}, {name: b, profile: phone}]", "source=a")
    found = by_words(scenario("engine=ideal", *two))
    assert scenario("engine=ideal", *two, *found["without b"].settings).device_names == ("a",)
    more = scenario("engine=ideal", *two, *found["1 more a"].settings)
    assert (more.device_names, more.source) == (("a-1", "a-2", "b"), "a-1")
    other = scenario("engine=ideal", *two, *found["1 radxa-rock-5c for 1 a"].settings)
    assert (other.devices[0].memory, other.devices[0].profile) == (None, "radxa-rock-5c"), "memory is the new board's"


def test_devices_by_hand_and_those_with_links_of_their_own_are_not_replaced_one_by_one() -> None:
    own = scenario("devices[0].gflops=9 GFLOPS")
    assert not any(" for " in words for words in by_words(own))
    linked = by_words(scenario("network.links=[{between: [pi-1, pi-2], delay: 9 ms}]"))
    assert "4 gmktec-g3-plus for 4 pi" in linked
    assert "1 gmktec-g3-plus for 1 pi" not in linked


def test_boards_are_faster_and_none_of_a_known_price_beats_another() -> None:
    spec = scenario().devices[0]
    boards = faster_boards(spec, "distributed-llama")
    rates = [board.bandwidth(ideal=False).value for board in boards]
    assert rates == sorted(rates)
    assert min(rates) > 9.82e9
    assert all(board.decode_bandwidth and board.memory for board in boards)
    priced = [(b.price_usd.value, -b.bandwidth(ideal=False).value, -b.gflops.value) for b in boards if b.price_usd]
    for mine in priced:
        assert not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in priced)
    assert "raspberry-pi-500-plus" not in [board.name for board in boards], "gmktec-g3-plus is faster, and cheaper"


def test_steps_up_are_combined_and_boards_that_a_policy_refused_with_another() -> None:
    def option(words: str, kind: ChangeKind, token_s: float | None, things: int = 1) -> Option:
        figures = None if token_s is None else Figures(token_s, 1 / token_s, 1.0, None, None)
        return Option((ScenarioChange(kind, words, things, (words,)),), figures)

    singles = [
        Option((), Figures(1.0, 1.0, 1.0, None, None)),
        option("refused", ChangeKind.BOARDS, None),
        option("slower", ChangeKind.BOARDS, 1.2),
        *(option(f"{n} more", ChangeKind.BOARDS, 1 - n / 10, n) for n in range(1, 6)),
        option("no step", ChangeKind.BOARDS, 0.55, 9),
        option("link", ChangeKind.LINK, 0.9),
        option("same", ChangeKind.PRECISION, 0.999),
        option("policy", ChangeKind.POLICY, 1.0),
    ]
    found = {" + ".join(change.words for change in pair) for pair in pairs(singles)}
    assert found == {"1 more + link", "3 more + link", "5 more + link", "refused + policy"}
    many = [option(f"{kind} {n}", kind, 1 - n / 10, n) for kind in ChangeKind for n in range(1, 4)]
    chosen = pairs([singles[0], *many])
    assert len(chosen) == MAX_PAIRS
    assert all(a.kind is not b.kind for a, b in chosen)
    assert [a.things + b.things for a, b in chosen] == sorted(a.things + b.things for a, b in chosen)
