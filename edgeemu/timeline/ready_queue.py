"""Queue of the operations that a device could run."""

from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

ItemT = TypeVar("ItemT")


class Waiting(NamedTuple):
    """Ready operation: since when, its sequence and step, its place in the program, and whether it sends a result."""

    ready_s: float
    sequence: int
    step: int
    place: int
    sends: bool = False


_Heap = list[tuple[Waiting, int, ItemT]]  # with the number of the push: of equal ones the first


class ReadyQueue(Generic[ItemT]):
    """Ready operations of a device. It continues with the step that it ran last while that has something ready.

    What that step has to send goes first; otherwise first come, first served. So a pipeline stage is computed without
    interruption, and sent before the next sequence's: if operations of two sequences took turns, both would leave late,
    and the pipeline would never fill.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[int, int], tuple[_Heap[ItemT], _Heap[ItemT]]] = {}  # what sends, and the rest
        self._number = count()
        self._last = (-1, -1)  # sequence and step

    def __bool__(self) -> bool:
        return bool(self._steps)

    def push(self, waiting: Waiting, item: ItemT) -> None:
        heaps = self._steps.get(waiting[1:3])
        if heaps is None:
            heaps = self._steps[waiting[1:3]] = [], []
        heappush(heaps[not waiting.sends], (waiting, next(self._number), item))

    def bypass(self, sequence: int, step: int) -> None:
        """Note that an operation of a step runs without having waited."""
        self._last = sequence, step

    def pop(self) -> tuple[Waiting, ItemT]:
        steps = self._steps
        if self._last not in steps:  # a device has few steps at once
            self._last = next(iter(steps)) if len(steps) == 1 else min(steps, key=lambda step: _first(steps[step])[0])
            heap = _first(steps[self._last])
        else:
            sending, others = steps[self._last]
            heap = sending or others
        waiting, _, item = heappop(heap)
        if not heap and not any(steps[self._last]):
            del steps[self._last]
        return waiting, item


def _first(heaps: tuple[_Heap[ItemT], _Heap[ItemT]]) -> _Heap[ItemT]:
    """The one of a step's heaps whose first has waited longest."""
    sending, others = heaps
    return sending if sending and (not others or sending < others) else others
