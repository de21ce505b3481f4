"""Text that is no YAML, or nested deeper than is read here, is answered with its place by every parser version."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.builders import QUICK

from edgeemu.errors import RequestError
from edgeemu.scenario import document
from edgeemu.scenario.document import override, read
from edgeemu.scenario.load import parse_scenario

BOMB = "a: &a {value}\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)

PIECES = [
    *(
        "a",
        "b",
        ": ",
        ":\n ",
        "\n",
        "- ",
        "&x ",
        "*x",
        "<<: ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "? ",
        "| ",
        "'",
        '"',
        "\\",
        "#",
    ),
    *("1", "1e999", "9" * 200, ".nan", "0x", "null", "~", "!t ", "%YAML 1.1\n", "---", "...", "\t", "@", "\u00e9"),
]


@pytest.mark.parametrize(
    ("text", "settings", "place"),
    [
        ("seed: 1\npolicy: [greedy\nname: x\n", (), "quickstart.yaml:3: "),
        ("seed: 1\n", ("seed=[1",), "--set seed: "),
    ],
)
def test_what_the_parser_refuses_has_its_place_and_the_parsers_reason(text: str, settings: tuple[str, ...], place: str):
    with pytest.raises(RequestError) as caught:
        parse_scenario(text, "quickstart", settings)
    reason: BaseException | None = caught.value
    while not isinstance(reason, yaml.MarkedYAMLError):
        assert reason is not None
        reason = reason.__cause__
    assert reason.context
    assert reason.problem
    assert str(caught.value) == f"{place}not YAML: {reason.context}, {reason.problem}"


@pytest.mark.parametrize("loader", [document._SAFE_LOADER, yaml.BaseLoader], ids=lambda loader: loader.__name__)
@pytest.mark.parametrize(("opening", "field"), [("[", "[0][0][0]"), ("- ", "[0][0][0]"), ("{a: ", "a.a.a"), ("? ", "")])
def test_what_is_nested_too_deeply_is_told_in_our_words(
    monkeypatch: pytest.MonkeyPatch, loader: type, opening: str, field: str
):
    monkeypatch.setattr(document, "_SAFE_LOADER", loader)
    with pytest.raises(RequestError) as caught:
        read("\n" + opening * 20_000, "x.yaml")
    expected = f"x.yaml:2: {field}: nested too deeply" if field else "x.yaml:2: a key must be text"
    assert str(caught.value) == expected


def test_merge_keys_are_merged_and_own_keys_win() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  z: 5\n  <<: [*a, *b]\nd: {<<: *b, w: 6}\n"
    made = read(text, "x.yaml")
    assert made.data["c"] == {"z": 5, "x": 1, "y": 2}
    assert made.data["d"] == {"w": 6, "y": 3, "z": 4}
    assert str(made.error(("c", "x"), "wrong")) == "x.yaml:5: c.x: wrong"
    assert made.data["b"] == {"y": 3, "z": 4}


def test_a_setting_changes_one_of_two_merged_mappings() -> None:
    made = read("a: &a {x: {y: 1}}\nb: {<<: *a}\n", "x.yaml")
    override(made, "b.x.y=2", {})
    assert made.data == {"a": {"x": {"y": 1}}, "b": {"x": {"y": 2}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB.format(value=f"[{'x, ' * 10}]"), "x.yaml:3: c[7]: more than 1,000 values, aliases written out"),
        ("a: [" + "1," * 1001 + "]", "x.yaml:1: a[998]: more than 1,000 values, aliases written out"),
    ],
)  # fmt: skip
def test_what_aliases_make_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(document, "_MAX_VALUES", 1000)
    with pytest.raises(RequestError) as caught:
        read(text, "x.yaml")
    assert str(caught.value) == message


def test_a_scenario_that_is_too_long_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_MAX_CHARACTERS", 1000)
    with pytest.raises(RequestError) as caught:
        read("a: [" + "1," * 1001 + "]", "x.yaml")
    assert str(caught.value) == (
        "x.yaml: has 2,007 characters; at most 1,000 are read of a scenario. "
        "Put prompts, arrivals and traces into files of their own"
    )


def test_a_long_text_that_is_no_yaml_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reading is in Python, and would take seconds."""
    monkeypatch.setattr(document.yaml, "BaseLoader", None)
    with pytest.raises(RequestError, match=r"x.yaml:2: not YAML: while parsing a flow node"):
        read("a: [" + "1," * 100_000, "x.yaml")


def test_numbers_of_one_line_need_no_place_of_their_own() -> None:
    made = read("a:\n  - [1, 2,\n   3]\n", "x.yaml")
    assert [made.error(("a", 0, n), "").line for n in range(3)] == [2, 2, 3]
    assert len(made.lines) < 6


def test_what_aliases_nest_too_deeply_is_refused() -> None:
    text = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))])
    with pytest.raises(RequestError, match=r"x.yaml:50: a49\[0\]: nested too deeply"):
        read(text, "x.yaml")


@QUICK
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RequestError):
        read(text, "x.yaml")
