"""Text that is no YAML, or nested deeper than is read here, is answered with its place by every parser version."""

import pytest
import yaml

from edgeemu.errors import RequestError
from edgeemu.scenario import document
from edgeemu.scenario.document import read
from edgeemu.scenario.load import parse_scenario


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
