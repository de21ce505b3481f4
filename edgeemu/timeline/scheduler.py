"""Scheduler of sequences: admission to slots, and release of steps. Pure; no devices, no tokens, no clock.

Controller and prediction share it, so a run and its prediction differ only by what was measured.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from edgeemu.timeline.steps import Step


class Asked(Protocol):
    """Request as the scheduler needs it: a sequence to generate."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def arrival_s(self) -> float | None:
        """Arrival; None: the sequence arrives as soon as there is a slot for it."""
        ...


class Due(NamedTuple):
    """Step that can start at an instant. Its latency counts from `since_s`: the arrival, or the token before it."""

    step: Step
    since_s: float
    at_s: float


class Scheduler:
    """Scheduler of at most `concurrency` concurrent sequences, in the order of their arrival.

    A sequence gets a slot when it has arrived and one is free. Its step is `waiting` until it is released, and is then
    in flight until it is complete. With `bubbles` no step is released before every one in flight has its token.
    """

    def __init__(self, asked: Sequence[Asked], concurrency: int = 1, *, bubbles: bool = False) -> None:
        self.concurrency = concurrency
        self.now_s = 0.0  # the last instant at which something has happened
        self.waiting: dict[int, Due] = {}  # by sequence, the step that is not released yet
        self._asked = asked
        self._bubbles = bubbles
        self._queue = deque(range(len(asked)))
        self._flying: dict[int, Due] = {}
        self._free_s = [0.0] * concurrency  # since when each free slot is free
        self._not_before_s = 0.0
        heapify(self._free_s)

    @property
    def unfinished(self) -> bool:
        return bool(self._queue or self.waiting or self._flying)

    @property
    def drained(self) -> bool:
        """Whether no step is in flight."""
        return not self._flying

    @property
    def open_steps(self) -> list[Step]:
        """The step of each sequence that has a slot: waiting or in flight."""
        return [due.step for due in (*self.waiting.values(), *self._flying.values())]

    def admit(self) -> Iterator[Due]:
        """Admit sequences: first steps of those that get a slot now, or of the next arrival if nothing else runs."""
        while (at_s := self.next_arrival_s) is not None and (at_s <= self.now_s or not (self._flying or self.waiting)):
            sequence, free_s = self._queue.popleft(), heappop(self._free_s)
            arrival_s = self._asked[sequence].arrival_s
            first = Step(sequence, 0, self._asked[sequence].prompt_tokens, 0)
            self.waiting[sequence] = Due(first, free_s if arrival_s is None else arrival_s, at_s)
            yield self.waiting[sequence]

    @property
    def next_arrival_s(self) -> float | None:
        """Instant at which the next sequence can be admitted; None: none waits, or no slot is free."""
        if not self._queue or not self._free_s:
            return None
        return max(self._asked[self._queue[0]].arrival_s or 0.0, self._free_s[0], self._not_before_s)

    def resume(self, waiting: Iterable[Due], ended: Collection[int], free_s: Iterable[float], at_s: float) -> None:
        """Go on at an instant where some sequences have ended, others wait, and slots have been free for a while."""
        self.waiting = {due.step.sequence: due for due in waiting}
        self._queue = deque(n for n in self._queue if n not in ended and n not in self.waiting)
        self._free_s = list(free_s)
        heapify(self._free_s)
        self.delay_all(at_s)  # sequences that had begun, and have no token, too

    def release(self) -> list[Due]:
        """Release the steps that start now, in the order of their start; they are in flight from then on."""
        if self._bubbles and self._flying:
            return []
        going = sorted(self.waiting.values(), key=lambda due: (due.at_s, due.step))
        if self._bubbles and going:
            together_s = going[-1].at_s
            going = [due._replace(at_s=together_s) for due in going]
        self._flying |= {due.step.sequence: due for due in going}
        self.waiting.clear()
        return going

    def complete(self, step: Step, at_s: float, *, ended: bool) -> Due | None:
        """Record a step's token at an instant. Returns the sequence's next step; None: it has ended."""
        del self._flying[step.sequence]
        self.now_s = max(self.now_s, at_s)
        if ended:
            heappush(self._free_s, at_s)
            return None
        following = Step(step.sequence, step.step + 1, 1, step.past + step.rows)
        self.waiting[step.sequence] = Due(following, at_s, at_s)
        return self.waiting[step.sequence]

    def give_up(self, at_s: float) -> None:
        """Have the steps in flight wait again, because what they have computed was lost at an instant."""
        self.now_s = max(self.now_s, at_s)
        for sequence, due in self._flying.items():
            self.waiting[sequence] = due._replace(at_s=max(due.at_s, at_s))
        self._flying.clear()

    def advance_to(self, at_s: float) -> None:
        """Move the present to an instant up to which no token was sampled."""
        self.now_s = max(self.now_s, at_s)

    def delay(self, sequence: int, at_s: float) -> None:
        """Keep one sequence's waiting step from starting before an instant."""
        due = self.waiting[sequence]
        self.waiting[sequence] = due._replace(at_s=max(due.at_s, at_s))

    def delay_all(self, at_s: float) -> None:
        """Keep every step from starting before an instant: those that wait, and those of sequences to come."""
        self.advance_to(at_s)
        self._not_before_s = max(self._not_before_s, at_s)
        self.waiting = {n: due._replace(at_s=max(due.at_s, at_s)) for n, due in self.waiting.items()}
