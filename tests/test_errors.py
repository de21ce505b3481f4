"""Messages and exit statuses."""

from pathlib import PurePath

import pytest

from edgeemu.errors import (
    EdgeemuError,
    InfeasibleError,
    RequestError,
    RunError,
    did_you_mean,
    did_you_mean_path,
    nearest,
)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"file": "q.yaml", "line": 14, "field": "devices[2].memory"}, "q.yaml:14: devices[2].memory: bad"),
        ({"file": "q.yaml"}, "q.yaml: bad"),
        ({"line": 3}, "line 3: bad"),
        ({"field": "--set seed"}, "--set seed: bad"),
        ({}, "bad"),
    ],
)
def test_a_request_error_says_where(where, text):
    assert str(RequestError("bad", **where)) == text


def test_each_kind_of_error_has_its_exit_status():
    statuses = {error: error.exit_status for error in (RequestError, InfeasibleError, RunError)}
    assert statuses == {RequestError: 2, InfeasibleError: 3, RunError: 4}
    assert all(issubclass(error, EdgeemuError) for error in statuses)


@pytest.mark.parametrize(
    ("word", "found"),
    [("lapotp", "laptop"), ("LAPTOP", "laptop"), ("lap", "laptop"), ("nn", None), ("", None), ("x" * 1000, None)],
)
def test_the_nearest_name(word, found):
    assert nearest(word, ["laptop", "phone"]) == found
    assert did_you_mean(word, ["laptop", "phone"]) == (f' (did you mean "{found}"?)' if found else "")


def test_nothing_is_near_where_there_are_no_names():
    assert did_you_mean("laptop", []) == ""


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("far/away/modle.gguf", ' (did you mean "far/away/model.gguf"?)'),
        ("far/away/model", ' (did you mean "far/away/model.gguf"?)'),
        ("far/away/weights.gguf", ""),  # neither the directory nor the suffix makes it like model.gguf
        ("far/away/model.gguf", ""),  # itself is no suggestion
    ],
)
def test_the_nearest_file_is_found_by_its_name_alone(path, hint):
    assert did_you_mean_path(PurePath(path), [PurePath("far/away/model.gguf")]) == hint
