"""The loop over runs, with an executor that a test steers: what is done again, and what is given up."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from edgeemu.errors import EdgeemuError, InfeasibleError, RequestError, RunError
from edgeemu.run.sweep.all_runs import EndedRun, all_runs
from edgeemu.run.sweep.executor import RunExecutor
from edgeemu.run.sweep.job import Job, Ran, RunNeed
from edgeemu.run.sweep.store import RunStore
from edgeemu.scenario.load import parse_scenario

SCENARIO = parse_scenario("""
model: smollm2-135m-instruct
devices: [{name: pi, profile: raspberry-pi-4}]
workload: {prompts: [{tokens: 2}]}
""")


class GoneError(Exception):
    """The worker is gone."""


class Steered(RunExecutor):
    """Executor whose runs are a function of the job's key and of how often it was tried; two at a time."""

    lost = (GoneError,)
    most_cpus = 2

    def __init__(self, outcome: Callable[[str, int], Exception | None]) -> None:
        self.outcome = outcome
        self.began: list[tuple[str, int]] = []  # keys, and how many were under way
        self.under_way: list[Future[Ran]] = []

    def __exit__(self, *_: object) -> None: ...

    def takes(self, need: RunNeed) -> bool:
        del need
        self.under_way = [future for future in self.under_way if not future.done()]
        return len(self.under_way) < 2

    def submit(self, job: Job, base: Path) -> "Future[Ran]":
        self.began.append((job.key, len(self.under_way)))
        future: Future[Ran] = Future()
        tried = [key for key, _ in self.began].count(job.key)
        outcome = self.outcome(job.key, tried)
        if outcome is None or isinstance(outcome, RunError):
            directory = base / f"{tried}"
            directory.mkdir(parents=True)
            (directory / "summary.json").write_text("{}")
            future.set_result(Ran(directory, outcome if isinstance(outcome, RunError) else None))
        elif isinstance(outcome, EdgeemuError):
            future.set_result(Ran(None, outcome))
        else:
            future.set_exception(outcome)
        return future


def job(key: str) -> Job:
    return Job(key, SCENARIO, "layers", simulate=True, trust=False, share=False, need=RunNeed(1, 0))


def carried_out(
    tmp_path: Path, keys: str, outcome: Callable[[str, int], Exception | None]
) -> tuple[Steered, list[EndedRun]]:
    with RunStore(tmp_path) as store, Steered(outcome) as executor:
        return executor, list(all_runs([job(key) for key in keys], executor, store))


def test_every_run_is_made_once_and_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    executor, done = carried_out(tmp_path, "abcab", lambda *_: None)
    assert sorted(key for key, _ in executor.began) == ["a", "b", "c"]
    assert {each.key for each in done if not each.reused} == {"a", "b", "c"}
    assert all(each.directory == tmp_path / "swept" / each.key for each in done)
    executor, done = carried_out(tmp_path, "abcd", lambda *_: None)
    assert [key for key, _ in executor.began] == ["d"]
    assert [each.key for each in done if each.reused] == ["a", "b", "c"]


def test_a_lost_run_is_tried_again_alone(tmp_path: Path) -> None:
    executor, done = carried_out(
        tmp_path, "abc", lambda key, tried: GoneError() if key in "ab" and tried == 1 else None
    )
    assert {each.key: each.problem for each in done} == dict.fromkeys("abc")
    assert [key for key, _ in executor.began][3:] in (["a", "b"], ["b", "a"])
    assert all(under_way == 0 for _, under_way in executor.began[3:])


def test_a_run_that_is_lost_alone_is_given_up(tmp_path: Path) -> None:
    executor, done = carried_out(tmp_path, "ab", lambda key, _: GoneError() if key == "a" else None)
    problems = {each.key: each.problem for each in done}
    assert problems["b"] is None
    assert isinstance(problems["a"], RunError)
    assert "was killed, also when it ran alone" in str(problems["a"])
    assert [key for key, _ in executor.began] == ["a", "b", "a"]


def test_a_run_without_a_placement_is_a_finding_and_a_failed_one_leaves_its_records(tmp_path: Path) -> None:
    problems = {"a": InfeasibleError("no room"), "b": RunError("a device died")}
    _, done = carried_out(tmp_path, "abc", lambda key, _: problems.get(key))
    found = {each.key: each for each in done}
    assert (str(found["a"].problem), found["a"].directory) == ("no room", None)
    assert found["b"].directory == tmp_path / "swept" / "b-failed"
    executor, _ = carried_out(tmp_path, "abc", lambda *_: None)
    assert sorted(key for key, _ in executor.began) == ["a", "b"], "they are tried again"


def test_a_wrong_scenario_ends_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such model"):
        carried_out(tmp_path, "ab", lambda *_: RequestError("no such model"))
