"""Simulation of a plan from beginning to end, with sequences of given lengths. Writes nothing, and judges nothing."""

from collections.abc import Sequence
from dataclasses import replace

from edgeemu.report.rows import Row, TableName, TokenRow
from edgeemu.run.controller import Controller
from edgeemu.run.observer import RecordSink, Silent
from edgeemu.run.plan import Plan
from edgeemu.run.simulated import SimulatedBackend

FEWEST_TOKENS = 8  # of a sequence that is shortened


def simulate_plan(plan: Plan, lengths: Sequence[int], records: RecordSink) -> SimulatedBackend:
    """Simulate a plan with sequences of at most these tokens; those without any are left out. Returns the backend."""
    import uvloop

    requests = [
        replace(request, max_tokens=min(request.max_tokens, length))
        for request, length in zip(plan.requests, lengths, strict=False)
        if length
    ]
    plan = replace(plan, requests=tuple(requests))
    backend = SimulatedBackend(plan)
    uvloop.run(Controller(plan, backend, Silent(), records).run())
    return backend


def shortened(lengths: Sequence[int], share: float) -> list[int]:
    """Shorten sequences to a share of their tokens, but to no fewer than say something of later ones."""
    return [min(length, max(FEWEST_TOKENS, round(min(1.0, share) * length))) for length in lengths]


class TokenTimes(Silent):
    """Sink of a run's tokens: keeps their latencies."""

    def __init__(self) -> None:
        self.first_s: list[float] = []  # times to first tokens
        self.later_s: list[float] = []  # latencies of later tokens
        self.begin_s, self.end_s = float("inf"), 0.0  # of all that was generated

    def append(self, table: TableName, rows: Sequence[Row]) -> None:
        if table == "tokens":
            for row in rows:
                assert isinstance(row, TokenRow)
                self.take(row)

    def take(self, row: TokenRow) -> None:
        """Keep what is wanted of a token."""
        (self.later_s if row.step else self.first_s).append(row.latency_s)
        self.begin_s = min(self.begin_s, row.emulated_s - row.latency_s)
        self.end_s = max(self.end_s, row.emulated_s)
