"""Devices wait in real time where they may, compute never so, and say which."""

import asyncio
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.capped import finish, meta, start

from edgeemu.run.make_plan import make_plan
from edgeemu.run.observer import Silent
from edgeemu.run.processes.backend import ProcessBackend
from edgeemu.scenario.load import parse_scenario

PACED = """
model: {shape: {n_layers: 1, d_model: 32, n_heads: 2, n_kv_heads: 2, head_dim: 16, d_ff: 64, vocab_size: 64,
  max_context: 64}}
devices: [{name: a, gflops: 1 GFLOPS, mem_bandwidth: 1 GB/s, memory: 512 MiB}]
network: {default: {bandwidth: 100 Mbit/s, delay: 1 ms}}
policy: single
workload: {prompts: [{tokens: 4}], max_tokens: 2}
time: {mode: realtime}
"""
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


def test_no_collection_of_what_planning_made_stops_the_clock() -> None:
    """One that looked at all of it took 50 ms of a run, always at the same token, and was charged to the host."""

    async def main() -> tuple[int, int]:
        backend = ProcessBackend(make_plan(parse_scenario(PACED, "paced")), Silent().phase)
        async with backend.launched():
            await backend.assign(backend.plan)
            await backend.begin()
            paced = gc.get_freeze_count()
            await backend.end()
        return paced, gc.get_freeze_count()

    paced, ended = asyncio.run(main())
    assert paced > 10_000  # objects that no collection looks at while the timeline is paced
    assert ended == 0


def test_the_dilation_that_comes_out_is_told_before_the_first_token() -> None:
    told: list[str] = []

    async def main() -> float:
        plan = make_plan(
            parse_scenario(PACED, "paced", ["devices[0].gflops=1 PFLOPS", "devices[0].mem_bandwidth=999 TB/s"])
        )
        backend = ProcessBackend(plan, lambda name, _done, _total: told.append(name))
        async with backend.launched():
            await backend.assign(backend.plan)
            await backend.begin()
            await backend.end()
        return backend.dilation

    dilation = asyncio.run(main())
    assert dilation > 10, "no host is as fast"
    assert told[-1].startswith(f"dilation {dilation:g}: ")
