"""Interface of what carries out runs, several at once: on this host, or on a cluster."""

from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edgeemu.run.sweep.job import Job, Ran, RunNeed


class RunExecutor(AbstractContextManager["RunExecutor"], Protocol):
    """Carries out runs. Left by an exception, it ends those that are under way."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """Exceptions of a future whose process or machine is gone. Others are bugs."""

    @property
    def most_cpus(self) -> int:
        """Processors of the largest host that may have a run."""

    def takes(self, need: RunNeed) -> bool:
        """Whether there is room for one more run now; there is always for one alone."""

    def submit(self, job: Job, base: Path) -> "Future[Ran]":
        """Begin a run; when the future is done, its records are below `base` on this host."""
