"""Without root, control groups and real-time priority everything still runs, and says what is weaker."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.capped import TIGHT

UNPRIVILEGED = str(Path(__file__).parents[1] / "support" / "unprivileged.py")


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that every user may use: pytest's own are for ours only."""
    directory = Path(tempfile.mkdtemp(prefix="edgeemu-test-", dir="/tmp"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def call(directory: Path, *arguments: str, way: tuple[str, ...]) -> tuple[int, str, str]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    command = [*way, sys.executable, "-m", "edgeemu", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory, check=False)
    return done.returncode, done.stdout, done.stderr


def unprivileged(directory: Path, *arguments: str) -> tuple[int, str, str]:
    return call(directory, *arguments, way=(sys.executable, UNPRIVILEGED))


def test_a_run_says_in_one_line_what_is_weaker_and_is_otherwise_the_same(open_directory: Path) -> None:
    file = open_directory / "tight.yaml"
    file.write_text(TIGHT)
    arguments = ("run", str(file), "--set", "time.mode=realtime", "--set", "workload.max_tokens=5")
    status, out, err = unprivileged(open_directory, *arguments, "--out", str(open_directory / "weak"))
    assert status in (0, 5), err  # 5: a busy host
    weaker = [line for line in out.splitlines() if line.startswith("limitations on this host: ")]
    (directory,) = (open_directory / "weak").iterdir()
    meta = json.loads((directory / "meta.json").read_text())
    if os.geteuid() == 0:  # else this user may have what is taken from root here
        assert meta["memory_cap"] == "rlimit (no cgroup: no memory controller is mounted)"
        assert meta["scheduling"] == "timer slack 1 ns; no real-time priority (Operation not permitted)"
        (line,) = weaker
        assert "memory is capped by process limits" in line
        assert "without real-time priority" in line
    assert meta["links"].startswith("stamped")
    status, out, err = call(open_directory, *arguments, "--json", "--out", str(open_directory / "full"), way=())
    assert status in (0, 5), err
    weak = json.loads((directory / "summary.json").read_text())
    assert json.loads(out)["tokens"] == weak["tokens"]
    assert json.loads(out)["tpot_ms"] == weak["tpot_ms"]
    assert not list(open_directory.glob("edgeemu-*"))


def test_doctor_and_clean_work_too(open_directory: Path) -> None:
    status, out, err = unprivileged(open_directory, "doctor", "--json")
    assert status == 0, err
    found = json.loads(out)
    if os.geteuid() == 0:
        assert found["caps"]["means"] == "rlimit"
        assert not found["scheduling"]["realtime"]
    status, out, err = unprivileged(open_directory, "clean", "--json")
    assert status == 0, err
    assert json.loads(out)["removed"] == []
