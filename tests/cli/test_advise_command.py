"""`edgeemu advise`: figures that `simulate` gives, a command that shows them, and messages for what it cannot do."""

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from support.commands import Edgeemu
from support.two_boards import TWO_BOARDS


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "two pis.yaml"
    path.write_text(TWO_BOARDS.replace("[{tokens: 8}]", "[{tokens: 8}, {tokens: 5}]"))
    return path


def test_figures_are_those_of_simulate(edgeemu: Edgeemu, scenario: Path) -> None:
    status, out, err = edgeemu("advise", str(scenario), "--target", "1 ms", "--json")
    assert status == 0, err
    made = json.loads(out)
    assert "one change: " in err
    compared = 0
    for option in (made["unchanged"], *made["options"][:40:4]):
        if option["problem"]:
            continue
        settings = [part for setting in option["settings"] for part in ("--set", setting)]
        status, out, err = edgeemu("simulate", str(scenario), "--json", *settings)
        assert status == 0, err
        run = json.loads(out)
        assert option["ms_per_token"] == pytest.approx(run["tpot_ms"]["mean"])
        assert option["ttft_ms"] == pytest.approx(run["ttft_ms"]["mean"])
        assert option["j_per_token"] == pytest.approx(run["energy"]["per_token_j"]), option["change"]
        compared += 1
    assert compared >= 5
    prices = {option["change"]: option["price_usd"] for option in made["options"]}
    assert prices["nothing changed"] == 160.0
    assert prices["2 more pi"] == 320.0


def test_the_page_names_the_least_change_and_a_command_that_shows_it(edgeemu: Edgeemu, scenario: Path) -> None:
    status, out, err = edgeemu("advise", str(scenario), "--target", "1 s", "--set", "workload.max_tokens=4")
    assert status == 0, err
    assert re.search(r"^reaches the target, least first +tokens/s +per token +first token +J/token +boards$", out, re.M)
    assert re.search(r"^unbeaten in speed, energy and price +", out, re.M)
    assert "figures rest on derived figures" in out
    now = json.loads(edgeemu("plan", str(scenario), "--json")[1])["predicted"][0]["tpot_ms"]
    status, out, err = edgeemu("advise", str(scenario), "--target", f"{0.9 * now} ms")
    (command,) = re.findall(r"^see it: (.*)$", out, re.M)
    name, *arguments = shlex.split(command)
    assert name == "edgeemu"
    status, out, err = edgeemu(*arguments, "--json")
    assert status == 0, err
    assert json.loads(out)["predicted"][0]["tpot_ms"] <= 0.92 * now


def test_a_scenario_from_standard_input(edgeemu: Edgeemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TWO_BOARDS.encode())))
    status, out, err = edgeemu("advise", "-", "--target", "1 s", "--json")
    assert status == 0, err
    assert json.loads(out)["reached"] is True


def test_what_is_wrong_is_said(edgeemu: Edgeemu, scenario: Path) -> None:
    status, _, err = edgeemu("advise", str(scenario), "--target", "quick")
    assert status == 2
    assert "a speed is e.g. 5 tokens/s" in err
    status, _, err = edgeemu("advise", str(scenario), "--target", "1 s", "--set", "workload.max_tokens=1")
    assert status == 2
    assert "workload.max_tokens: one token has no speed" in err
    status, _, err = edgeemu("advise", str(scenario), "--target", "1 s", "--set", "devices[0].profile=pie")
    assert status == 2
    assert "devices[0].profile" in err


def test_tables_are_csv_too(edgeemu: Edgeemu, scenario: Path) -> None:
    status, out, _ = edgeemu("advise", str(scenario), "--target", "1 s", "--csv")
    assert status == 0
    assert '"reaches the target, least first",tokens/s,per token' in out


def test_a_model_that_nothing_makes_fit_is_told_with_reasons(edgeemu: Edgeemu, scenario: Path) -> None:
    settings = ("--set", "devices=[{name: tiny, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 9 KiB}]")
    settings += ("--set", "policy=single", "--set", "engine=ideal")
    status, out, err = edgeemu("advise", str(scenario), "--target", "1 s", *settings)
    assert status == 0, err
    assert re.search(r"^target 1 s per token: nothing of \d+ simulations reaches it$", out, re.M)
    assert "cannot be: nothing changed: no single device can hold" in out
    assert "see it" not in out
