"""Watchers of runs, for tests."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from edgeemu.report.figures import decision_figures
from edgeemu.report.rows import MigrationRow, OperationRow, Row, SequenceRow, TableName, TokenRow, schema
from edgeemu.run.backend import Backend
from edgeemu.run.controller import Controller
from edgeemu.run.plan import Plan


class Silent:
    """Watches nothing, keeps nothing."""

    def phase(self, name: str, done: int, total: int) -> None: ...
    def directory(self, path: Path) -> None: ...
    def sequence_started(self, index: int, prompt: str, max_tokens: int) -> None: ...
    def token(self, index: int, step: int, text: str, latency_s: float) -> None: ...
    def sequence_ended(self, index: int) -> None: ...
    def append(self, table: TableName, rows: Sequence[Row]) -> None: ...


class Recording:
    """Records in memory, as a run writes them and as a summary reads them."""

    def __init__(self) -> None:
        self.rows: dict[TableName, list[Any]] = defaultdict(list)

    def append(self, table: TableName, rows: Sequence[Row]) -> None:
        self.rows[table] += rows

    def read(self, table: TableName, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        rows = pa.Table.from_pylist([row._asdict() for row in self.rows[table]], schema(table))
        yield rows if columns is None else rows.select(list(columns))


class RecordedRun(Controller):
    """A run whose records are kept."""

    def __init__(self, plan: Plan, devices: Backend) -> None:
        self.recorded = Recording()
        super().__init__(plan, devices, Silent(), self.recorded)

    @property
    def tokens(self) -> list[TokenRow]:
        return self.recorded.rows["tokens"]

    @property
    def ops(self) -> list[OperationRow]:
        return self.recorded.rows["ops"]

    @property
    def sequences(self) -> list[SequenceRow]:
        return self.recorded.rows["sequences"]

    @property
    def migrations(self) -> list[MigrationRow]:
        return self.recorded.rows["migrations"]

    @property
    def texts(self) -> list[str]:
        """Texts of all sequences that have ended."""
        return [
            "".join(token.text for token in self.tokens if token.sequence == row.sequence) + row.tail_text
            for row in sorted(self.sequences)
        ]

    @property
    def decision_s(self) -> list[float]:
        return list(decision_figures(self.recorded).took_s)

    @property
    def problems(self) -> list[str]:
        return decision_figures(self.recorded).problems

    @property
    def given_up(self) -> str:
        return decision_figures(self.recorded).given_up or ""
