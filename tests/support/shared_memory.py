"""Shared memory that tests have left: all of the machine but what other programs use."""

import os
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path("/dev/shm")


class SharedMemory:
    """Looks for files of tests in shared memory; `token` is in the environment of what tests started.

    What another program has mapped is its own, and stays so: that is read once, from all processes of the machine,
    which takes some 8 ms. So it is not done again for files that stay from test to test.
    """

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._others_files: set[int] = set()  # inodes
        self._last, self._known = set[int](), set[int]()  # inodes of the other files

    def left(self) -> list[Path]:
        """Files that no other program has mapped: of a test and used by nobody, or by it or its processes."""
        files = {path: inode for path in DIRECTORY.iterdir() if (inode := inode_of(path)) is not None}
        there = set(files.values())
        self._others_files &= there  # the number of one that is gone can be given to one of ours
        self._known &= there
        if there - self._others_files - self._known:
            self._others_files |= mapped_by_others(self._token)
        self._last = there - self._others_files
        return [path for path, inode in files.items() if inode in self._last]

    def keep(self) -> None:
        """Ask no more whose the files are that were left at the last look."""
        self._known = self._last


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
