"""Errors that a user reads, with their exit statuses. Knows messages; nothing of scenarios or processes."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, ClassVar


class EdgeemuError(Exception):
    """Base of every error that a user is meant to read. `exit_status` is the exit status of the command line."""

    exit_status: ClassVar[int] = 4


class RequestError(EdgeemuError):
    """Invalid request: a scenario, an option, a named file. Exit status 2.

    Its text begins with the place: `quickstart.yaml:14: devices[2].memory: "512MB/s" is not a size`. Each of
    `file`, `line` and `field` may be missing.
    """

    exit_status: ClassVar[int] = 2

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.field = field

    def __str__(self) -> str:
        where = self.file or ""
        if self.line is not None:
            where += f":{self.line}" if where else f"line {self.line}"
        return ": ".join(part for part in (where, self.field, self.message) if part)


class InfeasibleError(EdgeemuError):
    """Infeasible: out of memory on every device, or no feasible placement. Exit status 3."""

    exit_status: ClassVar[int] = 3


class UnsuitableError(InfeasibleError):
    """Unsuitable: a policy does not divide a model among that many devices, whatever their memory. Exit status 3."""


class RunError(EdgeemuError):
    """Failed run: a device died, a link broke, a protocol was violated. Exit status 4."""

    exit_status: ClassVar[int] = 4


class Interrupted(BaseException):  # no error: the user wants it
    """Raised when a signal ends a command. Nothing catches it but the command line, which leaves with 128 + signal.

    `kept`: what a command has to show all the same, as keys of its document.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.status = 128 + number
        self.kept: Mapping[str, Any] = {}


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Candidate that `word` was probably meant to be, if one is near enough."""
    if len(word) > 100:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    folded = word.casefold()
    found = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if found:
        return by_folded[found[0]]
    if len(folded) < 2:
        return None
    starting = [candidate for key, candidate in by_folded.items() if key.startswith(folded)]
    return min(starting, key=len, default=None)


def did_you_mean_path(path: PurePath, siblings: Iterable[PurePath]) -> str:
    """Hint ` (did you mean "x"?)` for a file name: the nearest of `siblings` by stem, whatever directory and suffix."""
    by_stem = {other.stem: other for other in siblings if other != path}
    stem = nearest(path.stem, by_stem)
    return f' (did you mean "{by_stem[stem]}"?)' if stem is not None else ""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Hint ` (did you mean "x"?)`, or "" if no candidate is near."""
    candidate = nearest(word, candidates)
    return f' (did you mean "{candidate}"?)' if candidate is not None else ""
