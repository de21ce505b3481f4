"""Devices wait in real time where they may, compute never so, and say which."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.capped import finish, meta, start

TRY = """
import os
from edgeemu.host.realtime import RealtimePriority
urgency = RealtimePriority()
seen = [os.sched_getscheduler(0)]
for change in (urgency.urge, urgency.urge, urgency.relax, urgency.relax):
    change()
    seen.append(os.sched_getscheduler(0))
print(urgency.may, seen, urgency.described)
"""


def test_a_thread_is_urgent_when_it_says_so_and_where_it_may() -> None:
    done = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True)
    said = done.stdout.strip()
    other, fifo = int(os.SCHED_OTHER), int(os.SCHED_FIFO)
    allowed = f"True {[other, fifo, fifo, other, other]} SCHED_FIFO while pacing, timer slack 1 ns"
    refused = f"False {[other] * 5} timer slack 1 ns; no real-time priority (Operation not permitted)"
    assert said in (allowed, refused)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is refused already: the test above")
def test_who_may_not_is_not_stopped_by_it() -> None:
    less = "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0)); os.setuid(65534)"
    code = f"import os, resource, edgeemu.host.realtime; {less}\n{TRY}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")
    assert "no real-time priority (Operation not permitted)" in done.stdout


def test_nothing_is_computed_in_real_time(tmp_path: Path) -> None:
    status, document = finish(start(tmp_path, "scheduling_watched", "", "time.mode=realtime", "workload.max_tokens=4"))
    assert status in (0, 5), document  # 5: a busy host
    assert meta(tmp_path)["scheduling"].split(" (")[0] in (
        "SCHED_FIFO while pacing, timer slack 1 ns",
        "timer slack 1 ns; no real-time priority",
    )
