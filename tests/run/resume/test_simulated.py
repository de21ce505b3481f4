"""Simulations that end at any token go on from their records: whole, and as the undisturbed one wherever it can be."""

import json
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.several import SCENARIO

from edgeemu.errors import Interrupted
from edgeemu.report.record_files import read_table
from edgeemu.run.observer import Silent
from edgeemu.run.resume.read_run import run_to_resume
from edgeemu.run.run_scenario import RunResult, run_scenario
from edgeemu.scenario.load import parse_scenario

AT_ONCE = "workload.concurrency=3"
FAULTS = (
    "faults=[{at: 4 ms, device: b-1, fault: reboot, for: 20 ms}, {at: 9 ms, device: b-2, fault: hang, for: 30 ms},"
    " {at: 45 ms, device: b-2, fault: crash}, {rate: 40 /s, link: [a, b], fault: stall, for: 3 ms}]"
)
HEARTBEAT = "recovery={caches: reprefill, heartbeat: {interval: 2 ms, misses: 2}}"


class Ending(Silent):
    """Ends the run at a token."""

    def __init__(self, after: int) -> None:
        self._left = after

    def token(self, index: int, step: int, text: str, latency_s: float) -> None:
        del index, step, text, latency_s
        self._left -= 1
        if not self._left:
            raise Interrupted(2)


def simulated(out: Path, *settings: str, after: int = 0) -> RunResult | None:
    scenario = parse_scenario(SCENARIO, "several", (AT_ONCE, *settings))
    try:
        return uvloop.run(run_scenario(scenario, policy=None, out=out, observer=Ending(after), simulate=True))
    except Interrupted:
        return None


def resumed(run: Path, out: Path) -> RunResult:
    found = run_to_resume(run, simulate=True)
    going = run_scenario(found.scenario, policy=None, out=out, observer=Silent(), simulate=True, resume=found)
    return uvloop.run(going)


def rows(run: Path, table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(run, table).to_pylist()
    return found


def test_a_simulation_goes_on_from_any_token(tmp_path: Path) -> None:
    whole = simulated(tmp_path / "whole")
    assert whole is not None
    n_tokens = sum(len(of) for of in whole.summary["tokens"])
    for after in range(1, n_tokens + 1, 7):
        base = tmp_path / str(after)
        assert simulated(base, after=after) is None
        (old,) = base.iterdir()
        new = resumed(old, tmp_path / f"{after}-resumed")
        assert [len(of) for of in new.summary["tokens"]] == [len(of) for of in whole.summary["tokens"]]
        kept = len(rows(old, "tokens"))
        assert rows(new.directory, "tokens")[:kept] == rows(whole.directory, "tokens")[:kept]
        assert rows(new.directory, "placements") == rows(whole.directory, "placements")
        started = {row["sequence"]: row["start_s"] for row in rows(new.directory, "sequences")}
        assert len(started) == 10
        for row in rows(old, "sequences"):
            assert row in rows(new.directory, "sequences")
        # Filling the caches is all that it costs: three sequences of fewer than 24 rows.
        late_s = new.summary["makespan_s"] - whole.summary["makespan_s"]
        assert 0 <= late_s < 0.1 * whole.summary["makespan_s"]


def test_faults_up_to_the_instant_are_those_of_the_undisturbed_run(tmp_path: Path) -> None:
    whole = simulated(tmp_path / "whole", FAULTS, HEARTBEAT)
    assert whole is not None
    n_tokens = sum(len(of) for of in whole.summary["tokens"])
    for after in range(1, n_tokens, 4):
        base = tmp_path / str(after)
        assert simulated(base, FAULTS, HEARTBEAT, after=after) is None
        new = resumed(next(base.iterdir()), tmp_path / f"{after}-resumed")
        assert [len(of) for of in new.summary["tokens"]] == [len(of) for of in whole.summary["tokens"]]
        ((at_s, until_s),) = [
            (fact["at_s"], rows(new.directory, "tokens")[-1]["emulated_s"])
            for fact in json.loads((new.directory / "facts.json").read_text())["resumed"]
        ]

        def by_then(run: Path, end_s: float) -> list[tuple[Any, ...]]:
            return sorted(tuple(row.values()) for row in rows(run, "faults") if row["at_s"] <= end_s)

        assert by_then(new.directory, at_s) == by_then(whole.directory, at_s)
        both_s = min(until_s, rows(whole.directory, "tokens")[-1]["emulated_s"])
        begun = [row for row in by_then(whole.directory, both_s) if row[3] == "begins" and row[2] != "join"]
        assert [row for row in by_then(new.directory, both_s) if row[3] == "begins" and row[2] != "join"] == begun


@pytest.mark.parametrize("table", ["tokens", "ops"])
def test_damaged_records_are_refused(table: str, tmp_path: Path) -> None:
    assert simulated(tmp_path / "old", after=20) is None
    (old,) = (tmp_path / "old").iterdir()
    file = old / f"{table}.parquet"
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    from edgeemu.errors import RequestError

    with pytest.raises(RequestError, match="damaged"):
        resumed(old, tmp_path / "new")
