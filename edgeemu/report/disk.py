"""Refusals of the disk while records are written: which file, and what is kept. Knows paths; no records."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeemu.errors import EdgeemuError


class RecordsError(EdgeemuError):
    """Records cannot be written any more: the disk is full, or their directory was removed."""


@contextmanager
def writing(path: Path, *, appended: bool = False) -> Iterator[None]:
    """Name the file in errors of a block that writes it. With `appended`, records that were written before stay.

    Raises:
        RecordsError: for OSError.
    """
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        kept = f"; what was recorded before is kept (edgeemu report {path.parent})" if appended else ""
        raise RecordsError(f"{path}: {why}{kept}") from error


def append_all(descriptor: int, data: bytes, path: Path) -> None:
    """Append to an open file, which `path` names, all or nothing.

    Raises:
        RecordsError: the disk is full, or the file was removed.
    """
    before = os.fstat(descriptor)
    if before.st_nlink == 0:
        raise RecordsError(f"{path}: was removed while the run was writing to it")
    rest = memoryview(data)
    try:
        with writing(path, appended=True):
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    except RecordsError:
        with suppress(OSError):
            os.ftruncate(descriptor, before.st_size)
        raise
