"""Queue of the operations that a device could run."""

from typing import Generic, NamedTuple, TypeVar

ItemT = TypeVar("ItemT")


class Waiting(NamedTuple):
    """Ready operation: since when, its sequence and step, its place in the program, and whether it sends a result."""

    ready_s: float
    sequence: int
    step: int
    place: int
    sends: bool = False


class ReadyQueue(Generic[ItemT]):
    """Ready operations of a device. It continues with the step that it ran last while that has something ready.

    What that step has to send goes first; otherwise first come, first served. So a pipeline stage is computed without
    interruption, and sent before the next sequence's: if operations of two sequences took turns, both would leave late,
    and the pipeline would never fill.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Waiting, ItemT]] = []
        self._last = (-1, -1)  # sequence and step

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, waiting: Waiting, item: ItemT) -> None:
        self._waiting.append((waiting, item))

    def bypass(self, sequence: int, step: int) -> None:
        """Note that an operation of a step runs without having waited."""
        self._last = sequence, step

    def pop(self) -> tuple[Waiting, ItemT]:
        number = 0
        if len(self._waiting) > 1:
            number = min(range(len(self._waiting)), key=lambda n: self._rank(self._waiting[n][0]))
        waiting, item = self._waiting.pop(number)
        self._last = waiting.sequence, waiting.step
        return waiting, item

    def _rank(self, waiting: Waiting) -> tuple[bool, bool, Waiting]:
        other = (waiting.sequence, waiting.step) != self._last
        return other, other or not waiting.sends, waiting
