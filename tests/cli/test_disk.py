"""Commands on a disk that is full, and in directories that go away or cannot be written."""

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.commands import Edgeemu


def test_a_full_disk_is_a_path_and_the_records_are_kept(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))  # Python ignores SIGXFSZ, and writing fails
    try:
        status, _, err = edgeemu("simulate", tiny, "--set", "workload.max_tokens=500")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (directory,) = (tmp_path / "runs").iterdir()
    path, _, why = err.splitlines()[-1].removeprefix("edgeemu: ").partition(": ")
    assert status == 4
    assert Path(path).parent == Path("runs") / directory.name
    assert why == f"File too large; what was recorded before is kept (edgeemu report runs/{directory.name})"
    status, out, err = edgeemu("report", str(directory))
    assert (status, err) == (0, "")
    assert "time per output token" in out


def test_a_directory_that_is_removed_during_a_run(
    edgeemu: Edgeemu, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeemu.report import record_buffer
    from edgeemu.run.controller import Controller

    record = Controller._record_token
    monkeypatch.setattr(record_buffer, "MAX_ROWS", 1)
    tokens = iter(range(100))

    def remove_at_the_third(self: Controller, *arguments: Any) -> None:
        if next(tokens) == 2:
            shutil.rmtree(tmp_path / "runs")
        record(self, *arguments)

    monkeypatch.setattr(Controller, "_record_token", remove_at_the_third)
    status, _, err = edgeemu("simulate", tiny)
    assert (status, next(tokens)) == (4, 3)
    assert err.splitlines()[-1].endswith(".arrows: was removed while the run was writing to it")
    assert not (tmp_path / "runs").exists()


def test_names_that_are_not_utf_8_are_names(edgeemu: Edgeemu, tiny: str, tmp_path: Path) -> None:
    scenario, out = (os.fsdecode(name) for name in (b"a \xff scenario.yaml", b"ou\xfft"))
    shutil.copy(tiny, scenario)
    status, said, err = edgeemu("simulate", scenario, "--out", out, "--json")
    assert (status, "Traceback" in err) == (0, False)
    directory = json.loads(said)["directory"]
    assert Path(directory).parent == Path(out)
    assert (tmp_path / directory / "summary.json").is_file()
    status, said, err = edgeemu("report", directory)
    assert (status, err) == (0, "")
    assert "certificate" in said


def test_a_working_directory_that_was_removed(
    edgeemu: Edgeemu, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    status, _, err = edgeemu("simulate", tiny)
    assert (status, err) == (2, 'edgeemu: --out: "runs" cannot be made: No such file or directory\n')
    assert edgeemu("simulate", tiny, "--out", str(tmp_path / "out"))[0] == 0
    assert edgeemu("run", "--set", "workload.max_tokens=2", tiny, "--out", str(tmp_path / "out"))[0] == 0


def test_an_output_directory_that_is_none(edgeemu: Edgeemu, tiny: str) -> None:
    for command in ("run", "simulate"):
        status, out, err = edgeemu(command, tiny, "--out", tiny)
        assert (status, out) == (2, "")
        assert err == f'edgeemu: --out: "{tiny}" cannot be made: File exists\n'
