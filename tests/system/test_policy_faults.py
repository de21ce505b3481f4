"""Policies that fail, are late or answer nonsense: the run goes on as before and gives the reason."""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.moving import make, simulated

from edgeemu.cli import app
from edgeemu.errors import RunError
from edgeemu.placement.blocks import EMBED
from edgeemu.placement.placement import Placement
from edgeemu.policies.view.cluster_view import ClusterView
from edgeemu.report.record_files import read_table
from edgeemu.run.ask_policy import first_decision, next_decision


def test_a_policy_may_count_with_numpy() -> None:
    def rotate(view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        owner: dict[Any, Any] = {**current.owner, EMBED: np.int64((current.owner[EMBED] + 1) % len(view.devices))}
        return Placement(owner)

    plan = make(decide=rotate)
    before = dict(plan.placement.owner)
    made = next_decision(rotate, plan.view, plan.placement, 1.0)
    assert made.placement.owner == {**before, EMBED: (before[EMBED] + 1) % 3}
    assert type(made.placement.owner[EMBED]) is int


class Refuses:
    """Something that cannot be looked at."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("cannot be compared")

    __hash__ = None  # type: ignore[assignment]  # as of what defines __eq__


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.zeros(3), "the answer is a ndarray, not a Placement"),
        (Refuses(), "the answer is a Refuses, not a Placement"),
        (Placement(None), "the placement's owner is a NoneType"),  # type: ignore[arg-type]
        (Placement({"embed": 0}), "names 'embed', which is not a Block"),  # type: ignore[dict-item]
        (Placement({EMBED: 0.5}), "embed is on 0.5, which is not a device's number"),  # type: ignore[dict-item]
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_nonsense_of_any_kind_is_a_reason_and_not_a_crash(answer: Any, reason: str) -> None:
    def policy(_view: ClusterView, _current: Placement | None) -> Placement:
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[no-any-return]

    plan = make(decide=policy)
    decision = next_decision(policy, plan.view, plan.placement, 1.0)
    assert decision.placement is plan.placement
    assert reason in decision.problem
    with pytest.raises(RunError, match=r"first placement"):
        first_decision(policy, plan.view, 1.0)


def test_a_policy_that_catches_everything_is_not_waited_for_either() -> None:
    def stubborn(_view: ClusterView, _current: Placement | None) -> Placement:
        while True:
            with suppress(Exception):
                signal.pause()

    plan = make(decide=stubborn)
    assert "did not answer within 0.25 s" in next_decision(stubborn, plan.view, plan.placement, 0.05).problem


class Late:
    """Does not answer at these times that it is asked, and changes nothing at the others."""

    def __init__(self, at: set[int]) -> None:
        self.asked = 0
        self._at = at

    def __call__(self, _view: ClusterView, current: Placement | None) -> Placement:
        self.asked += 1
        while self.asked in self._at:
            signal.pause()
        assert current is not None
        return current


@pytest.mark.parametrize(
    ("late", "asked", "step"),
    [({1, 2, 4, 5, 7, 8, 9, 10}, 9, "sequence 1, step 2"), ({2, 3, 4, 5}, 4, "sequence 0, step 4")],
)
def test_a_policy_that_is_late_three_times_in_a_row_is_not_asked_again(late: set[int], asked: int, step: str) -> None:
    policy = Late(late)
    plan = make(decide=policy)
    made = simulated(replace(plan, rules=replace(plan.rules, decision_limit_s=0.02)))
    assert policy.asked == asked
    assert len(made.tokens) == 16
    *problems, last = made.problems
    assert all(problem.endswith("the policy did not answer within 0.1 s") for problem in problems)
    assert len(problems) == len({n for n in late if n <= asked})
    assert last == made.given_up == f"round-robin was not asked again after {step}: no answer 3 times in a row"


def test_a_policy_that_only_fails_is_asked_to_the_end() -> None:
    def fails(_view: ClusterView, _current: Placement | None) -> Placement:
        raise ZeroDivisionError

    made = simulated(make(decide=fails))
    assert len(made.problems) == len(made.decision_s) == 14
    assert made.given_up == ""


def test_a_refusal_is_a_problem_that_is_told() -> None:
    def exchange(_view: ClusterView, current: Placement | None) -> Placement:
        assert current is not None
        return Placement({block: {0: 0, 1: 2, 2: 1}[device] for block, device in current.owner.items()})

    roomy = make(decide=exchange)
    need_bytes = max(page.total_bytes for page in roomy.pages[1:])
    made = simulated(make(f"devices[1].memory={need_bytes + 1000} B", decide=exchange))
    assert "sequence 0, step 1: b-1 is out of memory: incoming needs" in made.problems[0]


# Through the command line

SCENARIO = """
name: faults
model:
  shape: {n_layers: 2, d_model: 32, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_ff: 64, vocab_size: 99, max_context: 64}
devices:
  - {name: pi, count: 3, gflops: 10 GFLOPS, mem_bandwidth: 4 GB/s, memory: 64 MiB}
network: {default: {bandwidth: 100 Mbit/s, delay: 2 ms}}
policy: round-robin
workload: {prompts: [{tokens: 8}, {tokens: 4}], max_tokens: 5}
time: {mode: virtual}
decisions: {time: 0 ms}
"""
POLICIES = """
import os
import numpy as np
from edgeemu.placement.placement import Placement
from edgeemu.policies import round_robin

def first(view, current):
    return round_robin.place(view, None)

def array(view, current):
    return np.zeros(3) if current else first(view, current)

def raises(view, current):
    if current:
        raise ZeroDivisionError("as always")
    return first(view, current)

def rotates(view, current):
    if current is None:
        return first(view, current)
    return Placement({block: np.int64((at + 1) % 3) for block, at in current.owner.items()})

def ends(view, current):
    return first(view, current) if current is None else os._exit(3)

def prints(view, current):
    print("a policy's own words")
    return first(view, current)

def at_once(view, current):
    raise RuntimeError("not today")
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command on the scenario, in a directory with the policies."""
    monkeypatch.chdir(tmp_path)
    Path("faults.yaml").write_text(SCENARIO)
    Path("mine.py").write_text(POLICIES)

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            app.main([command, "faults.yaml", *arguments])
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("command", ["run", "simulate"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("array", "mine.py:10: the answer is a ndarray, not a Placement"),
        ("raises", "mine.py:15: ZeroDivisionError: as always"),
    ],
)
def test_why_a_placement_was_kept_is_printed(call: Call, command: str, name: str, reason: str) -> None:
    status, out, _ = call(command, "--policy", f"mine.py:{name}")
    assert status == 0
    assert "8 decisions: 0 changes of placement\n" in out
    assert f"problem: sequence 0, step 1: {reason} (and 7 more problems; see summary.json)\n" in out


def test_that_a_policy_was_given_up_is_printed(call: Call) -> None:
    status, out, _ = call("simulate", "--policy", "mine.py:ends")
    assert status == 0
    assert "problem: sequence 0, step 1: the policy's process ended with status 3 (and 3 more problems" in out
    assert "3 decisions: 0 changes of placement\n" in out
    told = "mine.py:ends was not asked again after sequence 0, step 3: no answer 3 times in a row"
    assert f"policy no longer asked: {told}\n" in out


@pytest.mark.parametrize(
    ("policy", "status", "message"),
    [
        ("mine.py:at_once", 2, "--policy: the policy gave no first placement: mine.py:31: RuntimeError: not today"),
        ("mine.py:rotate", 2, '--policy: mine.py has no "rotate" (did you mean "rotates"?)'),
        ("yours.py", 2, "--policy: there is no policy file yours.py"),
    ],
)
@pytest.mark.parametrize("command", ["run", "simulate"])
def test_a_policy_that_cannot_begin_is_one_message(
    call: Call, command: str, policy: str, status: int, message: str
) -> None:
    left, out, told = call(command, "--policy", policy)
    assert (left, out) == (status, "")
    assert message in told
    assert not list(Path("runs").iterdir())


def test_a_comparison_has_a_row_for_a_policy_that_cannot_begin(call: Call) -> None:
    status, out, _ = call("compare", "--policies", "mine.py:at_once,greedy", "--simulate", "--json")
    assert status == 0
    problems = {row["policy"]: row["problem"] for row in json.loads(out)["policies"]}
    assert problems["mine.py:at_once"].endswith("mine.py:31: RuntimeError: not today")
    assert problems["greedy"] in ("", None)
    assert call("compare", "--policies", "mine.py:rotate,single", "--simulate")[0] == 0
    status, _, told = call("compare", "--policies", "yours.py", "--simulate")
    assert (status, told) == (2, "edgeemu: there is no policy file yours.py\n")


def test_what_a_policy_prints_does_not_spoil_the_answer(call: Call) -> None:
    status, out, _ = call("simulate", "--policy", "mine.py:prints", "--json")
    assert status == 0
    assert json.loads(out)["decisions"]["problems"] == []


def test_a_simulation_leaves_what_a_run_leaves(call: Call) -> None:
    documents = []
    for command in ("run", "simulate"):
        status, out, _ = call(command, "--policy", "mine.py:rotates", "--json")
        assert status == 0
        documents.append(json.loads(out))
    run, simulation = documents
    assert simulation.keys() == run.keys()
    assert simulation["migrations"] == pytest.approx(run["migrations"])
    assert simulation["tpot_ms"] == pytest.approx(run["tpot_ms"])
    tables = [read_table(Path(document["directory"]), "migrations").to_pylist() for document in documents]
    assert len(tables[0]) == run["migrations"]["count"] > 0
    for mine, other in zip(*tables, strict=True):
        assert {**mine, **dict.fromkeys(("began_s", "ended_s", "pause_s"))} == {
            **other,
            **dict.fromkeys(("began_s", "ended_s", "pause_s")),
        }
        assert mine["pause_s"] == pytest.approx(other["pause_s"])
    assert {row["outcome"] for row in tables[0]} == {"committed"}


@pytest.mark.parametrize("tokens", [1, 4])
def test_a_simulation_shows_a_line_for_each_sequence(call: Call, tokens: int) -> None:
    status, out, _ = call("simulate", "--set", f"workload.max_tokens={tokens}", "--policy", "mine.py:rotates")
    assert status == 0
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["prompt 1", "prompt 2"]
    assert ("each on average" in lines[0]) == (tokens > 1)
    assert "> (" not in out
    assert f"{2 * tokens} tokens" in out
