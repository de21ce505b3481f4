"""Watchers of runs, for tests."""

from edgeemu.report.figures import decision_figures
from edgeemu.report.rows import MigrationRow, OperationRow, SequenceRow, TokenRow
from edgeemu.report.rows_in_memory import RowsInMemory
from edgeemu.run.backend import Backend
from edgeemu.run.controller import Controller
from edgeemu.run.observer import Silent
from edgeemu.run.plan import Plan


class RecordedRun(Controller):
    """A run whose records are kept."""

    def __init__(self, plan: Plan, devices: Backend) -> None:
        self.recorded = RowsInMemory()
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
