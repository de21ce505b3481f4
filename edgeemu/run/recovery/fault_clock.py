"""Faults of a run in the order of their instants: when each begins, is noticed, and is over. Pure; no devices."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from math import floor, inf
from typing import NamedTuple

from edgeemu.cluster.faults import Fault, FaultKind, FaultPlan, RandomFaults

DECIMALS = 9  # beats that a device misses are counted on the timeline, to the nanosecond


class Moment(Enum):
    """Moment of a fault."""

    BEGINS = "begins"
    NOTICED = "noticed"
    OVER = "over"


@dataclass(slots=True)
class Occurrence:
    """One fault that happens once: of one device, or of links."""

    fault: Fault
    began_s: float
    device: int | None = None  # None: links
    announced: bool = False  # devices know when it will be
    in_vain: bool = False  # its device was gone anyway
    process: RandomFaults | None = None  # that drew it
    waits_s: Iterator[float] | None = field(default=None, repr=False)  # of that process, to the next one

    @property
    def until_s(self) -> float:
        """When it is over; infinite: never."""
        return inf if self.fault.for_s is None else self.began_s + self.fault.for_s


class Happening(NamedTuple):
    """Moment of an occurrence."""

    at_s: float
    order: int
    moment: Moment
    occurrence: Occurrence


class FaultClock:
    """Moments to come. An occurrence that ends a process is noticed at once, others by heartbeats that do not come."""

    def __init__(self, plan: FaultPlan, interval_s: float, misses: int) -> None:
        self._interval_s, self._misses = interval_s, misses
        self._heap: list[Happening] = []
        self._order = count()
        for event in plan.events:
            if event.at_s is not None:
                self.add(event.fault, event.at_s)
        for process in plan.random:
            self._draw(process, process.waits_s(), 0.0)

    @property
    def next_s(self) -> float | None:
        """Instant of the next moment; None: nothing is to come."""
        return self._heap[0].at_s if self._heap else None

    @property
    def to_come(self) -> list[Occurrence]:
        """Occurrences that have not begun."""
        return [happening.occurrence for happening in self._heap if happening.moment is Moment.BEGINS]

    def add(self, fault: Fault, at_s: float) -> None:
        """Have a fault begin at an instant: of each of its devices by itself."""
        for device in fault.devices or (None,):
            self._begin(Occurrence(_of(fault, device), at_s, device))

    def take(self, by_s: float) -> list[Happening]:
        """Return what happens up to an instant, in order. What follows from it is to be taken next."""
        taken = []
        while self._heap and self._heap[0].at_s <= by_s:
            taken.append(happening := heappop(self._heap))
            occurrence = happening.occurrence
            if happening.moment is Moment.BEGINS:
                self._follow(occurrence)
            elif happening.moment is Moment.OVER and occurrence.process and occurrence.waits_s:
                self._draw(occurrence.process, occurrence.waits_s, happening.at_s)
        return taken

    def add_notice(self, occurrence: Occurrence, since_s: float) -> None:
        """Have it be noticed by beats that have not come since an instant, before it or with it; not if it is over."""
        at_s = max(occurrence.began_s, noticed_s(since_s, self._interval_s, self._misses))
        if at_s < occurrence.until_s:
            self._push(at_s, Moment.NOTICED, occurrence)

    def _begin(self, occurrence: Occurrence) -> None:
        self._push(occurrence.began_s, Moment.BEGINS, occurrence)

    def _follow(self, occurrence: Occurrence) -> None:
        """Plan what follows from a beginning."""
        kind, began_s, until_s = occurrence.fault.kind, occurrence.began_s, occurrence.until_s
        if kind.ends_process:
            self._push(began_s, Moment.NOTICED, occurrence)
        elif kind in (FaultKind.HANG, FaultKind.DOWN, FaultKind.STALL, FaultKind.PARTITION):
            self.add_notice(occurrence, began_s)
        if until_s < inf:
            self._push(until_s, Moment.OVER, occurrence)
        elif kind is FaultKind.JOIN:
            self._push(began_s, Moment.OVER, occurrence)

    def _draw(self, process: RandomFaults, waits_s: Iterator[float], from_s: float) -> None:
        began_s = from_s + next(waits_s)
        for device in process.fault.devices or (None,):
            self._begin(Occurrence(_of(process.fault, device), began_s, device, process=process, waits_s=waits_s))

    def _push(self, at_s: float, moment: Moment, occurrence: Occurrence) -> None:
        heappush(self._heap, Happening(at_s, next(self._order), moment, occurrence))


def _of(fault: Fault, device: int | None) -> Fault:
    """Return the fault of one of its devices."""
    return fault if device is None else replace(fault, devices=(device,))


def noticed_s(began_s: float, interval_s: float, misses: int) -> float:
    """Return when beats that do not come from an instant on are noticed: the last of so many in a row is missed."""
    beats = floor(round(began_s / interval_s, DECIMALS))  # up to that instant and at it
    return round((beats + misses) * interval_s, DECIMALS)


def lost(device: int, at_s: float, why: str) -> Occurrence:
    """Return the occurrence of a device that was lost without a fault of the scenario."""
    return Occurrence(Fault(FaultKind.CRASH, (device,), name=why), at_s, device)
