"""Runs in processes of this host: how many at once, and what becomes of one that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from edgeemu.host.owner import process_state
from edgeemu.run.sweep import local
from edgeemu.run.sweep.job import Job, Ran, RunNeed
from edgeemu.run.sweep.local import LocalExecutor
from edgeemu.scenario.load import parse_scenario

SCENARIO = parse_scenario("""
model: smollm2-135m-instruct
devices: [{name: pi, profile: raspberry-pi-4}]
workload: {prompts: [{tokens: 2}]}
""")


def job(key: str, cpus: int = 1, memory_bytes: int = 10) -> Job:
    return Job(key, SCENARIO, "layers", simulate=True, trust=False, share=False, need=RunNeed(cpus, memory_bytes))


def meets(job: Job, base: Path) -> Ran:
    """A run that ends when as many others have begun as its key says."""
    base.mkdir()
    deadline = time.monotonic() + 30
    while len(list(base.parent.iterdir())) < int(job.key[-1]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return Ran(base if time.monotonic() < deadline else None)


def is_killed(job: Job, base: Path) -> Ran:
    """A run that the kernel kills, if its key says so."""
    if job.key == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Ran(base)


def waits(job: Job, base: Path) -> Ran:
    """A run that takes for ever."""
    del job
    base.mkdir()
    time.sleep(600)
    return Ran(base)


def test_runs_are_made_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "carry_out", meets)
    with LocalExecutor(RunNeed(2, 100)) as executor:
        futures = []
        for key in ("a2", "b2"):
            assert executor.takes(job(key).need)
            futures.append(executor.submit(job(key), tmp_path / key))
        assert [future.result().directory for future in futures] == [tmp_path / "a2", tmp_path / "b2"]


def test_as_many_runs_as_processors_and_memory_hold() -> None:
    with LocalExecutor(RunNeed(4, 100)) as executor:

        def takes(*needs: RunNeed) -> bool:
            *under_way, need = needs
            executor._under_way = {Future(): each for each in under_way}
            return executor.takes(need)

        assert takes(RunNeed(9, 900)), "one alone says itself if it does not fit"
        assert takes(RunNeed(1, 30), RunNeed(1, 30), RunNeed(1, 30))
        assert not takes(RunNeed(1, 30), RunNeed(1, 30), RunNeed(1, 50)), "memory"
        assert not takes(RunNeed(3, 0), RunNeed(2, 0)), "processors"
        assert takes(*[RunNeed(1, 0)] * 4)
        executor._under_way = {}


def test_a_killed_worker_is_lost_and_the_next_run_has_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "carry_out", is_killed)
    with LocalExecutor(RunNeed(2, 100)) as executor:
        with pytest.raises(executor.lost):
            executor.submit(job("killed"), tmp_path / "killed").result()
        assert executor.submit(job("other"), tmp_path / "other").result() == Ran(tmp_path / "other")


def test_an_exception_ends_the_runs_that_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "carry_out", waits)
    began_s = time.monotonic()
    executor = LocalExecutor(RunNeed(2, 100))
    futures = [executor.submit(job(key), tmp_path / key) for key in "ab"]
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.005)
    executor.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert time.monotonic() - began_s < 30
    assert all(future.done() for future in futures)
    assert multiprocessing.active_children() == []


ORPHANED = """
import multiprocessing, os, signal, time
from pathlib import Path
from support.swept import SCENARIO
from edgeemu.run.sweep import local
from edgeemu.run.sweep.job import Job, Ran, RunNeed
from edgeemu.scenario.load import parse_scenario

def ends_just_then(job, base):
    signal.signal(signal.SIGTERM, lambda *_: None)
    first = multiprocessing.current_process().name.endswith("-1")
    print(first, os.getpid(), flush=True)
    while os.getppid() == parent or not first:
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return Ran(base)

parent = os.getpid()
local.carry_out = ends_just_then
jobs = [Job(key, parse_scenario(SCENARIO), "layers", True, False, False, RunNeed(1, 0)) for key in "ab"]
with local.LocalExecutor(RunNeed(2, 0)) as executor:
    for future in [executor.submit(job, Path(job.key)) for job in jobs]:
        future.result()
"""


def test_a_worker_whose_parent_dies_just_when_its_run_ends_does_not_wait_for_those_that_stay() -> None:
    command = [sys.executable, "-c", ORPHANED]
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | path) as process:
        assert process.stdout is not None
        workers = dict(process.stdout.readline().split() for _ in range(2))
        process.kill()
    ends, stays = int(workers["True"]), int(workers["False"])
    try:
        deadline = time.monotonic() + 20
        while process_state(ends) not in "ZX" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process_state(ends) in "ZX"
        assert process_state(stays) not in "ZX"
    finally:
        os.kill(stays, signal.SIGKILL)
