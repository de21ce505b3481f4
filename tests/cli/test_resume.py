"""`--resume RUN` in place of a scenario: what it goes on from, and how it refuses what it cannot go on from."""

import json
from pathlib import Path

import pytest
import uvloop
from support.commands import Edgeemu

from edgeemu.errors import Interrupted
from edgeemu.run.observer import Silent
from edgeemu.run.run_scenario import run_scenario
from edgeemu.scenario.load import load_scenario


class Ending(Silent):
    """Ends the run at its fourth token."""

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, text, latency_s
        if step == 3:
            raise Interrupted(2)


@pytest.fixture
def ended(tiny: str, tmp_path: Path) -> Path:
    """Directory of a simulation that has four tokens of ten."""
    out = tmp_path / "runs"
    with pytest.raises(Interrupted):
        uvloop.run(run_scenario(load_scenario(tiny), policy=None, out=out, observer=Ending(), simulate=True))
    (run,) = out.iterdir()
    return run


def test_a_run_goes_on_and_says_so(edgeemu: Edgeemu, ended: Path) -> None:
    status, out, err = edgeemu("simulate", "--resume", str(ended), "--json")
    assert (status, "resumed at" in err) == (0, True)
    summary = json.loads(out)
    assert [len(tokens) for tokens in summary["tokens"]] == [5, 5]
    assert any(reason.startswith(f"resumed from {ended.name} at ") for reason in summary["certificate"]["reasons"])
    status, out, _ = edgeemu("report", summary["directory"], "--json")
    assert (status, json.loads(out)["tokens"]) == (0, summary["tokens"])
    status, _, err = edgeemu("simulate", "--resume", summary["directory"])
    assert (status, "the run is done: nothing is left to generate" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "name a SCENARIO, or a run with --resume"),
        (["run", "--resume", "RUN"], "the run was simulated: edgeemu simulate --resume RUN goes on with it"),
        (["simulate", "tiny.yaml", "--resume", "RUN"], "takes the scenario and the policy of its run"),
        (["simulate", "--resume", "RUN", "--set", "seed=1"], "takes the scenario and the policy of its run"),
        (["simulate", "--resume", "RUN", "--policy", "greedy"], "takes the scenario and the policy of its run"),
        (["simulate", "--resume", "nowhere"], "nowhere: no such directory"),
    ],
)
def test_what_cannot_go_on_is_refused(edgeemu: Edgeemu, ended: Path, arguments: list[str], message: str) -> None:
    run = str(ended)
    status, _, err = edgeemu(*(run if argument == "RUN" else argument for argument in arguments))
    assert (status, message.replace("RUN", run) in err.replace("\n", "")) == (2, True), err


def test_a_run_of_another_version_is_refused(edgeemu: Edgeemu, ended: Path) -> None:
    meta = json.loads((ended / "meta.json").read_text())
    meta["libraries"]["edgeemu"] = "0.0.1"
    (ended / "meta.json").write_text(json.dumps(meta))
    status, _, err = edgeemu("simulate", "--resume", str(ended))
    assert (status, "the run is of edgeemu 0.0.1" in err) == (2, True)
    assert f"or run it anew: edgeemu simulate {ended}/scenario.yaml" in err


@pytest.mark.parametrize(
    ("what", "by", "message"),
    [
        ("memory: 64 MiB", "memory: 65 MiB", "its devices or its model would not be the same here"),
        ("seed: 0", "seed: 0 ", ""),
    ],
)
def test_a_run_whose_scenario_was_changed_is_refused(
    edgeemu: Edgeemu, ended: Path, what: str, by: str, message: str
) -> None:
    file = ended / "scenario.yaml"
    text = file.read_text()
    assert what in text
    file.write_text(text.replace(what, by))
    status, _, err = edgeemu("simulate", "--resume", str(ended))
    assert (status, message in err) == (2 if message else 0, True), err


@pytest.mark.parametrize("table", ["tokens", "ops", "devices", "recoveries"])
def test_a_run_without_one_of_its_tables_is_refused(edgeemu: Edgeemu, ended: Path, table: str) -> None:
    (ended / f"{table}.parquet").unlink()
    status, _, err = edgeemu("simulate", "--resume", str(ended))
    assert (status, f"its table of {table} is missing: run it anew: edgeemu simulate" in err) == (2, True), err


def test_a_run_that_had_no_token_begins_anew(edgeemu: Edgeemu, ended: Path) -> None:
    from edgeemu.report.record_files import RecordWriter

    for file in ended.glob("*.parquet"):
        file.unlink()
    RecordWriter(ended).close()
    status, out, _ = edgeemu("simulate", "--resume", str(ended), "--json")
    assert status == 0
    summary = json.loads(out)
    assert [len(tokens) for tokens in summary["tokens"]] == [5, 5]
    assert any("at 0.000 s" in reason for reason in summary["certificate"]["reasons"])
