"""Options that commands share: a scenario is loaded with the day that its chat templates may write."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from support.commands import Edgeemu

from edgeemu.cli.options import load
from edgeemu.cluster.draw.resolve import resolve
from edgeemu.scenario.load import to_yaml

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"


def test_a_scenario_without_a_date_gets_the_day_of_the_command_and_keeps_it() -> None:
    date = load(QUICKSTART, None).workload.date
    assert date is not None
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", date)
    given = load(QUICKSTART, ["workload.date=2024-02-29"])
    assert given.workload.date == "2024-02-29"
    assert "2024-02-29" in to_yaml(resolve(given))


def test_a_scenario_comes_from_standard_input(edgeemu: Edgeemu, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(text: bytes, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        return edgeemu(*arguments)

    text = Path(tiny).read_bytes()
    Path("mine.yaml").write_text(edgeemu("plan", tiny, "--yaml")[1])
    for more in ((), ("--set", "placement=mine.yaml", "--policy", "given")):  # files are relative to this directory
        document = json.loads(given(text, "plan", "-", *more, "--json")[1])
        assert document["placement"] == json.loads(edgeemu("plan", tiny, "--json")[1])["placement"]
    assert json.loads(given(text, "simulate", "-", "--json")[1])["scenario"] == "scenario"
    status, out, _ = given(text, "compare", "-", "--simulate", "--policies", "layers")
    assert (status, "layers (run 1 of 2)" in out) == (0, True)
    status, out, _ = given(text, "validate", "-")
    assert out.startswith("standard input is valid: ")
    status, _, err = given(text.replace(b"policy: round-robin", b"policy: rond-robin"), "plan", "-")
    assert status == 2
    assert err.startswith("edgeemu: standard input:9: policy: ")
    assert given(b"\xff\xfe", "plan", "-")[2].startswith("edgeemu: standard input: is text in UTF-16")
