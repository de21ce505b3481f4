"""Shared memory that tests have left: all of the machine but what other programs use."""

import os
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path("/dev/shm")


def left_in_shared_memory(token: bytes) -> list[Path]:
    """Files in shared memory that no other program has mapped; `token` is in the environment of what tests started.

    A file of a test that nobody uses any more counts, and one that the test or its processes still use.
    """
    files = {path: inode for path in DIRECTORY.iterdir() if (inode := inode_of(path)) is not None}
    others_files = mapped_by_others(token) if files else set()
    return [path for path, inode in files.items() if inode not in others_files]


def inode_of(path: Path) -> int | None:
    """None: the file is gone, or another user's, which only tests of root could have made."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino if os.geteuid() in (0, status.st_uid) else None


def mapped_by_others(token: bytes) -> set[int]:
    """Inodes in shared memory that processes outside the tests have mapped.

    Not paths: a semaphore is mapped under a name that it has only while it is made.
    """
    device = DIRECTORY.stat().st_dev
    mark = f"{os.major(device):02x}:{os.minor(device):02x}"
    return {inode for process in others(token) for inode in mapped(process, mark)}


def others(token: bytes) -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if token not in (process / "environ").read_bytes():
                    yield process
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended meanwhile, or is another user's


def mapped(process: Path, device: str) -> Iterator[int]:
    try:
        lines = (process / "maps").read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for line in lines:
        _, _, _, of, inode, *_ = line.split(maxsplit=5)
        if of == device:
            yield int(inode)
