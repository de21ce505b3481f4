"""Observers of a run, and the sink of its records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgeemu.report.rows import Row, TableName


class Observer(Protocol):
    """Observer of a run; the terminal, for example."""

    def phase(self, name: str, done: int, total: int) -> None: ...
    def directory(self, path: Path) -> None: ...
    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None: ...
    def token(self, index: int, step: int, text: str, latency_s: float) -> None: ...
    def moved(self, line: str) -> None: ...
    def sequence_ended(self, index: int) -> None: ...


class RecordSink(Protocol):
    """Sink of the rows that a run makes."""

    def append(self, table: TableName, rows: Sequence[Row]) -> None: ...
