"""`clean` believes its own user's directories only, finds them from any shell, and follows no link."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.started import wait_until_runs

from edgeemu.host import cgroups, scratch
from edgeemu.host.clean import clean
from edgeemu.host.owner import Owner, is_own, start_ticks

pytestmark = pytest.mark.alone  # `clean` is for the whole machine
OTHER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make things of another user")


@pytest.fixture
def owner() -> Owner:
    """A run that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        return Owner.of(process.pid)


class Waiting:
    """Processes that wait until the test has ended."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, user: int | None = None, **environment: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            ["/bin/sleep", "600"], user=user, env={**os.environ, **environment}, stdin=subprocess.DEVNULL
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        wait_until_runs(process.pid, "sleep")
        return process


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with ExitStack() as stack:
        yield Waiting(stack)


def leftover(owner: Owner, process: "subprocess.Popen[bytes]", parent: Path | None = None) -> Path:
    """A directory of an ended run that names a process."""
    if parent is None:
        directory = scratch.create(os.getpid())
    else:
        directory = parent / "edgeemu-there"
        directory.mkdir(0o700)
    (directory / scratch.OWNER_FILE).write_text(json.dumps(owner._asdict()))
    named = scratch.Process("named", process.pid, start_ticks(process.pid))
    (directory / scratch.PROCESSES_FILE).write_text(json.dumps(named) + "\n")
    return directory


def test_files_that_are_no_owners_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    names = {"pid": 1, "start_ticks": "never", "boot_id": "x", "pid_namespace": 0}
    contents = [b"", b"[" * 100_000, b"{}", b"\xff", json.dumps(names).encode(), b'{"pid": 1e999}', b" " * (5 << 20)]
    for number, content in enumerate(contents):
        directory = tmp_path / f"edgeemu-{number}"
        directory.mkdir(0o700)
        (directory / scratch.OWNER_FILE).write_bytes(content)
    directory = tmp_path / "edgeemu-pipe"
    directory.mkdir(0o700)
    os.mkfifo(directory / scratch.OWNER_FILE)
    assert not [found for found in scratch.directories_of_all_runs() if found.path.parent == tmp_path]


def seen(owner: Owner, *, dry_run: bool = False) -> list[str]:
    return sorted(item.kind for item in clean(dry_run=dry_run) if item.owner_pid == owner.pid)


def give_away(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        os.chown(path, OTHER, OTHER)


def test_what_this_users_ended_run_left_is_removed(owner: Owner, waiting: Waiting) -> None:
    process = waiting()
    directory = leftover(owner, process)
    assert seen(owner, dry_run=True) == ["directory", "process"]
    assert process.poll() is None
    assert seen(owner) == ["directory", "process"]
    assert process.wait() == -9
    assert not directory.exists()


def test_a_directory_that_others_can_write_or_that_is_a_link_is_not_believed(
    owner: Owner, waiting: Waiting, tmp_path: Path
) -> None:
    process = waiting()
    real = leftover(owner, process, tmp_path)
    link = Path(os.environ["XDG_RUNTIME_DIR"]) / "edgeemu-link"
    link.symlink_to(real)
    opened = leftover(owner, process)
    opened.chmod(0o755)
    linked_file = leftover(owner, process)
    (linked_file / scratch.OWNER_FILE).unlink()
    (linked_file / scratch.OWNER_FILE).symlink_to(real / scratch.OWNER_FILE)
    try:
        assert seen(owner) == []
        assert process.poll() is None
        assert scratch.remove(link) == "Not a directory"
        assert real.exists()
        assert opened.exists()
    finally:
        for made in (link, linked_file / scratch.OWNER_FILE, linked_file / scratch.PROCESSES_FILE):
            made.unlink()
        linked_file.rmdir()
        opened.chmod(0o700)
        scratch.remove(opened)


def test_a_directory_that_was_exchanged_for_another_runs_stays(owner: Owner, waiting: Waiting) -> None:
    directory = leftover(owner, waiting())
    assert scratch.remove(directory, owner._replace(pid=1)) == "it is another run's"
    assert directory.exists()
    (directory / "link").symlink_to(directory.parent)
    assert scratch.remove(directory, owner) == ""
    assert directory.parent.exists()
    assert scratch.remove(directory, owner) == ""


@as_root
def test_root_neither_kills_nor_removes_what_another_users_file_names(owner: Owner, waiting: Waiting) -> None:
    process = waiting()
    directory = leftover(owner, process)
    give_away(directory)
    try:
        assert seen(owner) == []
        assert process.poll() is None
        assert directory.exists()
    finally:
        os.chown(directory, 0, 0)
        scratch.remove(directory)


@as_root
def test_another_users_process_is_not_killed_whoever_names_it(owner: Owner, waiting: Waiting) -> None:
    process = waiting(OTHER)
    assert not is_own(process.pid)
    directory = leftover(owner, process)
    assert seen(owner) == ["directory"]
    assert process.poll() is None
    assert not directory.exists()


@as_root
def test_another_users_control_group_is_not_removed(owner: Owner) -> None:
    directory = scratch.create(os.getpid())
    try:
        group = cgroups.make_run_group(directory, owner).path
    except cgroups.NoGroupError as error:
        pytest.skip(str(error))
    finally:
        scratch.remove(directory)
    os.chown(group, OTHER, OTHER)
    try:
        assert seen(owner) == []
        assert group.exists()
    finally:
        group.rmdir()


def test_a_run_is_found_whatever_its_temporary_directory_was(
    owner: Owner, waiting: Waiting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runtime = os.environ["XDG_RUNTIME_DIR"]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    directory = leftover(owner, waiting())
    assert directory.parent == Path("/tmp")  # whatever TMPDIR says
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setattr("tempfile.tempdir", runtime)
    assert seen(owner) == ["directory", "process"]
    assert not directory.exists()


def test_a_run_is_found_by_the_environment_of_this_users_processes(
    owner: Owner, waiting: Waiting, tmp_path: Path
) -> None:
    for strange in ("/no/such/place", "x" * 5000, "/" + "x" * 5000, __file__, "\udcff"):
        waiting(TMPDIR=strange)
    directory = leftover(owner, waiting(XDG_RUNTIME_DIR=str(tmp_path)), tmp_path)
    assert seen(owner) == ["directory", "process"]
    assert not directory.exists()


@as_root
def test_a_runtime_directory_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, OTHER, OTHER)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directory = scratch.create(os.getpid())
    scratch.remove(directory)
    assert directory.parent == Path("/tmp")
