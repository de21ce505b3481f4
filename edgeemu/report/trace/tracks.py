"""Tracks of a trace: which process and thread of it stands for which device, link or sequence.

A slice must not overlap another of its track without lying within it, so what overlaps gets tracks side by side.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from edgeemu.report.trace.events import Integers, TraceWriter

TOKENS, CRITICAL_PATH, CHANGES, LINKS, FIRST_DEVICE = 1001, 1002, 1003, 1004, 1005  # processes: no number of a thread


def lanes(begin_ns: Integers, end_ns: Integers) -> Integers:
    """Spread spans over lanes, from 0 on, as few as they need: [n] each, sorted by begin."""
    found = np.zeros(len(begin_ns), np.int64)
    if (begin_ns[1:] >= np.maximum.accumulate(end_ns)[:-1]).all():
        return found
    free: list[int] = []  # lanes
    taken: list[tuple[int, int]] = []  # (end, lane)
    number = 0
    for index, (begin, end) in enumerate(zip(begin_ns.tolist(), end_ns.tolist(), strict=True)):
        while taken and taken[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(taken)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, number = number, number + 1
        heapq.heappush(taken, (end, lane))
        found[index] = lane
    return found


class Tracks:
    """Numbers of the tracks; each is named in the trace when it is first asked for."""

    def __init__(self, writer: TraceWriter, devices: Sequence[str]) -> None:
        self._writer = writer
        self._threads: dict[int, dict[str, int]] = {}  # by process and name
        self._devices = {name: FIRST_DEVICE + index for index, name in enumerate(devices)}
        processes = {TOKENS: "tokens", CRITICAL_PATH: "critical path", CHANGES: "placement", LINKS: "links"}
        for process, name in (processes | {number: name for name, number in self._devices.items()}).items():
            self._name(process, 0, "process", name)

    def device(self, name: str) -> int:
        """Return the process of a device."""
        return self._devices[name]

    def thread(self, process: int, name: str) -> int:
        """Return the thread of that name in a process."""
        threads = self._threads.setdefault(process, {})
        if name not in threads:
            threads[name] = 1 + len(threads)
            self._name(process, threads[name], "thread", name)
        return threads[name]

    def _name(self, process: int, thread: int, what: str, name: str) -> None:
        place = {"ph": "M", "pid": process, "tid": thread}
        order = thread if what == "thread" else process
        self._writer.write(
            [
                {**place, "name": f"{what}_name", "args": {"name": name}},
                {**place, "name": f"{what}_sort_index", "args": {"sort_index": order}},
            ]
        )
