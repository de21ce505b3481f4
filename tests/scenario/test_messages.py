"""Whatever stands in a scenario's field, the answer is a sentence: nothing of the library or the code behind it."""

import math
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from support.scenario_text import TEXT, error_of

from edgeemu.errors import RequestError
from edgeemu.scenario.document import Document
from edgeemu.scenario.scenario import Scenario
from edgeemu.scenario.validation import Strict, validate

INTERNALS = re.compile(
    r"Input|_form|lambda|discriminat|union|pydantic|<\w|valid (string|integer|list|number|tuple)|instance of|[Tt]ag\b|"
    r"validator|__|dict_type|expected|extracted|Value error|\bNone\b|\bTrue\b|\bFalse\b|\bstr\b|\bint\b|\bfloat\b"
)
WRONG: list[Any] = [
    *(
        "unlimited",
        "wrong words",
        "",
        "repeat",
        "auto",
        "closed",
        "measured",
        "100 MB/s",
        "5 parsecs",
        "\x00",
        "1" * 200,
    ),
    *(5, -1, 0, 0.5, 1e300, math.inf, math.nan, 10**30, True, None),
    *([], [5], ["x"], [[1, 2]], [["0 s", "x"]], [{}], [None], [[]], [True]),
    *({}, {"a": 1}, {"uniform": 3}, {"trace": "nothing.csv"}, {"trace": [[1]]}, {"packets": 5}, {"walk": []}),
]


def models(model: type[BaseModel], found: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """Every model that can stand in a scenario."""
    if model not in found:
        found.add(model)
        for field in model.model_fields.values():
            for inner in inside(field.annotation):
                models(inner, found)
    return found


def inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from inside(argument)


MODELS = sorted(models(Scenario, set()), key=lambda model: model.__name__)


def answers(model: type[Strict], data: Any) -> Iterator[str]:
    try:
        validate(model, Document(data, "s.yaml", {(): 1}), {"base": "."})
    except RequestError as error:
        yield from str(error).splitlines()


def test_every_model_is_tried() -> None:
    assert len(MODELS) > 30


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_no_answer_shows_the_code_behind_it(model: type[Strict]) -> None:
    for value in WRONG:
        for answer in answers(model, value):
            assert not INTERNALS.search(answer), (value, answer)
        for name, field in model.model_fields.items():
            for answer in answers(model, {field.alias or name: value}):
                assert not INTERNALS.search(answer), (name, value, answer)


def test_unlimited_is_for_interfaces() -> None:
    wrong = TEXT.replace("{bandwidth: 100 Mbit/s", "{bandwidth: unlimited")
    message = ':9: network.default.bandwidth: "unlimited" is not a bit rate (write e.g. "100 Mbit/s")'
    assert error_of(wrong) == "quickstart.yaml" + message
