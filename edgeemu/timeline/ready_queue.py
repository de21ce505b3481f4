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


NO_STEP = -1  # the sequence of what belongs to no step: a transfer (`timeline.transfers`)
_TRANSFERS = (NO_STEP, NO_STEP)
_Heap = list[tuple[Waiting, int, ItemT]]  # with the number of the push: of equal ones the first


class ReadyQueue(Generic[ItemT]):
    """Ready operations of a device. It continues with the step that it ran last while that has something ready.

    What that step has to send goes first; otherwise first come, first served. So a pipeline stage is computed without
    interruption, and sent before the next sequence's: if operations of two sequences took turns, both would leave late,
    and the pipeline would never fill. A transfer that has its turn ends no step: that goes on after it.
    """

    def __init__(self) -> None:
        self._only: tuple[Waiting, ItemT] | None = None  # what waits, if nothing else does: most often
        self._steps: dict[tuple[int, int], tuple[_Heap[ItemT], _Heap[ItemT]]] = {}  # what sends, and the rest
        self._number = count()
        self._last: tuple[int, int] | None = None  # sequence and step

    def __bool__(self) -> bool:
        return self._only is not None or bool(self._steps)

    def push(self, waiting: Waiting, item: ItemT) -> None:
        if not self:
            self._only = waiting, item
            return
        if self._only is not None:
            self._add(*self._only)
            self._only = None
        self._add(waiting, item)

    def _add(self, waiting: Waiting, item: ItemT) -> None:
        step = waiting[1:3] if waiting.sequence != NO_STEP else _TRANSFERS
        heaps = self._steps.get(step)
        if heaps is None:
            heaps = self._steps[step] = [], []
        heappush(heaps[not waiting.sends], (waiting, next(self._number), item))

    def drop_steps(self) -> list[ItemT]:
        """Remove all operations of steps, which are given up; return them. Transfers stay."""
        if self._only is not None:
            self._add(*self._only)
            self._only = None
        steps = [step for step in self._steps if step is not _TRANSFERS]
        dropped = [item for step in steps for heap in self._steps.pop(step) for _, _, item in heap]
        self._last = None
        return dropped

    def bypass(self, sequence: int, step: int) -> None:
        """Note that an operation of a step runs without having waited."""
        self._last = sequence, step

    def pop(self) -> tuple[Waiting, ItemT]:
        if self._only is not None:
            only, self._only = self._only, None
            if only[0].sequence != NO_STEP:
                self._last = only[0][1:3]
            return only
        steps, step = self._steps, self._last
        if step is not None and step in steps:
            sending, others = steps[step]
            heap = sending or others
        else:  # a device has few steps at once
            step = next(iter(steps)) if len(steps) == 1 else min(steps, key=lambda each: _first(steps[each])[0])
            heap = _first(steps[step])
            if step is not _TRANSFERS:
                self._last = step
        waiting, _, item = heappop(heap)
        if not heap and not any(steps[step]):
            del steps[step]
        return waiting, item


def _first(heaps: tuple[_Heap[ItemT], _Heap[ItemT]]) -> _Heap[ItemT]:
    """The one of a step's heaps whose first has waited longest."""
    sending, others = heaps
    return sending if sending and (not others or sending < others) else others
