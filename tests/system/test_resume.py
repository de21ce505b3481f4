"""A controller that is killed at any moment leaves records that `--resume` goes on from, to the same text."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.device_pids import device_pids
from support.killed import killed_run
from support.several import SCENARIO, make, reference_tokens

from edgeemu.report.record_files import read_table
from edgeemu.run.observer import Silent
from edgeemu.run.resume.read_run import run_to_resume
from edgeemu.run.run_scenario import RunResult, run_scenario

POLICY = '''
from edgeemu.policies.api import ClusterView, Placement, all_blocks

class Turns:
    """Half of what one device has goes to another, every time; none to devices that are gone."""

    def __call__(self, view: ClusterView, current: Placement | None) -> Placement:
        here = [device for device, each in enumerate(view.devices) if each.memory_bytes]
        if current is None or not set(current.owner.values()) <= set(here):
            return Placement({block: here[0] for block in all_blocks(view.costs.shape)})
        source = next(iter(current.owner.values()))
        there = [block for block, device in sorted(current.owner.items()) if device == source]
        target = next(device for device in here if device != source)
        return current.moved(there[: len(there) // 2 + 1], target)
'''
PROMPTS = "workload.prompts=[{tokens: 7}, {tokens: 3}, {tokens: 12, max_tokens: 1}, {tokens: 5}, {tokens: 9}]"
AT_ONCE = "workload.concurrency=3"
REBOOT = "faults=[{at: 6 ms, device: a, fault: reboot, for: 30 ms}]"
MOVES = ("decisions.interval=2", "policy=turns.py:Turns")
MOMENTS = {  # method of the observer or the backend, and the call of it before which the controller is killed
    "load": ("phase", 6),
    "prefill": ("start", 2),
    "decode": ("token", 8),
    "end of a sequence": ("sequence_ended", 3),
    "migration": ("ship", 2),
    "switch": ("commit", 2),
}
IN_RECOVERY = {
    "loss": ("end_device", 1),
    "halt": ("halt", 1),
    "rewind": ("rewind", 1),
    "restoration": ("wait", 1),
    "filling": ("follow", 1),
    "after recovery": ("follow", 2),
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "turns.py").write_text(POLICY)
    (tmp_path / "several.yaml").write_text(SCENARIO)
    return tmp_path / "several.yaml"


def resumed(run: Path, out: Path, *, simulate: bool = False) -> RunResult:
    found = run_to_resume(run, simulate=simulate)
    running = run_scenario(
        found.scenario, policy=None, out=out, observer=Silent(), simulate=simulate, trust=True, resume=found
    )
    return uvloop.run(running)


def rows(run: Path, table: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(run, table).to_pylist()
    return found


def assert_goes_on(old: Path, new: RunResult, *settings: str) -> None:
    """The text is as if nothing had happened, and rows are those of the old run up to its last token, and then more."""
    assert new.summary["tokens"] == reference_tokens(make(*settings))
    assert new.summary["ended"] == "done"
    assert device_pids() == []
    (facts,) = json.loads((new.directory / "facts.json").read_text())["resumed"]
    assert facts["run"] == old.name
    before, tokens = rows(old, "tokens"), rows(new.directory, "tokens")
    kept = [row for row in before if row["emulated_s"] <= facts["at_s"]]
    assert len(kept) >= len(before) - 3  # how the last were computed may not have been written any more
    assert tokens[: len(kept)] == kept
    assert facts["at_s"] == max((row["emulated_s"] for row in kept), default=0.0)
    assert min(row["emulated_s"] for row in tokens[len(kept) :]) > facts["at_s"]
    for one, other in pairwise(sorted(tokens, key=lambda row: (row["sequence"], row["step"]))):
        if other["step"]:
            assert other["latency_s"] == pytest.approx(other["emulated_s"] - one["emulated_s"])
    keys = [
        (row["sequence"], row["step"], row["device"], row["op"], row["start_s"]) for row in rows(new.directory, "ops")
    ]
    assert len(keys) == len(set(keys))
    steps = {(row["sequence"], row["step"]) for row in tokens}
    others = {(-1, -1), (-1, -2)}  # what fills caches, and steps that were given up
    assert {key[:2] for key in keys} - others == steps
    assert [row["sequence"] for row in sorted(rows(new.directory, "sequences"), key=lambda row: row["sequence"])] == [
        *range(5)
    ]
    reasons = " ".join(new.summary["certificate"]["reasons"])
    assert f"resumed from {old.name} at {facts['at_s']:.3f} s" in reasons


@pytest.mark.parametrize(
    ("how", "moment"),
    [
        *(("virtual", moment) for moment in MOMENTS),
        ("realtime", "decode"),
        ("realtime", "switch"),
        ("simulate", "switch"),
    ],
)
def test_a_killed_run_goes_on_with_the_same_text(how: str, moment: str, scenario: Path, tmp_path: Path) -> None:
    simulate, mode = how == "simulate", "virtual" if how == "simulate" else how
    settings = (PROMPTS, AT_ONCE, f"time.mode={mode}")
    old = killed_run(scenario, tmp_path / "old", *MOMENTS[moment], *settings, *MOVES, simulate=simulate)
    assert old is not None
    new = resumed(old, tmp_path / "new", simulate=simulate)
    if simulate:
        assert [len(of) for of in new.summary["tokens"]] == [6, 6, 1, 6, 6]
    else:
        assert_goes_on(old, new, *settings)


@pytest.mark.parametrize(
    ("mode", "moment"),
    [*(("virtual", moment) for moment in IN_RECOVERY), ("realtime", "rewind"), ("realtime", "filling")],
)
def test_a_run_that_was_killed_in_a_recovery_recovers(mode: str, moment: str, scenario: Path, tmp_path: Path) -> None:
    settings = (PROMPTS, AT_ONCE, f"time.mode={mode}")
    old = killed_run(scenario, tmp_path / "old", *IN_RECOVERY[moment], *settings, *MOVES, REBOOT)
    assert old is not None
    new = resumed(old, tmp_path / "new")
    assert_goes_on(old, new, *settings)
    kinds = [(row["kind"], row["moment"]) for row in rows(new.directory, "faults")]
    assert kinds.count(("reboot", "begins")) == 1
    assert [row["outcome"] for row in rows(new.directory, "recoveries")] == ["recovered"]


def test_a_resumed_run_that_is_killed_is_resumed(scenario: Path, tmp_path: Path) -> None:
    settings = (PROMPTS, AT_ONCE)
    first = killed_run(scenario, tmp_path / "first", "token", 7, *settings)
    assert first is not None
    second = killed_run(first, tmp_path / "second", "start", 9)
    assert second is not None
    before = {path.name: path.read_bytes() for path in second.iterdir()}
    third = resumed(second, tmp_path / "third")
    assert third.summary["tokens"] == reference_tokens(make(*settings))
    reasons = [reason for reason in third.summary["certificate"]["reasons"] if reason.startswith("resumed from")]
    assert [first.name in reasons[0], second.name in reasons[1]] == [True, True]
    assert {path.name: path.read_bytes() for path in second.iterdir()} == before, "it is left as it was"
    assert json.loads((third.directory / "meta.json").read_text())["resumed"].startswith(f"from {second.name} at ")
    assert (third.directory / "scenario.yaml").read_bytes() == (first / "scenario.yaml").read_bytes()
