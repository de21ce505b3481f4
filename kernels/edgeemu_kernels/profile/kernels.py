"""Times of a model's kernels on this host, each as a step of a model runs it: its weights and caches come from memory.

Knows a clock that it is given. Layers that are far more than the caches hold run one after the other, again and again.
Of smaller ones the caches are emptied before each round of samples, by a read of more than they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from edgeemu_kernels.profile.cases import PASSES, Case, Count, Effort, by_blocks, count, effort
from edgeemu_kernels.profile.executions import Execution, Held, hold
from edgeemu_kernels.profile.host import Clock, HostProbe
from edgeemu_kernels.profile.timing import Timing, timing
from edgeemu_kernels.shape import ModelShape


class Measured(NamedTuple):
    """Time of one execution of a kernel, and its work."""

    case: Case
    counted: Count
    time: Timing


def measure_kernels(
    shape: ModelShape,
    cases: Sequence[Case],
    probe: HostProbe,
    clock: Clock,
    on_progress: Callable[[int, int], None],
    *,
    keep: bool = True,
) -> list[Measured]:
    """Measure each execution; `clock` gives seconds, of this thread or of the wall.

    All are measured a few times over. The layers of all kernels are kept in memory until the end, or without `keep`
    those of one kernel are there at a time. The probe goes on to measure the host in between. `on_progress` is told how
    many measurements are done, of how many.
    """
    host, evict_s = probe.speed, probe.read.median_s
    efforts = {case: effort(shape, case, host, evict_s) for case in cases}
    times_s: dict[Case, list[float]] = {case: [] for case in cases}
    done, total = 0, PASSES * len(cases)
    kept: dict[Case, Held] = {}
    for _ in range(PASSES):
        for group in by_blocks(cases):
            if not keep:
                kept.clear()
            if group[0] not in kept:
                kept[group[0]] = hold(shape, group, max(efforts[case].layers for case in group))
            for case in group:
                executions = kept[group[0]].executions(case.rows)
                times_s[case] += _sampled_s(executions, efforts[case], probe, clock)
                done += 1
                on_progress(done, total)
    return [Measured(case, count(shape, case), timing(times_s[case])) for case in cases]


def _sampled_s(executions: Sequence[Execution], wanted: Effort, probe: HostProbe, clock: Clock) -> list[float]:
    """Durations of one execution, each the mean of a sample."""
    turns, times_s = cycle(executions), []
    probe.sample()
    for number in range(wanted.rounds + 1):
        if wanted.evicts:
            probe.evict()
        for execution in islice(turns, wanted.lead):
            execution.prepare()
            execution.run()
        for _ in range(wanted.samples):
            calls = list(islice(turns, wanted.calls))
            for execution in calls:
                execution.prepare()
            start_s = clock()
            for execution in calls:
                execution.run()
            if number:  # the first round warms up
                times_s.append((clock() - start_s) / wanted.calls)
    return times_s
