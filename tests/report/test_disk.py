"""A disk that is full and a directory that is removed end a run with the path, and what was recorded is kept."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.facts import token_row

from edgeemu.report.disk import RecordsError
from edgeemu.report.record_files import RecordWriter, read_table
from edgeemu.report.rows import TokenRow


def token(step: int) -> TokenRow:
    return token_row(0, step, float(step), 0.1)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full, for files of this process: Python ignores SIGXFSZ, and writing fails with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def append_all(writer: RecordWriter, steps: Iterator[int]) -> None:
    for step in steps:
        writer.append("tokens", [token(step)])


def test_what_was_appended_before_the_disk_was_full_is_kept(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    steps = iter(range(1000))
    with files_of_at_most(20_000), pytest.raises(RecordsError) as error:
        append_all(writer, steps)
    written = next(steps) - 1
    assert str(error.value).startswith(f"{tmp_path / 'tokens.arrows'}: {os.strerror(errno.EFBIG)}; what was recorded")
    assert written > 10
    with pytest.raises(RecordsError, match=r"tokens\.arrows"):  # also when there is room again: a piece is missing
        writer.append("tokens", [token(written)])
    writer.append("sequences", [])
    with pytest.raises(RecordsError, match=r"tokens\.arrows"):
        writer.close()
    assert read_table(tmp_path, "tokens").column("step").to_pylist() == list(range(written))
    assert (tmp_path / "sequences.parquet").is_file()
    writer.close()


def test_a_conversion_that_fails_leaves_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RecordWriter(tmp_path)
    writer.append("tokens", [token(0)])

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", fail)
        with pytest.raises(RecordsError, match=r"\.tokens\.parquet\.partial: No space left on device"):
            writer.close()
    assert read_table(tmp_path, "tokens").num_rows == 1
    assert [path.name for path in tmp_path.glob("*tokens*")] == ["tokens.arrows"]
    assert not list(tmp_path.glob(".*"))


def test_the_first_refusal_is_the_one_that_is_told(tmp_path: Path) -> None:
    def write() -> None:
        with RecordWriter(tmp_path) as writer:
            append_all(writer, iter(range(1000)))

    with files_of_at_most(2_000), pytest.raises(RecordsError) as error:
        write()
    assert str(error.value).startswith(f"{tmp_path / 'tokens.arrows'}: ")


def test_a_directory_that_is_removed_is_noticed_at_the_next_row(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    writer = RecordWriter(directory)
    writer.append("tokens", [token(0)])
    shutil.rmtree(directory)
    with pytest.raises(RecordsError, match=r"run/tokens\.arrows: was removed while the run was writing to it"):
        writer.append("tokens", [token(1)])
    with pytest.raises(RecordsError, match="was removed"):
        writer.close()
    assert not directory.exists()
