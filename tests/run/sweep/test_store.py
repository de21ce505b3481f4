"""Complete runs are there wholly or not at all, and nothing of a killed sweep stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgeemu.run.sweep.store import RUNS, UNDER_WAY, RunStore


def made(store: RunStore, name: str, text: str = "{}") -> Path:
    directory = store.under_way / name / "a-run"
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(text)
    return directory


def test_a_run_is_found_when_it_is_complete(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        directory = made(store, "k")
        assert store.find("k") is None
        assert store.keep("k", directory) == tmp_path / RUNS / "k"
        assert store.find("k") == tmp_path / RUNS / "k"
        again = made(store, "k2", "later")
        assert store.keep("k", again) == tmp_path / RUNS / "k"
    assert (tmp_path / RUNS / "k" / "summary.json").read_text() == "{}", "the first stays"
    assert [path.name for path in (tmp_path / RUNS).iterdir()] == ["k"]


def test_a_failed_run_is_kept_but_is_not_complete(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        for attempt in ("one", "two"):
            store.keep_failed("k", made(store, attempt, attempt))
        assert store.find("k") is None
    assert (tmp_path / RUNS / "k-failed" / "summary.json").read_text() == "two"


def test_a_run_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        (tmp_path / RUNS / "k").write_text("a file of somebody's")
        with pytest.raises(OSError, match="k"):
            store.keep("k", made(store, "k"))


def test_what_a_killed_sweep_leaves_is_removed_by_the_next_and_a_live_one_is_let_alone(tmp_path: Path) -> None:
    killed = (
        "import os, signal, sys; from pathlib import Path; from edgeemu.run.sweep.store import RunStore\n"
        "with RunStore(Path(sys.argv[1])) as store: os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    (left,) = (tmp_path / RUNS).glob(f"{UNDER_WAY}*")
    with RunStore(tmp_path) as first:
        assert not left.exists()
        with RunStore(tmp_path):
            assert first.under_way.is_dir()
            assert len(list((tmp_path / RUNS).iterdir())) == 2
    assert list((tmp_path / RUNS).iterdir()) == []
