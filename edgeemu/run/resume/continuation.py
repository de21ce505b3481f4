"""Where a run had come to that another goes on from: its sequences, its placement, its instant. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from edgeemu.placement.placement import Placement
from edgeemu.report.rows import SequenceRow, TokenRow
from edgeemu.run.open_sequence import OpenSequence
from edgeemu.timeline.scheduler import Due
from edgeemu.timeline.steps import Step


@dataclass(frozen=True)
class Continuation:
    """A run as its last whole token left it. Mappings are by sequence; sequences without a token have not begun."""

    run: str  # name of its directory
    at_s: float  # instant of its last token
    wall_s: float  # when that was, by the clock, since the run began
    tokens: Mapping[int, list[TokenRow]]
    open: Mapping[int, OpenSequence]
    ended: Mapping[int, SequenceRow]
    placement: Placement | None  # in force last; None: the first
    epoch: int  # the last whose number a row has

    @property
    def waiting(self) -> list[Due]:
        """Next step of each open sequence: it can start at the instant of the run, with its caches filled."""
        steps = []
        for sequence, opened in self.open.items():
            number = len(self.tokens[sequence])
            step = Step(sequence, number, 1, opened.request.prompt_tokens + number - 1)
            steps.append(Due(step, self.tokens[sequence][-1].emulated_s, self.at_s))
        return steps

    @property
    def of_first_sequence(self) -> list[Due]:
        """Steps of the first sequence that were due by the instant of the run, each when it was."""
        rows = self.tokens.get(0, [])
        due = [Due(Step(0, row.step, 1, 0), at_s, at_s) for row, at_s in zip(rows, _due_s(rows), strict=True)]
        if rows and 0 in self.open:
            last_s = rows[-1].emulated_s
            due.append(Due(Step(0, len(rows), 1, 0), last_s, last_s))
        return due

    def free_s(self, concurrency: int) -> list[float]:
        """Since when each slot is free that no open sequence has."""
        spans = [(rows[0].released_s, self.ended.get(sequence)) for sequence, rows in self.tokens.items()]
        return free_slots_s(concurrency, [(start_s, row.end_s if row else None) for start_s, row in spans])


def _due_s(rows: list[TokenRow]) -> list[float]:
    """When each step was due: at the token before it, and the first when it was released."""
    return [rows[0].released_s, *(row.emulated_s for row in rows[:-1])] if rows else []


def free_slots_s(concurrency: int, spans: Iterable[tuple[float, float | None]]) -> list[float]:
    """Return since when each free slot is free, of sequences that had one from an instant to another, or still have."""
    events = []
    for start_s, end_s in spans:
        events.append((start_s, 1))
        if end_s is not None:
            events.append((end_s, 0))
    free = [0.0] * concurrency
    heapify(free)
    for at_s, begins in sorted(events):
        if not begins:
            heappush(free, at_s)
        elif free:
            heappop(free)
    return free
