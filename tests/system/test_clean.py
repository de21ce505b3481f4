"""`edgeemu clean` removes exactly what dead runs own, and a killed controller leaves next to nothing to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.capped import VERSION, groups_of, start
from support.warm_commands import run_edgeemu

from edgeemu.host import cgroups, scratch
from edgeemu.host.clean import Item
from edgeemu.host.clean import clean as clean_host
from edgeemu.host.owner import Owner, is_alive

pytestmark = pytest.mark.alone  # `clean` is for the whole machine


class Running(NamedTuple):
    """A run with devices that are at work."""

    controller: "subprocess.Popen[str]"
    directory: Path
    processes: list[scratch.Process]

    @property
    def server(self) -> scratch.Process:
        return self.processes[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def running(tmp_path: Path) -> Iterator[Running]:
    """A long run in a process of its own, once all its devices have weights."""
    tmp_path.mkdir(exist_ok=True)
    controller = start(tmp_path, "honest", "cgroup,rlimit", "time.mode=realtime", "workload.max_tokens=900")
    try:
        until(lambda: any(path.stat().st_size > 2000 for path in tmp_path.glob("runs/*/tokens.arrows")))
        (found,) = [found for found in scratch.directories_of_all_runs() if found.owner.pid == controller.pid]
        yield Running(controller, found.path, found.processes)
    finally:
        controller.kill()
        controller.communicate()


def clean(*options: str) -> dict[str, list[dict[str, str]]]:
    done = run_edgeemu("clean", "--json", *options, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    document: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return document


def ours(items: list[dict[str, str]], run: Running) -> list[str]:
    """Kinds of the things that are a run's; other sessions' may stand beside them."""
    return sorted(item["kind"] for item in items if item["owner_pid"] == run.controller.pid)


def expected() -> list[str]:
    return sorted([*(["cgroup"] if VERSION else []), "directory", "process", "process", "process"])


@pytest.mark.cgroups
def test_a_killed_controller_leaves_nothing_once_its_server_has_ended(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        assert [process.name for process in run.processes] == ["fork server", "a", "b"]
        assert bool(groups_of(run.controller.pid)) == bool(VERSION)
        run.controller.kill()
        until(lambda: not any(is_alive(process.pid, process.start_ticks) for process in run.processes))
        until(lambda: not run.directory.exists())
        assert groups_of(run.controller.pid) == []
    document = clean()
    assert ours(document["removed"] + document["left"], run) == []


def test_what_a_stopped_server_could_not_end_is_removed_and_a_live_run_is_not(tmp_path: Path) -> None:
    with running(tmp_path / "live") as live, running(tmp_path / "dead") as dead:
        os.kill(dead.server.pid, signal.SIGSTOP)
        dead.controller.kill()
        dead.controller.wait()
        assert all(is_alive(process.pid, process.start_ticks) for process in dead.processes)

        said = clean("--dry-run")
        assert ours(said["removed"], dead) == expected()
        assert ours(said["left"], live) == expected()
        assert all(is_alive(process.pid, process.start_ticks) for process in dead.processes)
        assert dead.directory.exists()

        done = clean()
        assert ours(done["removed"], dead) == expected()
        assert ours(done["left"], dead) == []
        assert not any(is_alive(process.pid, process.start_ticks) for process in dead.processes)
        assert not dead.directory.exists()
        assert groups_of(dead.controller.pid) == []

        assert ours(done["left"], live) == expected()
        assert {item["why"] for item in done["left"] if item["owner_pid"] == live.controller.pid} == {
            "its run is alive"
        }
        assert all(is_alive(process.pid, process.start_ticks) for process in live.processes)
        again = clean()
        assert ours(again["removed"], dead) == ours(again["removed"], live) == []
        live.controller.send_signal(signal.SIGTERM)
        live.controller.wait(30)
        assert live.controller.returncode == 128 + signal.SIGTERM  # it was well until now


@pytest.mark.cgroups
def test_a_server_killed_with_its_controller_leaves_a_group_and_a_directory(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        os.kill(run.server.pid, signal.SIGSTOP)  # it must not be faster than we are
        run.controller.kill()
        os.kill(run.server.pid, signal.SIGKILL)
        until(lambda: not any(is_alive(process.pid, process.start_ticks) for process in run.processes))
        assert ours(clean()["removed"], run) == [*(["cgroup"] if VERSION else []), "directory"]
        assert not run.directory.exists()
        assert groups_of(run.controller.pid) == []


def dead_owner() -> Owner:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return Owner.of(process.pid)


def a_directory(owner: Owner) -> Path:
    directory = scratch.create(os.getpid())
    (directory / scratch.OWNER_FILE).write_text(json.dumps(owner._asdict()))
    return directory


def left_of(directory: Path, items: list[Item]) -> str:
    (item,) = [item for item in items if item.what == str(directory)]
    return item.left


def test_a_process_that_has_the_number_of_a_dead_one_is_not_touched() -> None:
    directory = a_directory(dead_owner())
    mine = scratch.Process("a", os.getpid(), Owner.of(os.getpid()).start_ticks - 1)
    (directory / scratch.PROCESSES_FILE).write_text(json.dumps(mine) + "\n" + '["cut')
    items = clean_host()
    assert left_of(directory, items) == ""
    assert not any(str(os.getpid()) in item.what for item in items)
    assert not directory.exists()


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        (Owner.of(os.getpid()), "its run is alive"),
        (Owner.of(os.getpid())._replace(pid_namespace=1), "its run is in another PID namespace; clean there"),
    ],
)
def test_what_may_be_in_use_stays(owner: Owner, why: str) -> None:
    directory = a_directory(owner)
    try:
        assert left_of(directory, clean_host()) == why
        assert directory.exists()
    finally:
        scratch.remove(directory)


def test_what_is_not_known_to_be_a_runs_is_not_seen() -> None:
    parent = Path(os.environ["XDG_RUNTIME_DIR"])
    foreign, broken = parent / "edgeemu-foreign", parent / "edgeemu-broken"
    foreign.mkdir()
    broken.mkdir()
    (broken / scratch.OWNER_FILE).write_text('{"pid": 1}')
    try:
        assert not {str(foreign), str(broken)} & {item.what for item in clean_host()}
    finally:
        (broken / scratch.OWNER_FILE).unlink()
        foreign.rmdir()
        broken.rmdir()


@pytest.mark.skipif(VERSION is None, reason="no memory cgroup can be made here")
def test_a_group_is_found_without_a_directory_that_records_it() -> None:
    directory = scratch.create(os.getpid())
    group = cgroups.make_run_group(directory, dead_owner())
    scratch.remove(directory)
    group.make("0", 64 * 2**20)
    assert str(group.path) in [item.what for item in clean_host(dry_run=True)]
    assert left_of(group.path, clean_host()) == ""
    assert not group.path.exists()
