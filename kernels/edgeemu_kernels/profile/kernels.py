"""Times of a model's kernels on this host, each as a step of a model runs it: its weights and caches come from memory.

Knows a clock that it is given. Before each sample the caches are emptied by a read of
more than they hold, and a sample runs the kernel of several layers, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from edgeemu_kernels.profile.cases import PASSES, Case, Count, Effort, by_blocks, count, effort
from edgeemu_kernels.profile.executions import Execution, hold
from edgeemu_kernels.profile.host import Clock, HostProbe
from edgeemu_kernels.profile.timing import Timing, timing
from edgeemu_kernels.shape import ModelShape


class Measured(NamedTuple):
    """Time of one execution of a kernel, and its work."""

    case: Case
    counted: Count
    time: Timing


def measure_kernels(
    shape: ModelShape, cases: Sequence[Case], probe: HostProbe, clock: Clock, on_progress: Callable[[int, int], None]
) -> list[Measured]:
    """Measure each execution; `clock` gives seconds, of this thread or of the wall.

    All are measured a few times over, and the layers of one kernel are in memory at a time. The probe goes on to
    measure the host in between. `on_progress` is told how many measurements are done, of how many.
    """
    host, evict_s = probe.speed, probe.read.median_s
    efforts = {case: effort(shape, case, host, evict_s) for case in cases}
    times_s: dict[Case, list[float]] = {case: [] for case in cases}
    done, total = 0, PASSES * len(cases)
    for _ in range(PASSES):
        for group in by_blocks(cases):
            held = hold(shape, group, max(efforts[case].layers for case in group))
            for case in group:
                times_s[case] += _sampled_s(held.executions(case.rows), efforts[case], probe, clock)
                done += 1
                on_progress(done, total)
            del held  # before the next are in memory
    return [Measured(case, count(shape, case), timing(times_s[case])) for case in cases]


def _sampled_s(executions: Sequence[Execution], wanted: Effort, probe: HostProbe, clock: Clock) -> list[float]:
    """Durations of one execution, each the mean of a sample."""
    turns, times_s = cycle(executions), []
    probe.sample()
    for _ in range(wanted.samples + 1):  # the first warms up
        probe.evict()
        for execution in islice(turns, wanted.lead):
            execution.prepare()
            execution.run()
        timed = list(islice(turns, wanted.timed))
        for execution in timed:
            execution.prepare()
        start_s = clock()
        for execution in timed:
            execution.run()
        times_s.append((clock() - start_s) / wanted.timed)
    return times_s[1:]
