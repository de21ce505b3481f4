"""New files of a run's directory: readable by who may read the directory, and never through a link."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgeemu.report.disk import writing


@contextmanager
def complete_file(path: Path, *, text: bool = False) -> Iterator[IO[Any]]:
    """Open a file for writing, so that a reader finds the old file or the new one, never half of it.

    Raises:
        RecordsError: the disk refuses it; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path):
            with new_file(partial, text=text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def new_file(path: Path, *, text: bool = False) -> IO[Any]:
    """Create a file and open it for writing, in UTF-8 with `text`, else in bytes.

    Its permissions are those of its directory, without execution. What had its name before is removed: an interrupted
    attempt, or a link that somebody put there.
    """
    path.unlink(missing_ok=True)
    mode = 0o666 & path.parent.stat().st_mode
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    return os.fdopen(fd, "w" if text else "wb", encoding="utf-8" if text else None)
