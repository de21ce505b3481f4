"""Interface of what carries out runs, several at once: on this host, or on a cluster."""

from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from edgeemu.run.sweep.job import Job, Need, Ran


class RunExecutor(AbstractContextManager["RunExecutor"], Protocol):
    """Carries out runs. Left by an exception, it ends those that are under way."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """Exceptions of a future whose process or machine is gone. Others are those of `carry_out`, or bugs."""

    def takes(self, need: Need) -> bool:
        """Whether there is room for one more run now; there is always for one alone."""

    def submit(self, job: Job) -> "Future[Ran]":
        """Begin a run; the directory of its records is on this host when the future is done."""
