"""Runs as tasks of a Ray cluster, as far as that needs no cluster: what arrives, what goes home, and without Ray."""

import pickle
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from support.swept import SCENARIO

from edgeemu.errors import InfeasibleError, RequestError
from edgeemu.run.sweep import on_ray
from edgeemu.run.sweep.identity import software_here
from edgeemu.run.sweep.job import Job, Ran, RunNeed
from edgeemu.run.sweep.on_ray import RayExecutor
from edgeemu.run.sweep.ray_task import Returned, run_on_worker
from edgeemu.scenario.load import parse_scenario


def job(*settings: str, policy: str = "layers", need: RunNeed = RunNeed(1, 0), share: bool = False) -> Job:  # noqa: B008
    scenario = parse_scenario(SCENARIO, overrides=settings)
    return Job("k", scenario, policy, simulate=True, trust=False, share=share, need=need)


def brought_home(returned: Returned, share: bool, base: Path) -> Ran:
    away: Future[Returned] = Future()
    home: Future[Ran] = Future()
    away.set_result(returned)
    on_ray._bring_home(away, job(share=share), base, home)
    return home.result()


@pytest.mark.parametrize(("share", "modes"), [(False, (0o700, 0o600)), (True, (0o755, 0o644))])
def test_the_records_of_a_run_come_home_as_they_are(share: bool, modes: tuple[int, int], tmp_path: Path) -> None:
    files, problem = run_on_worker(pickle.dumps(job()), software_here())
    assert files is not None
    ran = brought_home((files, problem), share, tmp_path / "base")
    assert ran == Ran(tmp_path / "base" / "run", None)
    assert ran.directory is not None
    assert {path.name: path.read_bytes() for path in ran.directory.iterdir()} == files
    assert {"summary.json", "tokens.parquet", "scenario.yaml"} <= files.keys()
    assert ran.directory.stat().st_mode & 0o777 == modes[0]
    assert (ran.directory / "summary.json").stat().st_mode & 0o777 == modes[1]


def test_a_problem_of_a_run_comes_home(tmp_path: Path) -> None:
    small = ("devices[0].memory=60 KiB", "devices[1].memory=60 KiB")
    ran = brought_home(run_on_worker(pickle.dumps(job(*small, policy="single")), software_here()), False, tmp_path)
    assert ran.directory is None
    assert isinstance(ran.problem, InfeasibleError)
    assert "no single device can hold" in str(ran.problem)


def test_a_node_with_another_edgeemu_is_an_error() -> None:
    files, problem = run_on_worker(pickle.dumps(job()), "0.0.9 abc")
    assert files is None
    assert isinstance(problem, RequestError)
    assert str(problem) == f"a worker of the Ray cluster has edgeemu {software_here()}, and this host 0.0.9 abc"


def test_an_error_of_the_cluster_is_raised_at_home(tmp_path: Path) -> None:
    away: Future[Returned] = Future()
    home: Future[Ran] = Future()
    away.set_exception(ValueError("a bug"))
    on_ray._bring_home(away, job(), tmp_path, home)
    with pytest.raises(ValueError, match="a bug"):
        home.result()


def test_without_ray_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"^--on: Ray is not installed: pip install 'edgeemu\[ray\]'$"):
        RayExecutor(None)


def test_a_run_that_no_node_has_room_for_has_no_placement(tmp_path: Path) -> None:
    executor = RayExecutor(None)  # not connected
    executor._rooms = [{"CPU": 2.0, "memory": 4e9}, {"CPU": 8.0, "memory": 1e9}, {"memory": 1e9}]
    assert executor.most_cpus == 8
    problem = executor.submit(job(need=RunNeed(4, 2 * 10**9)), tmp_path).result().problem
    assert isinstance(problem, InfeasibleError)
    assert str(problem) == "no node of the Ray cluster has 4 CPUs and 1.86 GiB of memory"
