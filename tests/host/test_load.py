"""Shares of the processor time: of this run, of other programs, of other guests."""

import os
import time

import pytest

from edgeemu.host.load import CpuTimes, cpu_times, load_between


def test_shares_of_a_while() -> None:
    before = CpuTimes(2, 1000.0, 600.0, 10.0, 100.0, 50.0)
    after = CpuTimes(2, 1020.0, 605.0, 11.0, 108.0, 52.5)
    load = load_between(before, after)
    assert load is not None
    assert load.cores == 2
    assert (load.busy, load.others, load.steal) == pytest.approx((0.7, 0.3, 0.05))
    assert load.waited == pytest.approx(0.25)  # of ten seconds


def test_less_than_a_tick_and_a_kernel_that_does_not_say() -> None:
    now = CpuTimes(2, 1000.0, 600.0, 0.0, 0.0, None)
    assert load_between(now, now) is None
    later = load_between(now, now._replace(total_s=1001.0))
    assert later is not None
    assert later.waited is None


def test_this_process_is_counted() -> None:
    gone = 2**22 + 1  # above the largest process id
    before = cpu_times([os.getpid(), gone])
    end_s = time.process_time() + 0.05
    while time.process_time() < end_s:
        pass
    after = cpu_times([os.getpid(), gone])
    assert after.ours_s >= before.ours_s + 0.03
    assert after.total_s >= before.total_s
    assert after.cores == len(os.sched_getaffinity(0))
