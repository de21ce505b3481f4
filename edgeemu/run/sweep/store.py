"""Complete runs by their keys, and a place for those under way that nobody takes for complete. Knows directories."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

RUNS = "swept"  # below --out: runs that sweeps and comparisons of seeds share
UNDER_WAY = ".under-way-"
FAILED = "-failed"


class RunStore:
    """Directory of runs, of which each is there completely or not at all; a context manager.

    A run is made in a directory of this store's own, and renamed when it is complete. What stores of processes that
    were killed have left is removed: they held a lock on it.
    """

    def __init__(self, out: Path) -> None:
        self._runs = out / RUNS

    def __enter__(self) -> Self:
        self._runs.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        while True:
            self.under_way = Path(tempfile.mkdtemp(prefix=UNDER_WAY, dir=self._runs))
            self._lock = os.open(self.under_way, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.under_way.is_dir():  # another store can take one without a lock for abandoned
                return self
            os.close(self._lock)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.under_way, ignore_errors=True)
        os.close(self._lock)

    def find(self, key: str) -> Path | None:
        """Return the directory of a complete run; None: there is none."""
        directory = self._runs / key
        return directory if (directory / "summary.json").is_file() else None

    def keep(self, key: str, made: Path) -> Path:
        """Take a complete run in; of two that were made at the same time, the first stays. Return where it is."""
        directory = self._runs / key
        try:
            made.rename(directory)
        except OSError:
            if self.find(key) is None:
                raise
        return directory

    def keep_failed(self, key: str, made: Path) -> Path:
        """Keep the records of a run that failed, in place of those of an earlier attempt. Return where they are."""
        directory = self._runs / f"{key}{FAILED}"
        shutil.rmtree(directory, ignore_errors=True)
        return made.rename(directory)

    def _remove_abandoned(self) -> None:
        for directory in self._runs.glob(f"{UNDER_WAY}*"):
            try:
                lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:  # another store has just removed it, or it is another user's
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            except BlockingIOError:
                pass  # it is in use
            finally:
                os.close(lock)
